"""The named baseline: decode, resize the whole frame, then crop. Plain OpenCV, nothing of src.data's work.

What most training code does, written as well as OpenCV allows: 8-bit throughout, saturating arithmetic in
OpenCV, look-up tables for labels, a histogram of the cut alone. Only the drawn distribution is ours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import albumentations as A
import cv2
import numpy as np
import torch

from src.data.augment import PhotometricDistortion, RandomScaledCrop
from src.data.files import Source
from src.data.layouts import Pair
from src.errors import UserError
from src.labels import IGNORE

_DRAWS = 10  # windows tried, as in the product


@dataclass(frozen=True)
class Recipe:
    """What is drawn: the parameters of the run's own augmentation."""

    crop: RandomScaledCrop
    flip: float  # probability
    colour: PhotometricDistortion | None
    fill: Sequence[float] | float  # RGB

    @classmethod
    def of(cls, steps: Mapping[str, A.BasicTransform]) -> "Recipe":
        """Raises UserError for steps that the baseline has no counterpart for."""
        crop, flip, colour, fill = None, 0.0, None, 0.0
        for name, step in steps.items():
            if isinstance(step, RandomScaledCrop):
                crop = step
            elif isinstance(step, A.HorizontalFlip):
                flip = step.p
            elif isinstance(step, PhotometricDistortion):
                colour = step
            elif isinstance(step, A.PadIfNeeded):
                fill = step.fill
            else:
                raise UserError(f"augment.{name}={type(step).__name__}: the baseline has no such step.")
        if crop is None:
            raise UserError(
                "The augmentation has no RandomScaledCrop, of which the baseline takes its sizes."
            )
        return cls(crop, flip, colour, fill)


class ResizeThenCrop:
    """Samples as SegmentationDataset has them, from the same files.

    Args:
        recipe: the distribution of the draws.
        to_train_id: (256,) uint8, label id -> train id.
    """

    def __init__(self, recipe: Recipe, to_train_id: np.ndarray):
        self.recipe = recipe
        self.to_train_id = to_train_id

    def __call__(self, pair: Pair, random: Random) -> dict[str, Any]:
        assert pair.label is not None
        image, target = self.decode(self.read(pair.image), self.read(pair.label))
        image, target = self.resize(image, target, self.draw_factor(random))
        image, target = self.cut(image, target, random)
        if random.random() < self.recipe.flip:
            image, target = self.flip(image, target)
        if self.recipe.colour is not None:
            image = self.distort(image, self.recipe.colour, random)
        image, target = self.pad(image, target)
        return self.to_tensors(image, target) | {"name": pair.name}

    def read(self, source: Source) -> bytes:
        return source.read_bytes()

    def decode(self, image: bytes, label: bytes) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 3) uint8 RGB, (H, W) uint8 train ids."""
        pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR)
        ids = cv2.imdecode(np.frombuffer(label, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels is not None, "damaged file"
        assert ids is not None, "damaged file"
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), cv2.LUT(ids, self.to_train_id)

    def draw_factor(self, random: Random) -> float:
        (low, high), step = self.recipe.crop.scale, self.recipe.crop.scale_step
        if step is None:
            return random.uniform(low, high)
        return low + step * random.randint(0, int((high - low) / step + 1e-6))

    def resize(self, image: np.ndarray, target: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        return (
            cv2.resize(image, size, interpolation=cv2.INTER_LINEAR),
            cv2.resize(target, size, interpolation=cv2.INTER_NEAREST),  # EXACT would take longer
        )

    def cut(self, image: np.ndarray, target: np.ndarray, random: Random) -> tuple[np.ndarray, np.ndarray]:
        """A window of the scaled frame in which no class covers too much."""
        crop = self.recipe.crop
        height, width = target.shape
        for _ in range(_DRAWS):
            top = random.randint(0, max(0, height - crop.height))
            left = random.randint(0, max(0, width - crop.width))
            rows, columns = slice(top, top + crop.height), slice(left, left + crop.width)
            if crop.max_category_ratio >= 1 or self._is_varied(target[rows, columns]):
                break
        return image[rows, columns], target[rows, columns]

    def _is_varied(self, target: np.ndarray) -> bool:
        counts = cv2.calcHist([target], [0], None, [256], [0, 256])
        counts[IGNORE] = 0
        return bool(counts.max() < self.recipe.crop.max_category_ratio * counts.sum())

    def flip(self, image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return cv2.flip(image, 1), cv2.flip(target, 1)

    def distort(self, image: np.ndarray, limits: PhotometricDistortion, random: Random) -> np.ndarray:
        """Each change by itself, as mmsegmentation has it, but in 8 bits and saturating."""
        contrast_first = random.random() < 0.5
        if random.random() < 0.5:
            image = _linear(image, 1.0, random.uniform(-limits.brightness, limits.brightness))
        contrast = random.uniform(*limits.contrast) if random.random() < 0.5 else None
        if contrast is not None and contrast_first:
            image = _linear(image, contrast)
        saturation = random.uniform(*limits.saturation) if random.random() < 0.5 else None
        hue = random.randint(-limits.hue, limits.hue) if random.random() < 0.5 else 0
        if saturation is not None or hue:
            h, s, v = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
            if saturation is not None:
                s = _linear(s, saturation)
            if hue:
                h = ((h.astype(np.int16) + hue) % 180).astype(np.uint8)
            image = cv2.cvtColor(cv2.merge((h, s, v)), cv2.COLOR_HSV2RGB)
        if contrast is not None and not contrast_first:
            image = _linear(image, contrast)
        return image

    def pad(self, image: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        below, beside = self.recipe.crop.height - target.shape[0], self.recipe.crop.width - target.shape[1]
        if below or beside:
            border = (0, below, 0, beside, cv2.BORDER_CONSTANT)
            image = cv2.copyMakeBorder(image, *border, value=self.recipe.fill)
            target = cv2.copyMakeBorder(target, *border, value=[IGNORE])
        return image, target

    def to_tensors(self, image: np.ndarray, target: np.ndarray) -> dict[str, Any]:
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "target": torch.from_numpy(np.ascontiguousarray(target)),
        }


def _linear(pixels: np.ndarray, factor: float, added: float = 0.0) -> np.ndarray:
    """pixels * factor + added, cut to 0-255."""
    return cv2.addWeighted(pixels, factor, pixels, 0.0, added)
