"""Class scores of an image where accuracy matters more than time: scales, mirroring, sliding windows."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.checks.pairs import SMALLEST
from src.errors import UserError, shorten
from src.network.upsample import best_class


class Network(Protocol):
    """A Segmenter, or what computes the same."""

    def __call__(self, image: Tensor, /) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> logits (B, C, H, W)."""

    def class_map(self, image: Tensor, /) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> uint8 (B, H, W), the class with the highest logit."""


Size = tuple[int, int]
"""(height, width)"""

KEYS = ("tta", "window", "stride", "input_scale")
"""Keys of conf/eval.yaml that `from_config` reads; metrics with different values are not comparable."""

NO_TTA: dict[str, Any] = {"scales": [1.0], "flip": False}
"""One view of each image, unchanged: conf/tta/none.yaml."""


@dataclass(frozen=True)
class Inference:
    """uint8 RGB (B, 3, H, W) -> scores (B, C, H, W), in the logits' dtype; `class_map` is their argmax.

    For each view, the image is resized by the view's scale, mirrored, and given to the network whole or
    window by window. The logits are averaged where windows overlap, mirrored back and resized to the image's
    own size. With one view the scores are its logits; with several they are the mean of the views' softmax
    probabilities, as in mmsegmentation's SegTTAModel. A step that has nothing to do is left out, so that one
    view at scale 1 in one window is bit for bit what `network` returns.

    Only one view at a time is in memory, beside the sum of the earlier views.

    Args:
        network: needs images of at least 32x32 pixels, or of its own `min_size`.
        scales: scales of the views, relative to the image's sides.
        flip: adds a second view at each scale, mirrored left to right.
        window: what the network sees at once, in pixels of the resized image; None = all of it. A side of a
            view that is shorter than the window is seen whole.
        stride: step from one window to the next, at most the window's size.
    """

    network: Network
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: Size | None = None
    stride: Size | None = None

    @classmethod
    def from_config(cls, network: Network, config: Mapping[str, Any]) -> "Inference":
        """Build it from the values of KEYS, in the form that conf/eval.yaml and src/schema allow."""
        tta = config.get("tta") or NO_TTA  # ~tta removes the key
        scale, window, stride = (config[key] for key in ("input_scale", "window", "stride"))
        if window and not stride:
            stride = [round(side * 2 / 3) for side in window]
        return cls(
            network,
            tuple(scale * factor for factor in tta["scales"]),
            tta["flip"],
            (window[0], window[1]) if window else None,
            (stride[0], stride[1]) if window else None,
        )

    def check_sizes(self, sizes: Iterable[Size]) -> None:
        """Raises UserError where images of these sizes become too small for the network, or where the window
        is larger than all their views."""
        least = max(SMALLEST, getattr(self.network, "min_size", SMALLEST))
        if self.window and min(self.window) < least:
            raise UserError(f"window={list(self.window)}: the network needs at least {least}x{least}.")
        views = [(size, scale, scaled(size, scale)) for size in dict.fromkeys(sizes) for scale in self.scales]
        small = [
            f"{width}x{height} pixels times {scale:g} (input_scale, tta.scales) are {view[1]}x{view[0]}, but "
            f"the network needs at least {least}x{least}. Choose a larger scale."
            for (height, width), scale, view in views
            if min(view) < least
        ]
        if small:
            raise UserError(shorten(small))
        largest = [max(sides) for sides in zip(*(view for _, _, view in views), strict=True)]
        if views and self.window and (self.window[0] > largest[0] or self.window[1] > largest[1]):
            raise UserError(
                f"window={list(self.window)} (height, width) is larger than any view of the images, which "
                f"have at most {largest} pixels at these scales. Choose a smaller one, or window=null."
            )

    def memory(self, size: Size, classes: int, per_pixel: int) -> int:
        """Approximate peak memory, in bytes, of the inference on one image of (height, width).

        Args:
            per_pixel: bytes that the network itself takes for each pixel of its input.
        """
        view = seen = scaled(size, max(self.scales))
        logits = 0  # pixels whose logits are in memory, beside those that the network computes
        if self.window:
            seen = (min(view[0], self.window[0]), min(view[1], self.window[1]))
            logits += seen[0] * view[1]  # a row of windows
        if self.flip or len(self.scales) > 1:
            logits += 3 * size[0] * size[1]  # the sum, a view's logits, its probabilities
        elif self.window and view != size:
            logits += size[0] * size[1]
        return seen[0] * seen[1] * per_pixel + logits * 4 * classes

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        if not self.flip and len(self.scales) == 1:
            return self._logits(image, self.scales[0], mirrored=False)
        views = list(product(self.scales, (False, True) if self.flip else (False,)))
        total: Tensor | None = None
        for scale, mirrored in views:
            probabilities = self._logits(image, scale, mirrored).softmax(1)
            total = probabilities if total is None else total.add_(probabilities)
            del probabilities  # frees it before the next view is computed
        assert total is not None
        return total.div_(len(views))

    @torch.inference_mode()
    def class_map(self, image: Tensor) -> Tensor:
        """uint8 RGB (B, 3, H, W) -> uint8 (B, H, W): the class with the highest score, bit for bit.

        With one view at the image's own size, the scores of all its pixels are never in memory at once.
        """
        size = (image.shape[-2], image.shape[-1])
        if self.flip or len(self.scales) > 1 or scaled(size, self.scales[0]) != size:
            return best_class(self(image))
        spans = self._window_spans(image)
        if spans is None:
            return self.network.class_map(image)
        result = image.new_empty((len(image), *size))
        start = 0
        for logits in self._bands(image, *spans):
            result[:, start : start + logits.shape[2]] = best_class(logits)
            start += logits.shape[2]
        return result

    def _logits(self, image: Tensor, scale: float, mirrored: bool) -> Tensor:
        """The logits of one view, at the image's own size."""
        size = (image.shape[-2], image.shape[-1])
        view = resize_image(image, scaled(size, scale))
        logits = self._slide(view.flip(-1)).flip(-1) if mirrored else self._slide(view)
        if logits.shape[-2:] == size:
            return logits
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)

    def _slide(self, view: Tensor) -> Tensor:
        spans = self._window_spans(view)
        if spans is None:
            return self.network(view)
        logits: Tensor | None = None
        start = 0
        for band in self._bands(view, *spans):
            if logits is None:
                logits = band.new_empty(*band.shape[:2], *view.shape[-2:])
            logits[:, :, start : start + band.shape[2]] = band
            start += band.shape[2]
        assert logits is not None
        return logits

    def _window_spans(self, view: Tensor) -> tuple[list[slice], list[slice]] | None:
        """The windows' rows and columns; None if one window sees the whole view."""
        if self.window is None or self.stride is None:
            return None
        rows, columns = (
            list(window_spans(length, window, stride))
            for length, window, stride in zip(view.shape[-2:], self.window, self.stride, strict=True)
        )
        return None if len(rows) == len(columns) == 1 else (rows, columns)

    def _bands(self, view: Tensor, rows: list[slice], columns: list[slice]) -> Iterator[Tensor]:
        """The logits (B, C, some rows, W), from the top to the bottom, of the rows that no later window sees.

        Only the rows of one row of windows are in memory. A band is valid until the next one is computed.
        """
        height = rows[0].stop
        total: Tensor | None = None
        seen = torch.zeros(height, view.shape[-1], device=view.device)
        for row, next_row in pairwise([*rows, slice(view.shape[-2], None)]):
            for column in columns:
                logits = self.network(view[..., row, column])
                if total is None:
                    total = logits.new_zeros(*logits.shape[:2], height, view.shape[-1])
                total[..., column] += logits
                seen[:, column] += 1
            assert total is not None
            done = next_row.start - row.start
            yield total[:, :, :done].div_(seen[:done])
            for sums in (total, seen[None, None]):
                for begin in range(0, height, done):  # moves rows upwards, in parts that do not overlap
                    part = sums[:, :, begin + done : begin + 2 * done]
                    sums[:, :, begin : begin + part.shape[2]] = part
                sums[:, :, height - done :] = 0


