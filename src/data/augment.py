"""Augmentations that albumentations lacks, written as its transforms, and exactly reproducible seeding."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # before the import, which would ask a server for newer versions

import albumentations as A
import cv2
import numpy as np

from src.data.windows import Window, cut_image, cut_label, source_window
from src.errors import UserError
from src.labels import IGNORE

_LARGEST = 16  # above 30, `cut_image` would need one more source pixel at the borders


class RandomScaledCrop(A.DualTransform):
    """Scale the frame by a random factor and cut a random window out of it.

    Args:
        size: (height, width) of the window. Where the scaled frame is smaller, the result is the whole
            scaled frame; padding is a step of its own, after the colour changes.
        scale: range of the factor, relative to the frame's own size; uniformly distributed.
        scale_step: None, or the spacing of the factors, drawn from scale[0], scale[0] + step, ..., scale[1].
        max_category_ratio: redraw a window in which one class covers at least this share of the labelled
            pixels ("cat_max_ratio", "one_category_max_ratio"); 1 switches the limit off.

    The window is cut out before anything is resized. The result is the same, up to the shift that
    src/data/windows.py names, at a lower cost: pixels outside the window are never read, and the image is
    read only after a window of the label has passed the limit.
    """

    _DRAWS = 10  # windows tried, as in SSSegmentation; mmsegmentation tries one more

    def __init__(
        self,
        size: Sequence[int],
        scale: Sequence[float] = (0.5, 2.0),
        scale_step: float | None = None,
        max_category_ratio: float = 0.75,
    ):
        super().__init__(p=1.0)
        if not 0 < scale[0] <= scale[1] <= _LARGEST:
            raise UserError(
                f"RandomScaledCrop: scale={list(scale)}, give two factors above 0 and up to {_LARGEST}, the "
                f"smaller one first."
            )
        self.height, self.width = size
        self.scale = tuple(scale)
        self.scale_step = scale_step
        self.max_category_ratio = max_category_ratio

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        scaled = self._scaled_size(height, width)
        for _ in range(self._DRAWS):
            window = self._draw_window(*scaled)
            if self.max_category_ratio >= 1 or self._is_varied(data["mask"], window, scaled):
                break
        return {"window": window, "scaled": scaled}

    def _scaled_size(self, height: int, width: int) -> tuple[int, int]:
        low, high = self.scale
        if self.scale_step is None:
            factor = self.py_random.uniform(low, high)
        else:
            steps = int((high - low) / self.scale_step + 1e-6)  # never above `high`
            factor = low + self.scale_step * self.py_random.randint(0, steps)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def _draw_window(self, height: int, width: int) -> Window:
        """(top, left, bottom, right) in the scaled frame, cut at its borders."""
        top = self.py_random.randint(0, max(0, height - self.height))
        left = self.py_random.randint(0, max(0, width - self.width))
        return top, left, min(height, top + self.height), min(width, left + self.width)

    def _is_varied(self, mask: np.ndarray, window: Window, scaled: tuple[int, int]) -> bool:
        # Counted without resizing: the classes' shares are the same before and after, up to rounding at the
        # window's borders.
        top, left, bottom, right = source_window(window, scaled, mask.shape)
        # calcHist is twice as fast as numpy's bincount; its float32 is exact up to 16 megapixels.
        counts = cv2.calcHist([mask[top:bottom, left:right]], [0], None, [256], [0, 256])
        counts[IGNORE] = 0
        return bool(counts.max() < self.max_category_ratio * counts.sum())

    def apply(self, img: np.ndarray, window: Window, scaled: tuple[int, int], **_: Any) -> np.ndarray:
        return cut_image(img, window, scaled)

    def apply_to_mask(
        self, mask: np.ndarray, window: Window, scaled: tuple[int, int], **_: Any
    ) -> np.ndarray:
        return cut_label(mask, window, scaled)


class PhotometricDistortion(A.ImageOnlyTransform):
    """Random brightness, contrast, saturation and hue on uint8 RGB, each with probability 1/2.

    Same distribution as mmsegmentation's PhotoMetricDistortion: contrast changes before or after the colours,
    with equal probability. Brightness is added (0-255 scale), contrast and saturation are factors, hue is
    in OpenCV's units of 2 degrees.
    """

    def __init__(
        self,
        brightness: float = 32,
        contrast: Sequence[float] = (0.5, 1.5),
        saturation: Sequence[float] = (0.5, 1.5),
        hue: int = 18,
    ):
        super().__init__(p=1.0)
        self.brightness = brightness
        self.contrast = tuple(contrast)
        self.saturation = tuple(saturation)
        self.hue = hue

    def get_params(self) -> dict[str, Any]:
        def maybe(limits: Sequence[float], otherwise: float) -> float:
            return self.py_random.uniform(*limits) if self.py_random.random() < 0.5 else otherwise

        return {
            "added": maybe((-self.brightness, self.brightness), otherwise=0.0),
            "contrast": maybe(self.contrast, otherwise=1.0),
            "contrast_first": self.py_random.random() < 0.5,
            "saturation": maybe(self.saturation, otherwise=1.0),
            "hue": round(maybe((-self.hue, self.hue), otherwise=0.0)),
        }

    def apply(
        self,
        img: np.ndarray,
        added: float,
        contrast: float,
        contrast_first: bool,
        saturation: float,
        hue: int,
        **_: Any,
    ) -> np.ndarray:
        img = _look_up(img, _linear(_linear(_LEVELS, 1.0, added), contrast if contrast_first else 1.0, 0.0))
        if saturation != 1.0 or hue:
            hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
            if hue:
                cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 0), _shift(hue)), hsv, 0)
            if saturation != 1.0:
                levels = _linear(_LEVELS, saturation, 0.0)
                cv2.insertChannel(cv2.LUT(cv2.extractChannel(hsv, 1), levels), hsv, 1)
            img = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        return img if contrast_first else _look_up(img, _linear(_LEVELS, contrast, 0.0))


_LEVELS = np.arange(256, dtype=np.uint8)


def _linear(levels: np.ndarray, factor: float, added: float) -> np.ndarray:
    """levels * factor + added, cut to 0-255: a table for cv2.LUT."""
    return np.clip(levels * factor + added, 0, 255).astype(np.uint8)


def _shift(hue: int) -> np.ndarray:
    """A table for OpenCV's hues, 0-179."""
    return ((np.arange(256) + hue) % 180).astype(np.uint8)


