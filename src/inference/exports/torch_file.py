"""An exported network as a program of torch.export, for PyTorch without the code of the network."""

import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.engine import Engine
from src.inference.exports.program_check import check_program
from src.network.upsample import best_class

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


class ProgramEngine:
    """See `Engine`.

    Args:
        output: of the program.
    """

    name = "torch"
    device = "cpu"

    def __init__(self, program: ExportedProgram, output: str, precision: str):
        self.precision = precision
        self._output = output
        self._module = program.module()

    @torch.inference_mode()
    def __call__(self, image: Tensor) -> Tensor:
        return self._module(image)

    @torch.inference_mode()
    def class_map(self, image: Tensor) -> Tensor:
        result = self._module(image)
        return result if self._output == "class_map" else best_class(result)
