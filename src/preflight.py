"""Checks before anything is made, the fastest first.

Lightning alone takes seconds to import, and a path with a typo should be reported before that.
"""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from src.config import plain
from src.errors import UserError


def check_weights_file(config: DictConfig) -> None:
    """Raises UserError if the file of checkpoint= does not exist."""
    if not Path(config.checkpoint).expanduser().exists():
        raise UserError(f"checkpoint={config.checkpoint}: no such file.")


def check_training(config: DictConfig) -> None:
    """Raises UserError for a file of weights or a dataset that is not there, a class that cannot be imported,
    an argument that it does not have, and a network that cannot be built.

    A run that is resumed has its weights and its network in last.ckpt.
    """
    from src.data.layouts import list_split

    values: dict[str, Any] = plain(config)
    data, weights = values["data"], values["checkpoint"]
    if weights and not (Path(config.run_dir) / "checkpoints/last.ckpt").exists():
        check_weights_file(config)
    if not data["street"]:
        for split in dict.fromkeys((data["train_split"], data["val_split"])):
            list_split(data["layout"], data["root"], split, data)

    import torch

    from src.network.segmenter import Segmenter
    from src.objects import check_objects

    if not weights:
        with torch.device("meta"):
            Segmenter.from_config(values["model"])
    check_objects(values, ("augment", "callbacks", "logger"), ("loss", "optimizer", "schedule"))
