"""An exported network as an OpenVINO model: an .xml file with the graph, and a .bin file with the weights."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from src.errors import UserError
from src.inference.engines.engine import Engine
from src.inference.engines.openvino_engine import OpenVinoEngine, openvino, openvino_model
from src.inference.exports.metadata import KEYS

SUFFIX = ".xml"
PRECISIONS = ("float32", "fp16", "int8")
_ROOM = "cgnet_lightning"


def versions() -> dict[str, str]:
    """Raises UserError without the package."""
    return {"openvino": openvino().__version__}


def write(
    program: ExportedProgram,
    output: str,
    path: Path,
    texts: Mapping[str, str],
    precision: str,
    quantize: Callable[[Any], Any] | None = None,
) -> None:
    """As the other formats' `write`.

    Args:
        quantize: for int8, from an openvino.Model to a quantised one.
    """
    model = openvino_model(program)
    (image,), (result,) = model.inputs, model.outputs
    shape = image.get_partial_shape()
    shape[1] = 3  # the conversion makes all sides dynamic, if one is
    model.reshape({image: shape})
    image.get_tensor().set_names({"image"})
    result.get_tensor().set_names({output})
    if quantize:
        model = quantize(model)
    for key, text in texts.items():
        model.set_rt_info(text, [_ROOM, key])
    openvino().save_model(model, path, compress_to_fp16=precision == "fp16")


def read(path: Path) -> dict[str, str]:
    """The metadata. Raises an exception of any type for what is no OpenVINO model."""
    if not path.with_suffix(".bin").is_file():
        raise UserError(
            f"checkpoint={path}: {path.with_suffix('.bin').name} is missing, which has its weights. Put it "
            f"beside the .xml file."
        )
    model = openvino().Core().read_model(path)
    return {
        key: str(model.get_rt_info([_ROOM, key]).value) for key in KEYS if model.has_rt_info([_ROOM, key])
    }


def engine(path: Path, output: str, precision: str) -> Engine:
    return OpenVinoEngine(openvino().Core().read_model(path), output, precision)
