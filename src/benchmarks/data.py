"""target=data: throughput of the DataLoader and of the training step, and which of them limits a run."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich
from rich import box
from rich.table import Table

from src.benchmarks.advice import advice, rounded
from src.benchmarks.loader import measure_loader
from src.benchmarks.step import measure_step
from src.data.augment import SeededTransform
from src.data.checks.pairs import check_pairs
from src.data.datamodule import SegmentationDataModule
from src.data.dataset import SegmentationDataset
from src.data.files import read_bytes
from src.data.frame_cache.cache import NoPlaceError
from src.data.frame_cache.frames import frame_bytes
from src.data.frame_cache.modes import look_ahead, open_cache
from src.data.layouts import Pair
from src.errors import counted
from src.labels import LabelTable
from src.runs.atomic_files import write_json
from src.runs.directory import Run
from src.runs.machine import machine, usable_cores, versions
from src.training.trainer import build_trainer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frames:
    """Some frames of a split, and what turns them into samples.

    Args:
        sizes: (height, width) of each pair.
        transform: the training's augmentation.
    """

    root: Path
    pairs: Sequence[Pair]
    sizes: Sequence[tuple[int, int]]
    table: LabelTable
    transform: SeededTransform | None

    def dataset(self, mode: str, cache_dir: Path) -> SegmentationDataset:
        """The dataset of a training with data.cache=mode, with a cache of these frames alone. Reads all
        files, so that they are in the page cache."""
        cache = open_cache(mode, cache_dir, self.root, self.table, self.pairs, self.sizes)
        for pair in self.pairs:
            assert pair.label is not None
            for path in [cache.path(pair)] if cache else [pair.image, pair.label]:
                read_bytes(path)
        return SegmentationDataset(self.pairs, self.table, self.transform, cache.read if cache else None)


def benchmark_data(run: Run) -> None:
    """Measure, print the results and write benchmark.json."""
    config = run.config
    settings, cache_dir = config["measure"], Path(config["cache_dir"])
    data = SegmentationDataModule(config["data"], config["augment"], config["seed"], config["cache_dir"])
    data.trainer = build_trainer(config["trainer"])  # the training's: its devices share batch and cores
    data.prepare_data()
    data.setup("fit")
    data.check_shares(data.trainer.world_size, data.trainer.accumulate_grad_batches)
    frames = _frames(config, data, settings["frames"])
    assert data.train_set is not None
    whole_set = len(data.train_set) * frame_bytes(frames.sizes[0])
    batch = config["data"]["batch_size"] // (data.trainer.world_size * data.trainer.accumulate_grad_batches)
    mode = _mode_of_a_run(data, cache_dir)

    run.open()
    loaders = _loaders(mode, data, frames, cache_dir, settings)
    log.info("Measuring the training step")
    data.train_set = frames.dataset("none", cache_dir)
    step = measure_step(config, data, data.train_set, batch)
    rich.print(_table(loaders, step, frames))
    result = advice(
        mode=mode,
        workers={name: loader["workers"] for name, loader in loaders.items()},
        rates={name: loader["samples_per_second"]["median"] for name, loader in loaders.items()},
        step=step["samples_per_second"]["median"],
        cores=usable_cores(),
        devices=data.trainer.num_devices,
        on_cpu=step["device"] == "cpu",
    )
    log.info("%s", result["sentence"])
    here = machine()
    if mode == "disk" and whole_set > here["memory_gb"] * 1e9 / 2:
        log.info(
            "The whole training set takes %.3g GB decoded, and this machine has %.3g GB of memory: a run "
            "would read a part from the disk, which this benchmark does not measure.",
            whole_set / 1e9,
            here["memory_gb"],
        )
    results = {
        "target": config["target"],
        "machine": here,
        "versions": versions(),
        "settings": settings
        | {
            "frames": len(frames.pairs),
            "frame_size": list(frames.sizes[0]),
            "data": config["data"]["name"],
            "crop_size": config["data"]["crop_size"],
            "cache_of_a_run": mode,
            "whole_training_set_decoded_gb": round(whole_set / 1e9, 3),
        },
        "loader": loaders,
        "step": step,
        **result,
    }
    write_json(run.directory / "benchmark.json", results)
    log.info("All results: %s", run.directory / "benchmark.json")


def _loaders(
    mode: str, data: SegmentationDataModule, frames: Frames, cache_dir: Path, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Measure without and with the cache. No room for the cache is an error only if the run uses it."""
    loaders = {}
    for name in ("none", "disk"):
        log.info("Measuring the DataLoader, data.cache=%s, for %g s", name, settings["seconds"])
        try:
            # Only some frames: caching the whole training set would take 25 GB for one measurement.
            dataset = frames.dataset(name, cache_dir)
        except NoPlaceError as error:
            if name == mode:
                raise
            log.warning("Left out: %s", error)
            continue
        loaders[name] = measure_loader(data, dataset, settings["seconds"], settings["rounds"])
    return loaders


def _frames(config: dict[str, Any], data: SegmentationDataModule, count: int) -> Frames:
    assert data.train_set is not None
    pairs = data.train_set.pairs
    some = [pairs[i * len(pairs) // min(count, len(pairs))] for i in range(min(count, len(pairs)))]
    root = Path(config["data"]["root"])
    return Frames(root, some, check_pairs(some, data.table), data.table, data.train_set.transform)


def _mode_of_a_run(data: SegmentationDataModule, cache_dir: Path) -> str:
    """What a training with the same keys would do: "none" or "disk"."""
    mode = data.config["cache"]
    if mode != "auto":
        return mode
    outlook = look_ahead(mode, cache_dir, Path(data.config["root"]), data.table, *data.frames())
    return "disk" if (outlook.fits and outlook.writable) or not outlook.missing else "none"


def _table(loaders: Mapping[str, Any], step: Mapping[str, Any], frames: Frames) -> Table:
    height, width = frames.sizes[0]
    table = Table(
        title=f"{len(frames.pairs)} frames of {width}x{height}, read from the page cache, not the disk",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        pad_edge=False,
    )
    for heading in ("", "samples/s", "quartiles", "how"):
        right = heading == "samples/s"
        table.add_column(heading, justify="right" if right else "left", no_wrap=heading != "how")
    for name, loader in loaders.items():
        how = f"{loader['workers']} workers, {loader['batches']} batches of {loader['batch']}"
        table.add_row(f"DataLoader, data.cache={name}", *_rate(loader), how)
    how = f"{step['device']}, {step['precision']}, {step['steps']} steps of {step['images']} images"
    if step["images"] != step["per_device"]:
        how += f" (a batch has {step['per_device']})"
    if step["compiled_graphs"]:
        how += f", compiled into {counted(step['compiled_graphs'], 'graph')}"
    table.add_row("training step", *_rate(step), how)
    return table


def _rate(results: Mapping[str, Any]) -> tuple[str, str]:
    rate = results["samples_per_second"]
    return rounded(rate["median"]), f"{rounded(rate['q1'])} - {rounded(rate['q3'])}"
