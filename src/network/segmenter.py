"""From pixels to logits at the image's own size: the one module that is trained, evaluated and exported."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from src.network import checks
from src.network.build import build_network, construct
from src.network.upsample import class_map, upsample


class Segmenter(nn.Module):
    """Preprocessing, network and upsampling as ONE module, for images of any height and width.

    network         normalised float image (B, 3, H, W) -> logits (B, C, any size), C at most 255; or a dict
                    {"logits": ..., "auxiliary": {name: logits}}, whose auxiliary heads only training uses
    mean, std       three numbers each on the scale 0 to 255, ALWAYS in the order red, green, blue: they
                    describe the image that comes in, whatever order the network wants
    channel_order   "rgb" or "bgr": the order in which the network sees the normalised channels
    min_size        smallest height and width of an image: the network's own attribute, if it has one

    mean and std are not in the state_dict, which holds only the network's weights; they are in the config
    (see `from_config`).
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        channel_order: str = "rgb",
    ):
        super().__init__()
        self.network = network
        self.channel_order = checks.one_of("channel_order", channel_order, ("rgb", "bgr"))
        self.register_buffer("mean", _per_channel("mean", mean, lowest=0.0), persistent=False)
        self.register_buffer("std", _per_channel("std", std, lowest=1e-3), persistent=False)
        self.memory_format = torch.preserve_format
        self.min_size = int(getattr(network, "min_size", 1))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Segmenter":
        """Build from plain data, as it is in a config file or a checkpoint.

        `_target_`: the dotted path of a network class, of the package src.network or one that was trusted
        (src/network/trust.py); `preprocessing`: mean, std and, if not "rgb", channel_order; every other key:
        an argument of that class.

        Raises UserError for a foreign `_target_`, and for arguments that are unknown, missing or not allowed.
        """
        arguments = dict(config)
        target = arguments.pop("_target_", None)
        preprocessing = arguments.pop("preprocessing", None)
        network = build_network(target, arguments)
        return construct("preprocessing", cls, preprocessing, supplied={"network": network})

    def channels_last(self) -> "Segmenter":
        """Use NHWC memory format from the image to the logits; the numbers are the same up to rounding."""
        self.memory_format = torch.channels_last
        return self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def normalize(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) RGB -> float32, (x - mean) / std in the network's channel order."""
        image = image.to(torch.float32, memory_format=self.memory_format)
        normalized = (image - self.mean) / self.std
        return normalized.flip(1) if self.channel_order == "bgr" else normalized

    def forward(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) RGB -> float32 logits (B, C, H, W), also under autocast; after double() float64.

        Raises TypeError for another dtype and ValueError for another shape.
        """
        return upsample(self.coarse_logits(image), image.shape[-2:])

    def coarse_logits(self, image: Tensor) -> Tensor:
        """The logits before upsampling, in the network's output size: (B, C, H/8, W/8) with CGNet."""
        return self.coarse_outputs(image)["logits"]

    def coarse_outputs(self, image: Tensor) -> dict[str, Tensor]:
        """float32 logits before upsampling: "logits", and those of each auxiliary head by its name."""
        if image.dtype != torch.uint8:
            raise TypeError(
                f"image is {image.dtype}: expected torch.uint8 with values from 0 to 255; "
                "normalisation is part of this module"
            )
        if image.ndim != 4 or image.shape[1] != 3:
            raise ValueError(f"image has shape {tuple(image.shape)}: expected (batch, 3, height, width)")
        # Only in eager mode: a compiler would turn this check into a guard on every size.
        if not torch.compiler.is_compiling() and min(image.shape[-2:]) < self.min_size:
            height, width = image.shape[-2:]
            name, least = type(self.network).__name__, self.min_size
            raise ValueError(f"image of {height}x{width} pixels: {name} needs at least {least}x{least}")
        heads = heads_of(self.network(self.normalize(image)), self.network)
        # In bfloat16, with its eight significant bits, neighbouring pixels and classes would tie.
        return {k: logits.to(torch.promote_types(logits.dtype, torch.float32)) for k, logits in heads.items()}

    @torch.inference_mode()
    def class_map(self, image: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) RGB -> uint8 (B, H, W), the class of each pixel.

        Raises RuntimeError in training mode, where BatchNorm would learn from the images.
        """
        if self.training:
            raise RuntimeError("class_map() in training mode: call eval() first")
        return class_map(self.coarse_logits(image), image.shape[-2:])


def heads_of(output: Any, network: nn.Module) -> dict[str, Tensor]:
    """What a network returned, as {"logits": ..., name of an auxiliary head: ...}."""
    if isinstance(output, Tensor):
        return {"logits": output}
    heads = output if isinstance(output, Mapping) else {}
    auxiliary = heads.get("auxiliary", {})
    if "logits" not in heads or not isinstance(auxiliary, Mapping) or "logits" in auxiliary:
        keys = f" with {', '.join(map(str, heads))}" if heads else ""
        raise TypeError(
            f"{type(network).__name__} returns a {type(output).__name__}{keys}: expected logits, or a dict "
            f'{{"logits": logits, "auxiliary": {{name: logits}}}}'
        )
    return {"logits": heads["logits"], **auxiliary}


def _per_channel(argument: str, value: Any, lowest: float) -> Tensor:
    """Three numbers as a tensor (1, 3, 1, 1)."""
    allowed = f"three numbers, red, green, blue, from {lowest} to 255"
    items = tuple(value) if isinstance(value, Sequence) else ()
    if len(items) != 3:
        raise checks.refuse(argument, value, allowed)
    numbers = [checks.number(argument, e, allowed, lowest, below=255.5) for e in items]
    return torch.tensor(numbers, dtype=torch.float32).view(1, 3, 1, 1)
