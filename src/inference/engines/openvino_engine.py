"""OpenVINO, and its model of a network."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.graph_engine import GraphEngine, needs

_SIZES = 4
"""Shapes of images for which a graph of its own is compiled, in about a second: it takes four fifths of the
time of the graph for any shape, which all further shapes get."""

_HINTS = {"float32": "f32", "bf16": "bf16", "fp16": "f16", "int8": "f32"}


def openvino() -> Any:
    """The package. Raises UserError if it is not installed."""
    try:
        import openvino as package
    except ImportError as error:
        raise needs("openvino", "OpenVINO") from error
    return package


def openvino_model(program: ExportedProgram) -> Any:
    """The openvino.Model of a traced graph, with the input "image"."""
    package = openvino()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own use of names that it deprecates
        model = package.convert_model(program)
    _restore_prelu(model)
    return model


def _restore_prelu(model: Any) -> None:
    """Put the operator PReLU where the conversion wrote "x if x > 0, else slope * x", in place. OpenVINO
    computes it together with the convolution before it, also in int8."""
    from openvino import opset13

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Select":
            continue
        condition, x, otherwise = (node.input_value(i) for i in range(3))
        if [n.get_node().get_type_name() for n in (condition, otherwise)] != ["Greater", "Multiply"]:
            continue
        compared, zero = condition.get_node().input_values()
        slopes = [factor for factor in otherwise.get_node().input_values() if factor != x]
        bound = _constant(zero)
        is_prelu = compared == x and len(slopes) == 1 and _constant(slopes[0]) is not None
        if is_prelu and bound is not None and not bound.any():
            node.output(0).replace(opset13.prelu(x, slopes[0]).output(0))


def _constant(output: Any) -> Any:
    """The value of a constant, whatever its shape; None for what is computed."""
    node = output.get_node()
    while node.get_type_name() in ("Reshape", "Convert"):
        node = node.input_value(0).get_node()
    return node.get_data() if node.get_type_name() == "Constant" else None


class OpenVinoEngine(GraphEngine):
    """
    Args:
        model: an openvino.Model with one input and one output.
        precision: what the arithmetic uses: "float32", "bf16", "fp16"; "int8" of a quantised model.
    """

    name = "openvino"

    def __init__(self, model: Any, output: str, precision: str = "float32"):
        super().__init__(output, precision)
        self._core = openvino().Core()
        self._model = model
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._requests: dict[tuple[int, ...] | None, Any] = {}  # by the shape of the image; None = any

    def _run(self, image: Tensor) -> Tensor:
        results = self._request(tuple(image.shape)).infer({0: image.contiguous().numpy()})
        return torch.from_numpy(np.array(results[0]))  # the request writes its next result to the same place

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape in self._requests:
            return self._requests[shape]
        own = self._model.is_dynamic() and len(self._requests) < _SIZES
        key = shape if own else None
        if key not in self._requests:
            model = self._model
            if own:
                model = model.clone()
                model.reshape(list(shape))
            compiled = self._core.compile_model(model, "CPU", self._settings)
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]