def scaled(size: Size, scale: float) -> Size:
    """Sides rounded to the nearest pixel, as mmcv.imrescale does."""
    height, width = (int(side * scale + 0.5) for side in size)
    return height, width


def resize_image(image: Tensor, size: Size) -> Tensor:
    """uint8 (B, 3, H, W) -> uint8 (B, 3, *size), bilinear between pixel centres and rounded. An image
    that already has this size is returned unchanged.

    It works as cv2.resize with INTER_LINEAR, which resizes the training's crops and mmsegmentation's test
    images, so networks are trained on such images. At half size a pixel is the mean of 2x2 pixels; at smaller
    sizes some pixels are skipped, as they are in training.
    """
    if image.shape[-2:] == size:
        return image
    resized = F.interpolate(image.float(), size, mode="bilinear", align_corners=False)
    return resized.add_(0.5).to(torch.uint8)  # rounds a half upwards, as OpenCV does


def window_spans(length: int, window: int, stride: int) -> Iterator[slice]:
    """Windows along one side: they start at 0, one stride apart, and the last one is shifted back inside, as
    in mmsegmentation's EncoderDecoder.slide_inference. A side no longer than the window has a single one."""
    last = max(length - window, 0)
    for i in range(ceil(last / stride) + 1):
        start = min(i * stride, last)
        yield slice(start, min(start + window, length))
