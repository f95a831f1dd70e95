"""ONNX Runtime, and the ONNX model for it."""

import warnings
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.graph_engine import GraphEngine, needs
from src.inference.engines.program import quiet

OPSET = 18
"""ONNX Runtime has no CUDA kernels of newer Resize and ReduceMax."""


def onnxruntime() -> Any:
    """The package. Raises UserError if it is not installed."""
    try:
        import onnxruntime as package
    except ImportError as error:
        raise needs("onnxruntime", "ONNX Runtime") from error
    return package


def onnx_model(program: ExportedProgram) -> Any:
    """The onnx.ModelProto of a traced graph. Raises UserError without the packages onnx and onnxscript."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise needs("onnx and onnxscript", "ONNX") from error
    quiet("torch.onnx._internal.exporter._registration")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own use of names that it deprecates
        made = torch.onnx.export(
            program, dynamo=True, opset_version=OPSET, external_data=False, verbose=False
        )
    assert made is not None
    return made.model_proto


class OnnxEngine(GraphEngine):
    """
    Args:
        model: the bytes of an ONNX model, or the path of its file; it has one input and one output.
    """

    name = "onnxruntime"

    def __init__(self, model: bytes | str, output: str, precision: str = "float32"):
        super().__init__(output, precision)
        package = onnxruntime()
        options = package.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        self._session = package.InferenceSession(model, options, ["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def _run(self, image: Tensor) -> Tensor:
        (result,) = self._session.run(None, {self._input: image.contiguous().numpy()})
        return torch.from_numpy(result)
