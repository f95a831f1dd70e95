"""Checks before anything is made, the fastest first.

Lightning alone takes seconds to import, and a path with a typo should be reported before that.
"""

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import plain
from src.errors import UserError
from src.weights.shipped import SHA256, weights_path

log = logging.getLogger(__name__)


def check_weights_file(path: str | None, key: str = "checkpoint") -> None:
    """Raises UserError if a file is given that does not exist, or a folder."""
    if not path:
        return
    file = weights_path(path)
    if file.is_dir():
        raise UserError(f"{key}={path}: a folder. Give a file, such as {path}/checkpoints/best.ckpt.")
    if not file.exists():
        raise UserError(
            f"{key}={path}: no such file. The networks that come with the project are named "
            f"{', '.join(SHA256)}."
        )


def check_training(config: DictConfig) -> None:
    """Raises UserError for a file of weights or a dataset that is not there, a class that cannot be imported,
    an argument that it does not have, and a network that cannot be built.

    A run that is resumed has its weights and its network in last.ckpt.
    """
    from src.data.layouts import list_split

    values: dict[str, Any] = plain(config)
    data, weights = values["data"], values["checkpoint"]
    if weights and not (Path(config.run_dir) / "checkpoints/last.ckpt").exists():
        check_weights_file(weights)
    check_weights_file(values["teacher"]["checkpoint"], "teacher.checkpoint")
    if not data["street"]:
        splits = (data["train_split"], data["val_split"], values["teacher"]["unlabelled_split"])
        for split in dict.fromkeys(filter(None, splits)):
            list_split(data["layout"], data["root"], split, data)

    import torch

    from src.network.segmenter import Segmenter
    from src.objects import check_objects
    from src.runs.directory import rank
    from src.weights.recorded_network import seen_before

    if not weights:
        # A network of one's own may need values of tensors: then only the training's own start tries it.
        with suppress(NotImplementedError, RuntimeError), torch.device("meta"):
            Segmenter.from_config(values["model"])
    check_objects(values, ("augment", "callbacks", "logger"), ("loss", "optimizer", "schedule"))
    train_split, val_split = data["train_split"], data["val_split"]
    if seen_before([{"data": data["name"], "split": train_split}], data["name"], val_split) and not rank():
        log.warning(
            "WARNING: data.train_split=%s has images of data.val_split=%s: the validation says nothing about "
            "new images.",
            train_split,
            val_split,
        )
