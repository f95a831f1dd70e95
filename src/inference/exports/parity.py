"""Whether an exported file computes what the network computes: both run on the same images."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from src.data.files import read_image
from src.data.folders import files_below
from src.errors import UserError
from src.inference.engines.engine import Engine
from src.inference.views import resize_image
from src.network.segmenter import Segmenter
from src.network.upsample import best_class
from src.street import draw_scene

Size = tuple[int, int]

BARS = {"float32": (0.9999, 0.001), "fp16": (0.99, 0.05), "int8": (0.8, 1.0)}
"""By the precision of the file: the lowest share of equal pixels, and the largest difference of logits, as a
share of the network's largest absolute logit. float32 files differ by the order of additions alone. An int8
file is judged by its mIoU; on other images than those that it was calibrated on, it differs much."""
BATCHES = (1, 2)
_IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Comparison:
    """The results of a file and of the network on one batch.

    equal: share of pixels with the same class. difference: the largest difference between a logit of the file
    and of the network; for a file with class maps, by how much the network's logit of the file's class is
    below that of the network's own class, at most. Both logits are divided by the network's largest absolute
    logit. classes: number of them that the network sees. problem: why there is no result.
    """

    batch: int
    height: int
    width: int
    equal: float = 0.0
    difference: float = inf
    classes: int = 0
    problem: str = ""

    def passes(self, bar: tuple[float, float]) -> bool:
        return not self.problem and self.equal >= bar[0] and self.difference <= bar[1]


def compare(segmenter: Segmenter, engine: Engine, output: str, image: Tensor) -> Comparison:
    """One batch, uint8 (B, 3, H, W), through the network in PyTorch and the file in its own runtime."""
    place = (len(image), image.shape[-2], image.shape[-1])
    with torch.inference_mode():
        logits = segmenter(image)
    classes = best_class(logits)
    largest = max(float(logits.abs().max()), 1e-6)
    if not isfinite(largest):
        return Comparison(*place, problem="the network's own logits are NaN or infinite")
    try:
        result = engine(image) if output == "logits" else engine.class_map(image)
    except Exception as error:  # of any type, from the runtime
        return Comparison(*place, problem=f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")
    wanted = logits if output == "logits" else classes
    if result.shape != wanted.shape or result.dtype != wanted.dtype:
        found = f"{tuple(result.shape)} {result.dtype}"
        return Comparison(*place, problem=f"the output is {found}, not {tuple(wanted.shape)} {wanted.dtype}")
    if output == "logits":
        difference = float((result - logits).abs().max())
        equal = best_class(result) == classes
    else:
        if int(result.max()) >= logits.shape[1]:
            return Comparison(*place, problem=f"class {int(result.max())} of {logits.shape[1]} in the map")
        chosen = logits.gather(1, result[:, None].long())
        difference = float((logits.max(1, keepdim=True).values - chosen).max())
        equal = result == classes
    if not isfinite(difference):
        return Comparison(*place, problem="NaN or infinite logits")
    return Comparison(
        *place,
        equal=float(equal.double().mean()),
        difference=difference / largest,
        classes=len(classes.unique()),
    )


def batches(folder: str | None, size: Size | None, min_size: int) -> Iterator[Tensor]:
    """Images to compare on, uint8 (B, 3, H, W): three sizes, one of them odd, in batches of one and of two.
    A file for one size and one image at a time is compared on three images.

    Args:
        folder: with images; None = scenes of the synthetic street.
        size: (height, width) of all images that the file is for.
        min_size: of an image, in pixels.
    """
    images = _read(folder) if folder else [_scene(index) for index in range(4)]
    if size:
        yield from (resize_image(image, size) for image in images[:3])
        return
    height, width = _largest(images[0]) if folder else (256, 512)
    least = max(32, min_size)
    for number, (high, wide) in enumerate(
        (
            (height, width),
            (height * 3 // 4 // 8 * 8, width // 2 // 8 * 8),
            (height * 5 // 8 | 1, width * 5 // 8 | 1),
        )
    ):
        side = (max(high, least), max(wide, least) + (high % 2 and wide < least))
        resized = [resize_image(image, side) for image in images]
        for count in BATCHES:
            yield torch.cat([resized[(number + index) % len(resized)] for index in range(count)])


def _largest(image: Tensor) -> Size:
    """The size of an image, or of the same image with at most two megapixels."""
    height, width = image.shape[-2:]
    scale = min(1.0, (2**21 / (height * width)) ** 0.5)
    return max(int(height * scale), 1), max(int(width * scale), 1)


def _scene(index: int) -> Tensor:
    return _tensor(draw_scene(seed=7, index=index, width=512, height=256).image)


def _read(folder: str) -> list[Tensor]:
    place = Path(folder).expanduser()
    if not place.is_dir():
        raise UserError(f"images={folder}: no such folder.")
    found = [path for path in files_below(place) if path.name.lower().endswith(_IMAGES)]
    if not found:
        raise UserError(f"images={folder}: no images ({', '.join(_IMAGES)}) in it or below.")
    chosen = [found[i] for i in dict.fromkeys(np.linspace(0, len(found) - 1, 4).astype(int).tolist())]
    return [_tensor(read_image(path)) for path in chosen]


def _tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].contiguous()


def worst(comparisons: Iterable[Comparison], bar: tuple[float, float]) -> str:
    """In words, what of all comparisons is below the bar; empty if nothing is."""
    failed = [c for c in comparisons if not c.passes(bar)]
    if not failed:
        return ""
    c = max(failed, key=lambda c: (bool(c.problem), c.difference))
    where = f"with {c.batch} x {c.width}x{c.height}"
    if c.problem:
        return f"It cannot be compared with the network {where}: {c.problem}."
    return (
        f"It is not what the network computes {where}: {100 * c.equal:.4f} % of the pixels are equal "
        f"(expected {100 * bar[0]:g} %), and logits differ by up to {100 * c.difference:.3g} % of the "
        f"largest one (allowed {100 * bar[1]:g} %)."
    )
