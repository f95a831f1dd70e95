"""Which engine computes a network's class maps on this machine."""

import logging
from importlib.util import find_spec

import torch
from torch import Tensor

from src.errors import UserError
from src.inference.engines.engine import ENGINES, PRECISIONS, Engine
from src.inference.engines.onnx_engine import OnnxEngine, onnx_model, onnxruntime
from src.inference.engines.openvino_engine import OpenVinoEngine, openvino, openvino_model
from src.inference.engines.program import COARSE, trace
from src.inference.engines.torch_engine import TorchEngine
from src.weights.trained_network import TrainedNetwork

log = logging.getLogger(__name__)

MANY = 300
"""Images from which on OpenVINO is worth its start: it took 11 s to convert CGNet, and then saved 20 to 50 ms
for each image of 1024x512 (two cores, float32)."""
_SOUND = 0.99  # share of equal pixels with PyTorch; float32 has more than 0.9999, bf16 about 0.998


def engine_for(
    trained: TrainedNetwork,
    engine: str = "auto",
    precision: str = "float32",
    device: str = "auto",
    images: int | None = None,
) -> Engine:
    """An engine that is ready for its first image.

    "auto" is PyTorch on a GPU, and on a CPU OpenVINO if it is installed and there are MANY images, else
    PyTorch. OpenVINO is then compared with PyTorch on the first image, and left if they disagree.

    Args:
        images: how many there will be, as far as it is known.

    Raises UserError for an engine, a precision or a device that is unknown or not available.
    """
    if engine not in ENGINES:
        raise UserError(f"engine={engine}: unknown, choose one of {', '.join(ENGINES)}.")
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: unknown, choose one of {', '.join(PRECISIONS)}.")
    on = _device(device, engine)
    if engine == "auto" and on == "cpu" and (images or 0) >= MANY and find_spec("openvino"):
        log.info("Engine: OpenVINO, the fastest here for this many images.")
        plain = TorchEngine(trained.segmenter(), trained.path, on, precision)
        return Compared(_openvino(trained, precision), plain)
    if engine == "onnxruntime":
        if precision != "float32":
            raise UserError(f"precision={precision}: ONNX Runtime computes in float32 on CPUs.")
        onnxruntime()  # before the network is traced, which takes seconds
        segmenter = trained.segmenter()
        made = OnnxEngine(onnx_model(trace(segmenter, COARSE)).SerializeToString(), COARSE)
        made.min_size = segmenter.min_size
        return made
    if engine == "openvino":
        return _openvino(trained, precision)
    return TorchEngine(trained.segmenter(), trained.path, on, precision, compiled=engine == "compile")


def _openvino(trained: TrainedNetwork, precision: str) -> Engine:
    openvino()  # before the network is traced, which takes seconds
    segmenter = trained.segmenter()
    made = OpenVinoEngine(openvino_model(trace(segmenter, COARSE)), COARSE, precision)
    made.min_size = segmenter.min_size
    return made


def _device(device: str, engine: str) -> str:
    """Raises UserError for a device that PyTorch does not have, or the engine cannot use."""
    only_cpu = engine in ("onnxruntime", "openvino")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() and not only_cpu else "cpu"
    kind, _, number = device.partition(":")
    there = {
        "cpu": 1,
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
    }
    if kind not in there or (number and not number.isdigit()):
        raise UserError(f"device={device}: unknown, choose auto, cpu, cuda, cuda:1 or mps.")
    if int(number or 0) >= there[kind]:
        raise UserError(f"device={device}: there is no such device; PyTorch sees {there[kind]} of this kind.")
    if only_cpu and kind != "cpu":
        raise UserError(f"device={device}: engine={engine} works on the CPU here. Choose engine=torch.")
    return device


class Compared:
    """An engine whose first class map is compared with another's, which takes over if they disagree."""

    def __init__(self, engine: Engine, plain: Engine):
        self._engine = engine
        self._plain: Engine | None = plain

    @property
    def name(self) -> str:
        return self._engine.name

    @property
    def precision(self) -> str:
        return self._engine.precision

    @property
    def device(self) -> str:
        return self._engine.device

    @property
    def min_size(self) -> int:
        return self._engine.min_size

    def __call__(self, image: Tensor) -> Tensor:
        self._compare(image)
        return self._engine(image)

    def class_map(self, image: Tensor) -> Tensor:
        self._compare(image)
        return self._engine.class_map(image)

    def _compare(self, image: Tensor) -> None:
        if self._plain is None:
            return
        plain, self._plain = self._plain, None
        equal = (self._engine.class_map(image) == plain.class_map(image)).double().mean().item()
        if equal < _SOUND:
            log.warning(
                "WARNING: %s gives other classes than PyTorch for %.2f %% of the first image's pixels, so "
                "PyTorch is used. engine=%s would use it nevertheless.",
                self._engine.name,
                100 * (1 - equal),
                self._engine.name,
            )
            self._engine = plain
