"""Which images of a validation went best and worst, with small copies of them for the report."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image
from torch import Tensor

from src.labels import IGNORE, LabelTable
from src.report.pictures import Row

_PIXELS = 2.2e6  # in total, over all images, for each kind of picture: keeps the page below 3 MB
_WIDEST = 720
_ERROR = (255, 48, 48)


@dataclass(frozen=True)
class Kept:
    """An image and its maps, reduced: uint8 (H, W, 3) RGB, (H, W), (H, W)."""

    miou: float
    name: str
    wrong: float  # share of the labelled pixels
    confused: tuple[int, int] | None  # the most frequent mistake: truth, prediction
    image: np.ndarray
    target: np.ndarray
    prediction: np.ndarray

    @property
    def key(self) -> tuple[float, str]:
        return self.miou, self.name


class BestAndWorst:
    """The `count` best and `count` worst of the added images; the order of adding does not matter."""

    def __init__(self, count: int):
        self.count = count
        self.all: list[float] = []
        self.worst: list[Kept] = []
        self.best: list[Kept] = []

    def add(
        self, mious: Sequence[float], names: Sequence[str], image: Tensor, target: Tensor, prediction: Tensor
    ) -> None:
        """A batch of images with their `image_mious`. Only those that are kept are copied from the device."""
        for index, (miou, name) in enumerate(zip(mious, names, strict=True)):
            if math.isnan(miou):
                continue
            self.all.append(miou)
            key, room = (miou, name), len(self.worst) < self.count
            if not self.count or not (room or key < self.worst[-1].key or key > self.best[-1].key):
                continue
            picture, truth, guess = (part[index].cpu().numpy() for part in (image, target, prediction))
            kept = _reduced(miou, name, picture, truth, guess, _PIXELS / (2 * self.count))
            self.worst = sorted([*self.worst, kept], key=lambda entry: entry.key)[: self.count]
            self.best = sorted([*self.best, kept], key=lambda entry: entry.key, reverse=True)[: self.count]

    def found(self, table: LabelTable) -> dict[str, Any]:
        """The result as plain data for `merged`, with the pictures as data URIs."""
        return {
            "all": self.all,
            "worst": [_encoded(kept, table) for kept in self.worst],
            "best": [_encoded(kept, table) for kept in self.best],
        }


def merged(parts: Sequence[dict[str, Any]], count: int) -> dict[str, Any]:
    """Join the `found` of several devices, as if one had seen all images. No image is both best and worst."""
    together: dict[str, list] = {key: [e for part in parts for e in part[key]] for key in parts[0]}
    number = len(together["all"])

    def ranked(key: str, most: int, reverse: bool = False) -> list[dict[str, Any]]:
        return sorted(together[key], key=lambda e: (e["mIoU"], e["name"]), reverse=reverse)[:most]

    return {
        "all": [round(miou, 4) for miou in sorted(together["all"])],
        "worst": ranked("worst", min(count, number // 2)),
        "best": ranked("best", min(count, number - number // 2), reverse=True),
    }


def decoded(entry: Mapping[str, Any]) -> Row:
    """An entry of `found` as a row of a panel: its name with its mIoU, image, ground truth, prediction."""

    def pixels(key: str) -> np.ndarray:  # of an indexed PNG, its indices
        data = base64.b64decode(entry[key].partition(",")[2])
        return np.array(Image.open(io.BytesIO(data)))

    caption = f"{entry['name']}, mIoU {100 * entry['mIoU']:.1f} %"
    return caption, pixels("image"), pixels("truth"), pixels("prediction")


def encode(
    name: str,
    image: np.ndarray,
    target: np.ndarray,
    prediction: np.ndarray,
    table: LabelTable,
    pixels: float = _PIXELS / 8,
) -> dict[str, Any]:
    """An image as an entry of `found`, without an mIoU.

    Args:
        image: uint8 (3, H, W) RGB.
        target, prediction: uint8 (H, W) train ids; of the target, 255 is ignored.
        pixels: most of each picture.
    """
    return _encoded(_reduced(math.nan, name, image, target, prediction, pixels), table)


def _reduced(
    miou: float, name: str, image: np.ndarray, target: np.ndarray, prediction: np.ndarray, pixels: float
) -> Kept:
    height, width = target.shape
    factor = min(1.0, _WIDEST / width, math.sqrt(pixels / (height * width)))
    size = max(1, round(width * factor)), max(1, round(height * factor))

    def resized(picture: np.ndarray, how: int) -> np.ndarray:
        return cv2.resize(picture, size, interpolation=how) if factor < 1 else picture.copy()

    labelled = target != IGNORE
    wrong = labelled & (prediction != target)
    mistakes = np.bincount(target[wrong].astype(int) * 256 + prediction[wrong], minlength=1)
    return Kept(
        miou,
        name,
        wrong=float(wrong.sum() / labelled.sum()),
        confused=divmod(int(mistakes.argmax()), 256) if mistakes.any() else None,
        image=resized(np.ascontiguousarray(image.transpose(1, 2, 0)), cv2.INTER_AREA),
        target=resized(target, cv2.INTER_NEAREST),
        prediction=resized(prediction, cv2.INTER_NEAREST),
    )


def _encoded(kept: Kept, table: LabelTable) -> dict[str, Any]:
    _, jpeg = cv2.imencode(".jpg", kept.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    opaque = np.full((256, 1), 255, np.uint8)
    opaque[IGNORE] = 0  # transparent, so that the image shows
    classes = np.hstack((table.colors, opaque))
    marks = np.zeros((256, 4), np.uint8)
    marks[1] = (*_ERROR, 255)
    wrong = (kept.target != IGNORE) & (kept.prediction != kept.target)
    names = table.class_names
    return {
        "name": kept.name,
        "mIoU": kept.miou,
        "wrong": kept.wrong,
        "confused": [names[index] for index in kept.confused] if kept.confused else None,
        "image": _uri("jpeg", jpeg.tobytes()),
        "truth": _uri("png", indexed_png(kept.target, classes)),
        "prediction": _uri("png", indexed_png(kept.prediction, classes)),
        "errors": _uri("png", indexed_png(wrong.astype(np.uint8), marks)),
    }


def indexed_png(indices: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG with a palette: a third of the size of OpenCV's PNG, which has none.

    Args:
        indices: uint8 (H, W).
        palette: uint8 (256, 4) RGBA.
    """
    image = Image.fromarray(indices)
    image.putpalette(palette[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, format="PNG", transparency=palette[:, 3].tobytes(), compress_level=9)
    return file.getvalue()


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
