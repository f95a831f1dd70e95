"""OpenVINO, and its model of a network."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.models import Models, needs
from src.network.upsample import best_class

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
        return package.convert_model(program)


class OpenVinoEngine:
    """See `Engine`.

    Args:
        models: for an output, an openvino.Model.
        outputs: that there are: a graph with logits gives class maps, too.
        precision: what the arithmetic uses: "float32", "bf16", "fp16"; "int8" of a quantised model.
    """

    name = "openvino"
    device = "cpu"

    def __init__(
        self,
        models: Callable[[str], Any],
        outputs: tuple[str, ...] = ("class_map", "logits"),
        precision: str = "float32",
    ):
        self._core = openvino().Core()
        self.precision = precision
        self._outputs = outputs
        self._settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._models = Models(models)
        self._requests: dict[tuple[str, Any], Any] = {}

    def __call__(self, image: Tensor) -> Tensor:
        return self._run("logits", image)

    def class_map(self, image: Tensor) -> Tensor:
        if "class_map" not in self._outputs:
            return best_class(self(image))
        return self._run("class_map", image)

    def _run(self, output: str, image: Tensor) -> Tensor:
        request = self._request(output, tuple(image.shape))
        results = request.infer({0: image.contiguous().numpy()})
        return torch.from_numpy(np.array(results[0]))  # the request writes its next result to the same place

    def _request(self, output: str, shape: tuple[int, ...]) -> Any:
        if (output, shape) in self._requests:
            return self._requests[output, shape]
        shapes = sum(name == output and shape is not None for name, shape in self._requests)
        key = (output, shape if shapes < _SIZES else None)
        if key not in self._requests:
            model = self._models[output]
            if key[1] and model.is_dynamic():
                model = model.clone()
                model.reshape(list(shape))
            compiled = self._core.compile_model(model, "CPU", self._settings)
            self._requests[key] = compiled.create_infer_request()
        return self._requests[key]
