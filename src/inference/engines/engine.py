"""What every engine offers, and the words for engines and precisions."""

from typing import Protocol

from torch import Tensor

ENGINES = ("auto", "torch", "compile", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bf16", "fp16")


class Engine(Protocol):
    """A trained network in one runtime, on one device. Images and results lie on the CPU.

    name: one of ENGINES without "auto". precision: one of PRECISIONS, or "int8" of a file. min_size: of an
    image, in pixels.
    """

    @property
    def name(self) -> str: ...

    @property
    def precision(self) -> str: ...

    @property
    def device(self) -> str: ...

    @property
    def min_size(self) -> int: ...

    def __call__(self, image: Tensor, /) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> float32 logits (B, C, H, W)."""

    def class_map(self, image: Tensor, /) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> uint8 (B, H, W), the class with the highest logit."""
