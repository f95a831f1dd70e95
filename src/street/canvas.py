"""Paints an image and its ids in one step, so that the labels always agree with the image."""

from collections import Counter
from dataclasses import dataclass
from math import exp

import cv2
import numpy as np

from src.labels import CITYSCAPES
from src.street.camera import SHIFT, Camera

ID = {label.name: label.id for label in CITYSCAPES.labels}
HAS_INSTANCES = {label.id for label in CITYSCAPES.labels if label.has_instances}

Colour = tuple[float, float, float]
"""RGB, 0 to 255."""


def label_of(ids: np.ndarray) -> np.ndarray:
    """uint16 instance ids to uint8 label ids."""
    return np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` at share 0, `b` at share 1."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def scale(colour: Colour, factor: float) -> Colour:
    return (min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0))


@dataclass(frozen=True)
class Light:
    sun: tuple[float, float, float]  # unit vector towards the sun
    strength: float  # 0 under an even cloud cover, 1 in full sun
    haze: Colour
    visibility: float  # metres at which 63 % of a colour is haze

    def shade(self, normal: tuple[float, float, float]) -> float:
        """Brightness factor of a surface with this unit normal."""
        lit = max(0.0, sum(a * b for a, b in zip(normal, self.sun, strict=True)))
        return 1.0 - 0.3 * self.strength + 0.5 * self.strength * lit + 0.08 * normal[1]


class Canvas:
    """`image` (H, W, 3) uint8 RGB and `ids` (H, W) uint16 instance ids, painted from far to near."""

    def __init__(self, width: int, height: int, camera: Camera, light: Light) -> None:
        self.image = np.zeros((height, width, 3), np.uint8)
        self.ids = np.zeros((height, width), np.uint16)
        self.camera = camera
        self.light = light
        self._counts: Counter[int] = Counter()

    def new(self, name: str) -> int:
        """The id of a new object of this class: id*1000+k for classes with instances, else the label id."""
        label = ID[name]
        if label not in HAS_INSTANCES:
            return label
        self._counts[label] += 1
        return label * 1000 + self._counts[label] - 1

    def fill(self, points: np.ndarray, colour: Colour, ident: int | None = None, shade: float = 1.0) -> None:
        """Paint one polygon, (n, 3) metres; without `ident` (a detail) the ids stay."""
        pixels = self.camera.project(points)
        cv2.fillPoly(self.image, [pixels], self._seen(colour, points, shade), shift=SHIFT)
        if ident is not None:
            cv2.fillPoly(self.ids, [pixels], ident, shift=SHIFT)

    def fill_all(self, points: np.ndarray, parts: list[tuple[int, Colour]], ident: int) -> None:
        """Paint polygons whose corners follow one another in `points`; each part is (corners, colour)."""
        pixels = self.camera.project(points)
        start = 0
        for corners, colour in parts:
            polygon = [pixels[start : start + corners]]
            cv2.fillPoly(self.image, polygon, self._seen(colour, points, 1.0), shift=SHIFT)
            cv2.fillPoly(self.ids, polygon, ident, shift=SHIFT)
            start += corners

    def pattern(self, polygons: np.ndarray, colour: Colour, shade: float = 1.0) -> None:
        """Paint many polygons, (k, n, 3) metres, in the image alone. Where two overlap, neither is painted:
        an outline inside another becomes a ring."""
        pixels = self.camera.project(polygons)
        cv2.fillPoly(self.image, list(pixels), self._seen(colour, polygons, shade), shift=SHIFT)

    def mark(self, points: np.ndarray, ident: int) -> None:
        """Give the inside of a polygon an id without painting it, to see through bars and spokes."""
        cv2.fillPoly(self.ids, [self.camera.project(points)], ident, shift=SHIFT)

    def veil(self, points: np.ndarray, colour: Colour, opacity: float) -> None:
        """Blend a polygon into the image: clouds, and shadows on the ground."""
        pixels = self.camera.project(points)
        height, width = self.ids.shape
        (left, top), (right, bottom) = pixels.min(0) >> SHIFT, (pixels.max(0) >> SHIFT) + 2
        left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
        if left >= right or top >= bottom:
            return
        part = self.image[top:bottom, left:right]
        painted = part.copy()
        cv2.fillPoly(painted, [pixels - (np.array((left, top), np.int32) << SHIFT)], colour, shift=SHIFT)
        cv2.addWeighted(painted, opacity, part, 1 - opacity, 0, dst=part)

    def _seen(self, colour: Colour, points: np.ndarray, shade: float) -> Colour:
        distance = max(float(points.flat[2]), 0.0)  # of the first corner
        clear = exp(-distance / self.light.visibility)
        return mix(self.light.haze, colour if shade == 1.0 else scale(colour, shade), clear)
