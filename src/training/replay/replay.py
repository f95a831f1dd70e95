"""Replays a step that NanGuard has kept: its batch, its state before, with each operation watched."""

import logging
import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from yaml import YAMLError

from src.config import plain
from src.errors import UserError
from src.network.trust import trust
from src.training.distillation import load_teacher
from src.training.module import SegmentationModule
from src.training.reliability.lightning_internals import loss_scaler
from src.training.replay.first_not_finite import FirstNotFinite, Found
from src.training.trainer import build_trainer

_ONE_STEP = {
    "devices": 1, "num_nodes": 1, "strategy": "auto", "max_epochs": 1, "max_steps": 1, "min_epochs": None,
    "min_steps": None, "max_time": None, "limit_train_batches": None, "limit_val_batches": 0,
    "overfit_batches": 0, "fast_dev_run": False, "val_check_interval": None, "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0, "enable_progress_bar": False, "enable_checkpointing": False, "profiler": None,
    "detect_anomaly": True, "log_every_n_steps": 1,
}  # fmt: skip


@dataclass
class Replayed:
    """What a replay has found."""

    kept: dict[str, Any]  # the file
    device: str
    precision: str
    loss: float = math.nan
    found: Found | None = None
    gradients: dict[str, float] = field(default_factory=dict)  # the norm of each
    # Largest absolute value of each weight, and of each statistic of BatchNorm.
    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)  # the same after the step

    @property
    def is_finite(self) -> bool:
        values = [self.loss, *self.before.values(), *self.gradients.values(), *self.after.values()]
        return all(map(math.isfinite, values))


class _Module(SegmentationModule):
    """Trains one step from a state that was kept."""

    kept: dict[str, Any]
    watch: FirstNotFinite
    result: Replayed

    def configure_optimizers(self) -> Optimizer:
        return self.build_optimizer(10**6, 10**6)[0]  # its learning rates are those that were kept

    def on_train_start(self) -> None:
        places: dict[str, Tensor] = dict(self.named_buffers(remove_duplicate=False))
        places |= dict(self.named_parameters(remove_duplicate=False))
        with torch.no_grad():
            for name, tensor in self.kept["state_dict"].items():
                places[name].copy_(tensor)
        self.trainer.optimizers[0].load_state_dict(self.kept["optimizer"])
        scaler, scale = loss_scaler(self.trainer), self.kept["loss_scale"]
        if scaler and scale:
            state = scaler.state_dict() | {"scale": scale["scale"], "_growth_tracker": scale["growth"]}
            scaler.load_state_dict(state)
        self.result.before = _largest(self)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        states = self.kept["random"][batch_idx]
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda" and "cuda" in states:
            torch.cuda.set_rng_state(states["cuda"], self.device)
        # Only the places of operations are needed of it: its own check would miss infinities, and break off.
        torch.autograd.set_detect_anomaly(True, check_nan=False)
        self.watch.watching = True

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        super().on_before_optimizer_step(optimizer)
        assert self.step_loss is not None
        self.watch.updating, self.watch.watching = True, False
        self.result.loss = float(self.step_loss)
        self.result.gradients = {
            name: float(p.grad.norm()) for name, p in self.named_parameters() if p.grad is not None
        }
        self.watch.watching = True

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.watch.watching = False
        self.result.after = _largest(self)
        super().on_train_batch_end(outputs, batch, batch_idx)


def _largest(module: SegmentationModule) -> dict[str, float]:
    return {name: float(t.abs().max()) for name, t in module.state_dict().items() if t.is_floating_point()}


def replay(path: Path, accelerator: str | None = None) -> Replayed:
    """Replays a step in this process, on one device.

    Runs the code that the run's own config names, as a resume does.

    Raises UserError.

    Args:
        path: of a run directory, or of a file in its folder `nan`.
        accelerator: instead of that of the run.
    """
    path = _file(path)
    kept = _read(path)
    config = _config(path.parent.parent / "config.yaml")
    trust([kept["hyper_parameters"]["model"]["_target_"]])
    arguments = plain(config.trainer) | _ONE_STEP | {"accumulate_grad_batches": len(kept["batches"])}
    trainer = build_trainer(arguments | ({"accelerator": accelerator} if accelerator else {}))
    hyper_parameters = kept["hyper_parameters"]
    if hyper_parameters["training"]["compile"]:  # the modules of a compiled network cannot be watched
        hyper_parameters = hyper_parameters | {"training": hyper_parameters["training"] | {"compile": False}}
    module = _Module(**hyper_parameters)
    teacher = load_teacher(config)[1]
    assert module.loss is not None
    if teacher is not None:
        module.loss.more_terms.append(teacher)
    module.kept, module.watch = kept, FirstNotFinite()
    module.result = Replayed(kept, str(trainer.strategy.root_device), str(trainer.precision))
    with warnings.catch_warnings(), module.watch, module.watch.names_of(module):
        warnings.simplefilter("ignore")
        trainer.fit(module, DataLoader(kept["batches"], batch_size=None))
    module.result.found = module.watch.found
    return module.result


def _file(path: Path) -> Path:
    if path.suffix == ".pt" and path.is_file():
        return path
    files = [*path.glob("nan/step_*.pt")]
    if not files:
        raise UserError(
            f"{path}: expected the directory of a run that has ended with a loss or weights that are not "
            f"finite, or a file nan/step_*.pt in one. Such a run writes this file, unless "
            f"callbacks.nan_guard.directory is null."
        )
    return max(files, key=lambda file: file.stat().st_mtime)


def _read(path: Path) -> dict[str, Any]:
    with suppress(Exception):  # of any type, in a file that may be damaged
        kept = torch.load(path, map_location="cpu", weights_only=True)
        if isinstance(kept, Mapping) and {"batches", "random", "state_dict", "optimizer"} <= kept.keys():
            return dict(kept)
    raise UserError(f"{path}: damaged, or not a step that a training has written. It cannot be replayed.")


def _config(path: Path) -> Any:
    try:
        config: Any = OmegaConf.load(path)
        if "trainer" in config and "teacher" in config:
            return config
    except (OSError, YAMLError, OmegaConfBaseException):
        pass
    raise UserError(f"{path}: missing or damaged, so it is not known how the run has trained. Put it back.")


def silence_lightning() -> None:
    """Its lines about devices say nothing of the step."""
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
