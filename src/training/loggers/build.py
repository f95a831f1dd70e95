"""Loggers from the logger group: metrics.csv always; W&B, TensorBoard and the user's own on request."""

import netrc
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from uuid import uuid4

from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger

from src.errors import UserError
from src.objects import build
from src.training.loggers.csv import MetricsCSV
from src.training.loggers.wandb import EnduringWandbLogger


def build_loggers(config: Mapping[str, Any], run_dir: Path, name: str) -> list[Logger]:
    """metrics.csv, then a logger for each entry of the group that is not null, in their order.

    Raises UserError for an entry that is not a logger, or whose package is not installed.
    """
    entries = {key: entry for key, entry in config.items() if entry is not None}
    built = [_build(key, entry, run_dir, name) for key, entry in entries.items()]
    return [MetricsCSV(run_dir / "metrics.csv"), *built]


def _build(key: str, entry: Any, run_dir: Path, name: str) -> Logger:
    if isinstance(entry, Mapping) and "_target_" in entry:
        return _of_one_s_own(key, entry)
    if key == "wandb" and isinstance(entry, Mapping):
        return _wandb(entry, run_dir, name)
    if key == "tensorboard" and isinstance(entry, Mapping):
        try:
            return TensorBoardLogger(run_dir, name="tensorboard", version="", **entry)
        except ModuleNotFoundError as error:
            raise UserError("logger=tensorboard needs the package: pip install tensorboard") from error
    raise UserError(
        f"logger.{key}={entry}: not a logger. Your own logger needs a _target_, such as "
        f"{{_target_: pytorch_lightning.loggers.MLFlowLogger}}; wandb and tensorboard need the keys of their "
        f"files in conf/logger. null switches an entry off."
    )


def _of_one_s_own(key: str, entry: Mapping[str, Any]) -> Logger:
    target = entry["_target_"]
    try:
        logger = build(f"logger.{key}", entry)
    except UserError as error:
        cause = error.__cause__ and error.__cause__.__cause__
        if not isinstance(cause, ModuleNotFoundError):
            raise
        raise UserError(f"logger.{key}: {target} needs a package that is not installed. {cause}") from error
    if not isinstance(logger, Logger):
        raise UserError(
            f"logger.{key}: {target} gives a {type(logger).__name__}, which is no Lightning logger "
            f"(a subclass of pytorch_lightning.loggers.Logger)."
        )
    return logger


def _wandb(config: Mapping[str, Any], run_dir: Path, name: str) -> WandbLogger:
    """A W&B logger that never asks for a login: without one it is offline.

    A run that resumes continues its W&B run.
    """
    arguments = dict(config)
    if arguments["offline"] == "auto":
        arguments["offline"] = not _logged_in()
    if arguments["offline"]:
        os.environ.setdefault("WANDB_MODE", "offline")
    os.environ.setdefault("WANDB_SILENT", "true")
    return EnduringWandbLogger(
        name=name, save_dir=run_dir, id=arguments.pop("id") or _kept_id(run_dir), resume="allow", **arguments
    )


def _kept_id(run_dir: Path) -> str:
    """The id of the W&B run, kept in the run directory once that exists (see Run.open)."""
    kept = run_dir / "wandb_id.txt"
    if not kept.exists():
        return uuid4().hex[:8]
    found = kept.read_bytes().decode(errors="replace").strip()
    if not re.fullmatch(r"[\w-]{1,64}", found):
        raise UserError(
            f"{kept}: damaged, not the id of a W&B run. Write the id into it (the end of the address of the "
            f"run's page), or delete the file: then W&B begins a new run."
        )
    return found


def keep_wandb_id(loggers: list[Logger], run_dir: Path) -> None:
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            (run_dir / "wandb_id.txt").write_text(f"{logger.version}\n")


def _logged_in() -> bool:
    """Whether W&B would find an API key where it documents to look: WANDB_API_KEY and the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
