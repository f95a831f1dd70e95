"""target=data: what the data path gives on one core, what the DataLoader gives, and what the step takes."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rich
from hydra.utils import instantiate

from src.benchmarks.advice import advice
from src.benchmarks.benchmark_table import loader_and_step_table, variants_table
from src.benchmarks.loader import measure_loader
from src.benchmarks.rounds import measure_variants
from src.benchmarks.step import measure_step
from src.benchmarks.variants import BASELINE, DISK, PNG, RAM, TITLES, Frames, open_variants
from src.data.checks.pairs import check_pairs
from src.data.datamodule import SegmentationDataModule
from src.data.frame_cache.frames import frame_bytes
from src.data.frame_cache.modes import look_ahead
from src.errors import UserError
from src.runs.atomic_files import write_json
from src.runs.directory import Run
from src.runs.machine import machine, usable_cores, versions
from src.training.trainer import build_trainer

log = logging.getLogger(__name__)


def benchmark_data(run: Run) -> None:
    """Measure, say it on the terminal and write benchmark.json."""
    config = run.config
    settings = config["measure"]
    data = SegmentationDataModule(config["data"], config["augment"], config["seed"], config["cache_dir"])
    data.trainer = build_trainer(config["trainer"])  # of the training: its devices share batch and cores
    data.prepare_data()
    data.setup("fit")
    data.check_shares(data.trainer.world_size, data.trainer.accumulate_grad_batches)
    frames = _frames(config, data, settings["frames"])
    assert data.train_set is not None
    cache_dir = Path(config["cache_dir"])
    parts = data.trainer.world_size * data.trainer.accumulate_grad_batches
    batch = config["data"]["batch_size"] // parts
    whole_set = len(data.train_set) * frame_bytes(frames.sizes[0])
    mode = _variant_of_a_run(data, cache_dir)
    # Some frames only: caching a whole training set would be 25 GB for a figure.
    variants, left_out = open_variants(frames, cache_dir)
    if mode in left_out:
        raise UserError(left_out[mode])

    run.open()
    measured = measure_variants(
        variants,
        frames=len(frames.pairs),
        samples=settings["samples"],
        batch=batch,
        rounds=settings["rounds"],
        warmup=settings["warmup"],
    )
    rates = {name: v["samples_per_second"]["median"] for name, v in measured["variants"].items()}
    for name, variant in measured["variants"].items():
        variant["times_baseline"] = rates[name] / rates[BASELINE] if BASELINE in rates else None
    rich.print(variants_table(measured, left_out, frames, settings))

    compared = [name for name in (PNG, mode if mode != PNG else DISK) if name not in left_out]
    loaders = _loaders(compared, data, frames, cache_dir, settings)
    log.info("Measuring the training step")
    data.train_set = frames.dataset("none", cache_dir)
    step = measure_step(config, data, data.train_set, batch)
    rich.print(loader_and_step_table(loaders, step))
    result = advice(
        mode=mode,
        workers=loaders[mode]["workers"],
        loader=loaders[mode]["samples_per_second"]["median"],
        step=step["samples_per_second"]["median"],
        per_core={name: rate for name, rate in rates.items() if name != BASELINE},
        cores=usable_cores(),
        devices=data.trainer.num_devices,
        on_cpu=step["device"] == "cpu",
    )
    log.info("%s", result["sentence"])
    here = machine()
    if mode != PNG and whole_set > here["memory_gb"] * 1e9 / 2:
        log.info(
            "The whole training set takes %.3g GB decoded, this machine has %.3g GB of memory: a run reads "
            "part of it from the disk, which was not measured.",
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
            "variant_of_a_run": mode,
            "whole_training_set_decoded_gb": round(whole_set / 1e9, 3),
        },
        "one_core": measured | {"left_out": left_out},
        "loader": loaders,
        "step": step,
        **result,
    }
    write_json(run.directory / "benchmark.json", results)
    log.info("All results: %s", run.directory / "benchmark.json")


def _loaders(
    names: Sequence[str],
    data: SegmentationDataModule,
    frames: Frames,
    cache_dir: Path,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    loaders = {}
    for name in names:
        log.info("Measuring the DataLoader, %s, for %g s", TITLES[name], settings["seconds"])
        dataset = frames.dataset("none" if name == PNG else name, cache_dir)
        loaders[name] = measure_loader(data, dataset, settings["seconds"], settings["rounds"])
    return loaders


def _frames(config: dict[str, Any], data: SegmentationDataModule, count: int) -> Frames:
    assert data.train_set is not None
    pairs = data.train_set.pairs
    some = [pairs[i * len(pairs) // min(count, len(pairs))] for i in range(min(count, len(pairs)))]
    steps = {name: instantiate(step) for name, step in config["augment"].items() if step is not None}
    root = Path(config["data"]["root"])
    return Frames(root, some, check_pairs(some, data.table), data.table, steps, config["seed"])


def _variant_of_a_run(data: SegmentationDataModule, cache_dir: Path) -> str:
    """The variant that a training with the same keys would have."""
    mode = data.config["cache"]
    if mode == "auto":
        outlook = look_ahead(mode, cache_dir, Path(data.config["root"]), data.table, *data.frames())
        mode = "disk" if (outlook.fits and outlook.writable) or not outlook.missing else "none"
    return {"none": PNG, "disk": DISK, "ram": RAM}[mode]
