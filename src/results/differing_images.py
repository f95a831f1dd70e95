"""The images on which networks differ most, with what each of them predicts."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from src.data.datamodule import SegmentationDataModule
from src.inference.predictor import load
from src.metrics.by_image import image_mious
from src.report.best_and_worst import encode
from src.results.grouping import Comparison, Setting
from src.results.runs import RunResult
from src.weights.shipped import weights_path

log = logging.getLogger(__name__)

NETWORKS = 4  # most that one picture has views of


@dataclass(frozen=True)
class Picture:
    """An image with the class maps of several networks, as data URIs."""

    name: str
    image: str
    truth: str
    predictions: Sequence[str]  # in the order of the networks
    mious: Sequence[float]


def chosen_networks(comparison: Comparison) -> list[tuple[Setting, RunResult]]:
    """The baseline and the best settings on the same images, each with its run of the smallest seed that all
    of them have, or with its first run."""
    usable = [s for s in comparison.settings if any(_is_usable(run) for run in s.runs)]
    if not usable:
        return []
    first = comparison.baseline if comparison.baseline in usable else usable[0]
    best = [s for s in usable if s is not first and s.images == first.images]
    settings = [first, *best[: NETWORKS - 1]]
    runs = [[run for run in setting.runs if _is_usable(run)] for setting in settings]
    seeds = set.intersection(*({run.seed for run in of_setting} for of_setting in runs)) if runs else set()
    seed = min(seeds - {None}, default=None)  # type: ignore[type-var]
    return [
        (setting, next((run for run in of_setting if run.seed == seed), of_setting[0]))
        for setting, of_setting in zip(settings, runs, strict=True)
    ]


def most_different(networks: Sequence[RunResult], count: int = 4) -> list[Picture]:
    """The images whose mIoU differs most between the networks; none, and a warning, without the dataset.

    Args:
        networks: two or more runs on the same images.
    """
    counts = [run.by_image or {} for run in networks]
    names = sorted(set.intersection(*map(set, counts))) if len(counts) > 1 else []
    if not names:
        return []
    mious = np.stack([image_mious(np.stack([of_run[name] for name in names])) for of_run in counts])
    spread = np.nan_to_num(mious.max(0) - mious.min(0))
    chosen = [i for i in np.argsort(-spread, kind="stable")[:count] if spread[i] > 0]
    try:
        return _drawn(networks, [names[i] for i in chosen], mious[:, chosen])
    except Exception as error:  # a dataset or a network's code that is not here any more
        log.warning("The page shows no images: %s", getattr(error, "text", None) or repr(error))
        return []


def _drawn(networks: Sequence[RunResult], names: Sequence[str], mious: np.ndarray) -> list[Picture]:
    config = networks[0].config
    data = SegmentationDataModule(config["data"], cache_dir=config["cache_dir"])
    data.setup("validate")
    assert data.val_set is not None
    places = {pair.name: i for i, pair in enumerate(data.val_set.pairs)}
    samples = [data.val_set[0, places[name]] for name in names]
    predictions = []
    for run in networks:
        own = (run.config.get("model") or {}).get("_target_")
        network = load(str(_checkpoint(run)), trust=[own] if own else [])
        predictions.append([network(sample["image"].permute(1, 2, 0).numpy()) for sample in samples])
    pictures = []
    for i, sample in enumerate(samples):
        image, target = sample["image"].numpy(), sample["target"].numpy()
        entries = [encode(names[i], image, target, of_run[i], data.table) for of_run in predictions]
        views = [entry["prediction"] for entry in entries]
        first: dict[str, Any] = entries[0]
        pictures.append(Picture(names[i], first["image"], first["truth"], views, mious[:, i].tolist()))
    return pictures


def _is_usable(run: RunResult) -> bool:
    return run.last is not None and bool(run.by_image) and _checkpoint(run) is not None


def _checkpoint(run: RunResult) -> Path | None:
    """The weights that by_image.csv belongs to: of a training, those of its last epoch."""
    folder = run.directory / "checkpoints"
    places = [folder / "last.ckpt", folder / "best.ckpt"]
    if run.config.get("task") == "eval":
        places = [weights_path(str(run.metrics.get("checkpoint")))]
    return next((place for place in places if place.exists()), None)
