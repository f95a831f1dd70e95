"""One process of a training on several: `python equal_steps.py street cache out CASES 2`, LOCAL_RANK=0 or 1.

Fits each of CASES with the parts of src.train, but for the run directory, and keeps what came of it.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from front_doors import REPOSITORY
from hydra import compose, initialize_config_dir
from torch import nn
from two_heads import teacher

import src.data.datamodule
from src.config import CONF_DIR, plain, register_resolvers
from src.data.datamodule import SegmentationDataModule
from src.data.samplers import TrainSampler
from src.network.trust import trust
from src.training.assemble import build_callbacks, build_module
from src.training.trainer import build_trainer

BATCH = 8
SEED = 42
BASE = (
    "name=equal",
    "data=street_tiny",
    "augment=street",
    f"seed={SEED}",
    f"data.batch_size={BATCH}",
    "data.val_batch_size=1",
    "model.num_blocks=[2,2]",
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "trainer.limit_val_batches=0",
    "trainer.enable_checkpointing=false",
    "trainer.enable_progress_bar=false",
)
CASES: dict[str, tuple[str, ...]] = {
    "sgd": ("optimizer=sgd",),
    "sgd, half without labels": ("optimizer=sgd", "labels=half"),
    "adam, float64": ("trainer.precision=64-true",),
    "accumulated, half without labels": (
        "trainer.precision=64-true",
        "trainer.accumulate_grad_batches=2",
        "labels=half",
    ),
    "by pixels": ("optimizer=sgd", "loss.divide_by=pixels", "labels=half"),
    "by pixels, accumulated": (
        "trainer.precision=64-true",
        "loss.divide_by=pixels",
        "trainer.accumulate_grad_batches=2",
        "labels=half",
    ),
    "clipped": ("optimizer=sgd", "trainer.gradient_clip_val=0.01"),
    "two heads": (
        "trainer.precision=64-true",
        "model._target_=two_heads.TwoHeads",
        "trainer.accumulate_grad_batches=2",
        "labels=half",
    ),
    "taught, half without labels": ("optimizer=sgd", "labels=half", "teacher"),
    "hardest pixels": ("optimizer=sgd", "loss=ohem", "loss.threshold=0.06", "loss.min_kept=0", "labels=half"),
    "averaged": (
        *("trainer.precision=64-true", "callbacks=ema", "trainer.max_epochs=3"),
        *("schedule=warmup_cosine", "schedule.warmup=0.4"),
    ),
    "20 losses": ("trainer.max_epochs=20",),
}
FEW = {name: overrides for name, overrides in CASES.items() if "half without labels" in name}
WIDE = {name: (*o, "trainer.precision=64-true") for name, o in CASES.items() if "losses" not in name}
FULL = {
    "M3N21": ("optimizer=sgd", "model.num_blocks=[3,21]"),
    "M3N21, float64": ("model.num_blocks=[3,21]", "trainer.precision=64-true"),
}
TURNS = (2, 4, 6)


class Record(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []
        self.names: list[str] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.names += batch["name"]

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.gradients = {n: p.grad.clone() for n, p in pl_module.named_parameters()}
        if "train/loss_step" in trainer.callback_metrics:
            self.losses.append(float(trainer.callback_metrics["train/loss_step"]))


class FrozenNorm(pl.Callback):
    """BatchNorm as in evaluation: what sees a part of the batch alone is gone from the network."""

    def on_train_batch_start(self, trainer: Any, pl_module: pl.LightningModule, *_: Any) -> None:
        for layer in pl_module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()


class Turned(TrainSampler):
    """The samples of each step in another order."""

    turn = 1

    def __iter__(self):
        keys = list(super().__iter__())
        for start in range(0, len(keys), self.batch_size):
            step = keys[start : start + self.batch_size]
            yield from step[self.turn :] + step[: self.turn]


def first_step() -> list[int]:
    """The images of the first step in their order: the first half is what the first of two devices takes."""
    return [index for _, index in TrainSampler(BATCH, BATCH, SEED)]


def fit(
    street: Path, cache: Path, overrides: tuple[str, ...], *callbacks: pl.Callback, devices: int = 1
) -> dict:
    """Losses, learning rates and names of all steps; gradients, weights and statistics after the last one."""
    labels = "half" if "labels=half" in overrides else "few"
    taught = "teacher" in overrides
    overrides = tuple(o for o in overrides if not o.startswith("labels=") and o != "teacher")
    trust(["two_heads.TwoHeads"])
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        places = (f"data.root={street / labels}", "data.street=null", f"cache_dir={cache}")
        config = compose("train", [*BASE, *places, f"trainer.devices={devices}", *overrides])
    pl.seed_everything(config.seed, verbose=False)
    data = SegmentationDataModule(plain(config.data), plain(config.augment), config.seed, config.cache_dir)
    kept = dict.fromkeys(("best", "last", "lr", "summary", "epoch_lines", "pictures"))
    record = Record()
    trainer = build_trainer(
        plain(config.trainer), [record, *callbacks, *build_callbacks({**config.callbacks, **kept})]
    )
    data.setup("fit")
    data.check_shares(trainer.world_size, trainer.accumulate_grad_batches)
    module = build_module(plain(config), data, trainer)
    assert module.loss
    module.loss.more_terms += [teacher()] if taught else []
    trainer.fit(module, datamodule=data)
    return {
        "losses": torch.tensor(record.losses, dtype=torch.float64),
        "rates": record.rates,
        "names": record.names,
        "steps": trainer.global_step,
        "planned steps": trainer.estimated_stepping_batches,
        "gradients": record.gradients,
        "weights": {n: p.detach().clone() for n, p in module.named_parameters()},
        "statistics": {n: b.clone() for n, b in module.segmenter.named_buffers() if "running" in n},
    }


def turned(street: Path, cache: Path, overrides: tuple[str, ...], turn: int) -> dict:
    """As `fit`, on one device with each batch in another order."""
    Turned.turn = turn
    src.data.datamodule.TrainSampler = Turned
    try:
        return fit(street, cache, overrides)
    finally:
        src.data.datamodule.TrainSampler = TrainSampler


def on_devices(count: int, street: Path, cache: Path, out: Path, cases: str) -> list[dict[str, dict]]:
    """What each of `count` processes has of each case."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0", "OMP_NUM_THREADS": "1"}
    paths = f"{REPOSITORY}:{REPOSITORY / 'tests'}"
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(street), str(cache), str(out), cases, str(count)],
            env=os.environ | common | {"LOCAL_RANK": str(rank), "PYTHONPATH": paths},
            stdout=subprocess.DEVNULL,
        )
        for rank in range(count)
    ]
    try:
        assert [process.wait(timeout=240) for process in processes] == [0] * count
    finally:
        for process in processes:
            process.kill()
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in range(count)]


def fit_all(cases: str, street: Path, cache: Path, devices: int = 1) -> dict[str, dict]:
    chosen = {"FEW": FEW, "CASES": CASES, "WIDE": WIDE, "FULL": FULL}[cases]
    results = {name: fit(street, cache, overrides, devices=devices) for name, overrides in chosen.items()}
    if devices == 1 and chosen is CASES:
        results |= {f"turned {turn}": turned(street, cache, CASES["20 losses"], turn) for turn in TURNS}
    return results


if __name__ == "__main__":
    torch.set_num_threads(1)
    street, cache, out = map(Path, sys.argv[1:4])
    results = fit_all(sys.argv[4], street, cache, int(sys.argv[5]))
    torch.save(results, out / f"{os.environ['LOCAL_RANK']}.pt")
