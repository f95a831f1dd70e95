"""Before the first step all ranks compare their config, files and software, which have to be equal.

Otherwise they would train something else than the command says.
"""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from src.config import flatten
from src.data.dataset import SegmentationDataset
from src.errors import UserError, shorten
from src.schema.roles import MAY_DIFFER

# {advice if ranks differ: {name of what has to be equal: its value}}
Facts = dict[str, dict[str, str]]

_COMMAND = "Start every process with the same command."
_FOLDER = "Let all machines share the run directory (runs_dir=...)."
_FILES = "Give all machines the same dataset (data.root=...)."
_SOFTWARE = "Install the same versions on all machines, and check out the same revision of this program."

_PACKAGES = ("torch", "pytorch-lightning", "numpy", "opencv-python-headless", "albumentations", "kornia-rs")


class RankConsistency(Callback):
    """Raises UserError on every rank if the ranks differ. It has to be first in the list of callbacks, since
    in a later one the ranks may already wait for each other.

    Args:
        config: of the run, resolved.
        checkpoint: the one that the run begins with, if any.
    """

    def __init__(self, config: Mapping[str, Any], checkpoint: Path | None):
        self.config = config
        self.checkpoint = checkpoint

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        everyone: list[Facts] = [{} for _ in range(trainer.world_size)]
        dist.all_gather_object(everyone, self._facts(trainer, pl_module))
        check_consistency(everyone)

    def _facts(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> Facts:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        path, training = self.checkpoint, pl_module.hparams["training"]
        return {
            _COMMAND: self._keys(),
            _FOLDER: {"checkpoint to begin with": _digest(path.read_bytes()) if path else "none"},
            _FILES: {
                "training frames": _frames(data.train_set, data.train_sizes),
                "validation frames": _frames(data.val_set, data.val_sizes),
                "instanceIds files": "none" if data.val_set.instances is None else "beside the labels",
                "loss, with its class weights": str(training["loss"] if training else None),
            },
            _SOFTWARE: {name: version(name) for name in _PACKAGES} | {"program (src/)": _program()},
        }

    def _keys(self) -> dict[str, str]:
        directory = str(self.config["run_dir"])
        return {
            key: str(value).replace(directory, "<run_dir>")
            for key, value in flatten(self.config)
            if not key.startswith(MAY_DIFFER)
        }


def check_consistency(everyone: list[Facts]) -> None:
    """Raises UserError that says what differs between which ranks, and what to do."""
    lines = []
    for advice in everyone[0]:
        of_ranks = [facts[advice] for facts in everyone]
        names = dict.fromkeys(name for facts in of_ranks for name in facts)
        differing = [
            f"  {name}: " + "; ".join(f"{value} on rank {ranks}" for value, ranks in values.items())
            for name in names
            if len(values := _ranks_by_value([facts.get(name, "missing") for facts in of_ranks])) > 1
        ]
        if differing:
            lines += [shorten(differing), f"  {advice}"]
    if lines:
        raise UserError("\n".join(["The processes of this run do not agree:", *lines]))


def _ranks_by_value(values: list[str]) -> dict[str, str]:
    return {v: ", ".join(str(rank) for rank, other in enumerate(values) if other == v) for v in values}


def _frames(dataset: SegmentationDataset | None, sizes: list[tuple[int, int]]) -> str:
    if dataset is None:
        return "none"
    names = [f"{pair.name} {size}" for pair, size in zip(dataset.pairs, sizes, strict=True)]
    return f"{len(names)} ({_digest(chr(10).join(names).encode())})"


def _program() -> str:
    root = Path(__file__).resolve().parents[2]
    return _digest(b"".join(path.read_bytes() for path in sorted(root.rglob("*.py"))))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:8]
