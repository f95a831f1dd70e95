"""OpenVINO, and its model of a network."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from src.inference.engines.models import Models, needs
from src.network.upsample import best_class

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
    return openvino().convert_model(program)


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
        core = openvino().Core()
        self.precision = precision
        self._outputs = outputs
        settings = {
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        self._requests = Models(
            lambda output: core.compile_model(models(output), "CPU", settings).create_infer_request()
        )

    def __call__(self, image: Tensor) -> Tensor:
        return self._run("logits", image)

    def class_map(self, image: Tensor) -> Tensor:
        if "class_map" not in self._outputs:
            return best_class(self(image))
        return self._run("class_map", image)

    def _run(self, output: str, image: Tensor) -> Tensor:
        results = self._requests[output].infer({0: image.contiguous().numpy()})
        return torch.from_numpy(np.array(results[0]))  # the request writes its next result to the same place