def _look_up(img: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return img if np.array_equal(levels, _LEVELS) else cv2.LUT(img, levels)


Transform = Callable[..., Any]
"""A step of an augmentation: an instance of one of TRANSFORMS."""

TRANSFORMS = (A.BasicTransform, A.BaseCompose)
"""The second one combines several transforms, such as OneOf does."""


class SeededTransform:
    """A chain of transforms whose outcome depends on (seed, epoch, index) alone.

    albumentations 2.0.8 copies its random state into every worker and, with workers that do not persist, into
    every epoch, so that crops repeat (albumentations issue 2473; the fix was never released). Seeding each
    sample costs 0.1 ms and makes it independent of workers, devices and restarts.

    Args:
        size: (height, width) that every sample must have, so that they can share a batch; None = any.
    """

    def __init__(self, transforms: Sequence[Transform], seed: int, size: Sequence[int] | None = None):
        self._chain = A.Compose(list(transforms))
        self._seed = seed
        self._size = size

    def __call__(
        self, image: np.ndarray, target: np.ndarray, epoch: int, index: int
    ) -> Mapping[str, np.ndarray]:
        state = np.random.SeedSequence((self._seed, epoch, index)).generate_state(1)
        self._chain.set_random_seed(int(state[0]))
        out = self._chain(image=image, mask=target)
        found = out["image"].shape[:2]
        if self._size is not None and found != tuple(self._size):
            raise UserError(
                f"augment: a frame of {image.shape[1]}x{image.shape[0]} pixels has become a sample of "
                f"{found[1]}x{found[0]}, but the others have {self._size[1]}x{self._size[0]}. After "
                f"augment.crop, only augment.pad may change the size."
            )
        return {"image": out["image"], "target": out["mask"]}
