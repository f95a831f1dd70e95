"""Loggers from the logger group, each an object with a `_target_`; metrics.csv in every training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from src.errors import UserError
from src.objects import build
from src.runs.atomic_files import write_text
from src.training.loggers.mlflow import EnduringMLFlowLogger, keep_mlflow_id
from src.training.loggers.wandb import EnduringWandbLogger


def build_loggers(config: Mapping[str, Any]) -> list[Logger]:
    """A logger for each entry of the group that is not null, in their order.

    Raises UserError for an entry that is not a logger, or whose package is not installed.
    """
    return [_build(f"logger.{key}", entry) for key, entry in config.items() if entry is not None]


def _build(key: str, entry: Any) -> Logger:
    if not isinstance(entry, Mapping) or "_target_" not in entry:
        raise UserError(
            f"{key}={entry}: not a logger. It needs a _target_, such as "
            f"{{_target_: pytorch_lightning.loggers.MLFlowLogger}}. null switches an entry off."
        )
    target = entry["_target_"]
    try:
        logger = build(key, entry)
    except UserError as error:
        cause = error.__cause__ and error.__cause__.__cause__
        if not isinstance(cause, ModuleNotFoundError):
            raise
        raise UserError(f"{key}: {target} needs a package that is not installed. {cause}") from error
    if not isinstance(logger, Logger):
        raise UserError(
            f"{key}: {target} gives a {type(logger).__name__}, which is no Lightning logger "
            f"(a subclass of pytorch_lightning.loggers.Logger)."
        )
    return logger


def keep_ids(loggers: Sequence[Logger], run_dir: Path) -> None:
    """Keeps in the run directory what W&B and MLflow need to continue their run when it resumes."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            write_text(run_dir / "wandb_id.txt", f"{logger.version}\n")
        elif isinstance(logger, EnduringMLFlowLogger):
            logger.attempt(keep_mlflow_id, logger, run_dir)


@contextmanager
def ended_with_exit_code(loggers: Sequence[Logger]) -> Iterator[None]:
    """Ends W&B runs at the end, as failed ones after any exception."""
    failed = True
    try:
        yield
        failed = False
    finally:
        for logger in loggers:
            if isinstance(logger, EnduringWandbLogger):
                logger.finish(exit_code=int(failed))
