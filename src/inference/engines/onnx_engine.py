"""ONNX Runtime, and the ONNX model for it."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.models import Models, needs
from src.inference.engines.program import quiet
from src.network.upsample import best_class

OPSET = 18
"""ONNX Runtime has no CUDA kernels of newer Resize and ReduceMax."""


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


class OnnxEngine:
    """See `Engine`.

    Args:
        models: for an output, the bytes of an ONNX model or the path of its file; the input is the first one.
        outputs: that there are: a graph with logits gives class maps, too.
    """

    name = "onnxruntime"
    device = "cpu"

    def __init__(
        self,
        models: Callable[[str], bytes | str],
        outputs: tuple[str, ...] = ("class_map", "logits"),
        precision: str = "float32",
    ):
        try:
            import onnxruntime
        except ImportError as error:
            raise needs("onnxruntime", "engine=onnxruntime") from error
        self.precision = precision
        self._outputs = outputs

        def session(output: str) -> Any:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = torch.get_num_threads()
            options.log_severity_level = 3
            return onnxruntime.InferenceSession(models(output), options, ["CPUExecutionProvider"])

        self._sessions = Models(session)

    def __call__(self, image: Tensor) -> Tensor:
        return self._run("logits", image)

    def class_map(self, image: Tensor) -> Tensor:
        if "class_map" not in self._outputs:
            return best_class(self(image))
        return self._run("class_map", image)

    def _run(self, output: str, image: Tensor) -> Tensor:
        session = self._sessions[output]
        (result,) = session.run(None, {session.get_inputs()[0].name: image.contiguous().numpy()})
        return torch.from_numpy(result)
