"""The network in PyTorch itself, eager or compiled."""

import torch
from torch import Tensor

from src.errors import UserError
from src.inference.engines.folding import fold_batchnorm
from src.inference.finite import raise_if_not_finite
from src.network.segmenter import Segmenter
from src.network.upsample import class_map, upsample
from src.runs.allocator import keep_freed_memory

_DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchEngine:
    """See `Engine`.

    Args:
        segmenter: in eval mode; it belongs to the engine from now on.
        path: of its weights, for messages.
        device: "cpu", "cuda", "cuda:1", "mps". On a CPU the process keeps the memory that it frees.
        compiled: by torch.compile, which takes 15 seconds or more for the first image, and some time for
            each new number of images or size until it compiles for any size.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        path: str,
        device: str = "cpu",
        precision: str = "float32",
        compiled: bool = False,
    ):
        if precision == "fp16" and device == "cpu":
            raise UserError("precision=fp16: CPUs compute it slowly. Choose bf16 or float32, or a GPU.")
        self.name = "compile" if compiled else "torch"
        self.precision = precision
        self.device = device
        self.min_size = segmenter.min_size
        if device == "cpu":
            keep_freed_memory()
        fold_batchnorm(segmenter)
        self._segmenter = segmenter.channels_last().to(device)
        raise_if_not_finite(self._segmenter, path)
        network = self._segmenter.network
        if compiled:
            self._segmenter.network = torch.compile(network)  # type: ignore[assignment]

    def __call__(self, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return upsample(self._coarse(image), image.shape[-2:]).cpu()

    def class_map(self, image: Tensor) -> Tensor:
        with torch.inference_mode():
            return class_map(self._coarse(image), image.shape[-2:], exact=False).cpu()

    def _coarse(self, image: Tensor) -> Tensor:
        kind, half = self.device.partition(":")[0], self.precision != "float32"
        with torch.autocast(kind, _DTYPES[self.precision] if half else None, enabled=half):
            return self._segmenter.coarse_logits(image.to(self.device, non_blocking=True))
