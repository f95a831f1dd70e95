"""What the terminal shows after an export: how the files compare, and how they are used."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from rich import box
from rich.table import Table

from src.config import quoted
from src.errors import UserError
from src.inference.exports.exporter import Exported

_ONNX = """
    import onnxruntime
    session = onnxruntime.InferenceSession({path!r})
    (output,) = session.run(None, {{"image": image}})  # image: uint8 RGB, (batch, 3, height, width)"""


def hand_over(exported: Sequence[Exported], data: Mapping[str, Any] | None) -> None:
    """Print the comparisons and the commands. Raises UserError if a file did not pass.

    Args:
        data: of the checkpoint; None for published weights.
    """
    # The file does not record where the images lie. A street is drawn where it is missing.
    place = " data=... data.root=..." if data is None else "" if data.get("street") else " data.root=..."
    rich.print(_table(exported))
    for file in exported:
        if not file.problem:
            path = _override("checkpoint", file.path)
            print(f"\n{file.path} ({file.megabytes:.1f} MB) has passed. To use it:")
            print(f"    python -m src.eval {path}{place}")
            print(f"    python -m src.predict {path} source=...")
            if file.format == "onnx":
                print(_ONNX.format(path=str(file.path)).strip("\n"))
    failed = [
        f"format={file.format}: {file.path.name} was not left behind. {file.problem}"
        for file in exported
        if file.problem
    ]
    if failed:
        advice = (
            "parity.json has all comparisons. Another format=, a fixed size=[height,width] or other versions "
            "of the exporter's packages may do."
        )
        raise UserError("\n".join([*failed, advice]))


def _override(key: str, path: Path) -> str:
    """A key with a path as one types it in a shell."""
    text = str(path)
    return f"{key}={text}" if re.fullmatch(r"[\w./-]+", text) else shlex.quote(f"{key}={quoted(text)}")


def _table(exported: Sequence[Exported]) -> Table:
    table = Table(
        title="Exported files compared with PyTorch in float32", box=box.SIMPLE_HEAD, title_justify="left"
    )
    for heading in ("file", "batch", "size", "equal pixels, %", "difference, %"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for file in exported:
        for c in file.comparisons:
            results = (f"{100 * c.equal:.4f}", f"{100 * c.difference:.2g}") if not c.problem else ("-", "-")
            table.add_row(file.path.name, str(c.batch), f"{c.width}x{c.height}", *results)
    return table
