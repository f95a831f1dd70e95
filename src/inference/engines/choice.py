"""Which engine computes a network's class maps on this machine."""

import torch

from src.errors import UserError
from src.inference.engines.engine import ENGINES, PRECISIONS, Engine
from src.inference.engines.onnx_engine import OnnxEngine, onnx_model
from src.inference.engines.openvino_engine import OpenVinoEngine, openvino_model
from src.inference.engines.program import trace
from src.inference.engines.torch_engine import TorchEngine
from src.weights.trained_network import TrainedNetwork


def engine_for(trained: TrainedNetwork, engine: str, precision: str, device: str) -> Engine:
    """Raises UserError for an engine, a precision or a device that is unknown or not available."""
    if engine not in ENGINES:
        raise UserError(f"engine={engine}: unknown, choose one of {', '.join(ENGINES)}.")
    if precision not in PRECISIONS:
        raise UserError(f"precision={precision}: unknown, choose one of {', '.join(PRECISIONS)}.")
    segmenter = trained.segmenter()
    if engine == "onnxruntime":
        return OnnxEngine(lambda output: onnx_model(trace(segmenter, output)).SerializeToString())
    if engine == "openvino":
        return OpenVinoEngine(lambda output: openvino_model(trace(segmenter, output)), precision=precision)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return TorchEngine(segmenter, trained.path, device, precision, compiled=engine == "compile")
