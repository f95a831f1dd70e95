"""An exported network as a program of torch.export, for PyTorch without the code of the network."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.engine import Engine
from src.inference.engines.graph_engine import GraphEngine
from src.inference.exports.program_check import check_program

SUFFIX = ".pt2"
PRECISIONS = ("float32",)


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def write(program: ExportedProgram, output: str, path: Path, texts: Mapping[str, str], _: str) -> None:
    content = io.BytesIO()  # with a path, torch prints where it writes
    torch.export.save(program, content, extra_files=dict(texts))
    path.write_bytes(content.getbuffer())


def read(path: Path) -> dict[str, str]:
    """The metadata. Raises ValueError for what is not such a program, or more than one."""
    return check_program(path.read_bytes())


def engine(path: Path, output: str, precision: str) -> Engine:
    content = path.read_bytes()
    check_program(content)
    return ProgramEngine(torch.export.load(io.BytesIO(content)), output, precision)


class ProgramEngine(GraphEngine):
    """See `GraphEngine`."""

    name = "torch"

    def __init__(self, program: ExportedProgram, output: str, precision: str):
        super().__init__(output, precision)
        self._module = program.module()

    @torch.inference_mode()
    def _run(self, image: Tensor) -> Tensor:
        return self._module(image)
