"""Ways from a key (epoch, index) to a training sample: the baseline's and ours, each with its parts timed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from random import Random
from typing import Any

import albumentations as A

from src.benchmarks.baseline import Recipe, ResizeThenCrop
from src.benchmarks.stopwatch import OTHER, Stopwatch, replaced
from src.data import dataset as dataset_module
from src.data import files
from src.data.augment import PhotometricDistortion, RandomScaledCrop, SeededTransform
from src.data.dataset import SegmentationDataset
from src.data.frame_cache.modes import open_cache
from src.data.layouts import Pair
from src.errors import UserError
from src.labels import LabelTable

Key = tuple[int, int]
BASELINE, PNG, DISK, RAM = "opencv", "png", "disk", "ram"
TITLES = {
    BASELINE: "OpenCV, resize first",
    PNG: "PNG (cache=none)",
    DISK: "cache=disk",
    RAM: "cache=ram",
}
_COLLATE = "collate"
_PARTS = ("read", "decode", "window", "resize", "flip", "colour", "pad")


@dataclass(frozen=True)
class Frames:
    """The frames that are read, and what turns them into samples.

    Args:
        sizes: (height, width) of each pair.
        steps: of the augmentation, by their names in the config.
    """

    root: Path
    pairs: Sequence[Pair]
    sizes: Sequence[tuple[int, int]]
    table: LabelTable
    steps: Mapping[str, A.BasicTransform]
    seed: int

    def dataset(self, mode: str, cache_dir: Path) -> SegmentationDataset:
        """As a training with data.cache=mode has it, with a cache of these frames alone."""
        cache = open_cache(mode, cache_dir, self.root, self.table, self.pairs, self.sizes)
        if cache is not None:
            for pair in self.pairs:
                cache.path(pair).read_bytes()  # into the page cache
        transform = SeededTransform(list(self.steps.values()), self.seed)
        return SegmentationDataset(self.pairs, self.table, transform, cache.read if cache else None)


@dataclass(frozen=True)
class Variant:
    name: str
    sample: Callable[[Key], dict[str, Any]]
    timed: Callable[[Stopwatch], Any]  # a context in which the stopwatch sees the parts


def open_variants(frames: Frames, cache_dir: Path) -> tuple[dict[str, Variant], dict[str, str]]:
    """The variants that this machine and this config allow, and the reasons for which others are left out.

    All of ours draw the same window for the same key; the baseline draws from the same distribution.
    """
    variants: dict[str, Variant] = {}
    left_out: dict[str, str] = {}
    for pair in frames.pairs:
        assert pair.label is not None
        files.read_bytes(pair.image)  # into the page cache
        files.read_bytes(pair.label)
    openers: dict[str, Callable[[], Variant]] = {BASELINE: partial(_baseline, frames)}
    for name, mode in ((PNG, "none"), (DISK, "disk"), (RAM, "ram")):
        openers[name] = partial(_ours, name, mode, frames, cache_dir)
    for name, opened in openers.items():
        try:
            variants[name] = opened()
        except UserError as error:
            left_out[name] = error.text
    return variants, left_out


def part_order(parts: Sequence[str]) -> list[str]:
    """As a sample passes them; steps of the user's own before the last two."""
    known = (*_PARTS, _COLLATE, OTHER)
    own = [part for part in parts if part not in known]
    return [part for part in (*_PARTS, *own, _COLLATE, OTHER) if part in parts]


def _ours(name: str, mode: str, frames: Frames, cache_dir: Path) -> Variant:
    dataset = frames.dataset(mode, cache_dir)

    @contextmanager
    def timed(watch: Stopwatch) -> Iterator[None]:
        # Opening a memory-mapped frame; its pages are read where they are looked at: window and resize.
        read = "decode" if name == PNG else "read"
        crops = [step for step in frames.steps.values() if isinstance(step, RandomScaledCrop)]
        with ExitStack() as stack:
            stack.enter_context(replaced(files, "read_bytes", partial(watch.timed, "read")))
            stack.enter_context(replaced(dataset, "read", partial(watch.timed, read)))
            stack.enter_context(replaced(dataset_module, "_to_tensors", partial(watch.timed, _COLLATE)))
            stack.enter_context(replaced(A.BasicTransform, "__call__", partial(_each_step, watch, frames)))
            for crop in crops:
                draw = "get_params_dependent_on_data"
                stack.enter_context(replaced(crop, draw, partial(watch.timed, "window")))
            yield

    return Variant(name, dataset.__getitem__, timed)


def _each_step(watch: Stopwatch, frames: Frames, call: Callable[..., Any]) -> Callable[..., Any]:
    """albumentations calls steps as functions, which Python looks up in the class, not in the instance."""
    timed = {id(step): watch.timed(_part_of(name, step), call) for name, step in frames.steps.items()}

    @wraps(call)
    def wrapper(step: A.BasicTransform, *args: Any, **kwargs: Any) -> Any:
        return timed.get(id(step), call)(step, *args, **kwargs)

    return wrapper


def _part_of(name: str, step: A.BasicTransform) -> str:
    if isinstance(step, RandomScaledCrop):
        return "resize"  # all that is not its draw
    if isinstance(step, PhotometricDistortion):
        return "colour"
    return "flip" if isinstance(step, A.HorizontalFlip) else name


def _baseline(frames: Frames) -> Variant:
    baseline = ResizeThenCrop(Recipe.of(frames.steps), frames.table.to_train_id)

    def sample(key: Key) -> dict[str, Any]:
        epoch, index = key
        return baseline(frames.pairs[index], Random(f"{frames.seed} {epoch} {index}"))

    @contextmanager
    def timed(watch: Stopwatch) -> Iterator[None]:
        methods = {"distort": "colour", "cut": "window", "to_tensors": _COLLATE}
        with ExitStack() as stack:
            for method in ("read", "decode", "resize", "cut", "flip", "distort", "pad", "to_tensors"):
                part = methods.get(method, method)
                stack.enter_context(replaced(baseline, method, partial(watch.timed, part)))
            yield

    return Variant(BASELINE, sample, timed)
