"""Checks of a run directory before it is used: which run it belongs to, and whether its files can be read."""

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from src.config import below_run_dir, flatten
from src.errors import UserError, brief
from src.schema.roles import MAY_CHANGE, MAY_EXTEND

log = logging.getLogger(__name__)

_FOLDERS = ("checkpoints", "nan", "pictures", "submission", "tensorboard", "wandb")
_FILES = (
    ".lock", "config.yaml", "record.json", "metrics.csv", "metrics.json", "report.html", "wandb_id.txt",
    "confusion.png", "benchmark.json", "job.json", "checkpoints/best.ckpt", "checkpoints/last.ckpt",
)  # fmt: skip


def check_kinds(directory: Path, task: str) -> None:
    """Raises UserError if there is a file where the run needs a folder, or the other way round; also if the
    directory contains files that are not a run's, such as / or a home directory."""
    ours = (".lock", "config.yaml", "job.json", "record.json", "checkpoints")
    if directory.is_dir() and any(directory.iterdir()) and not any((directory / n).exists() for n in ours):
        raise UserError(
            f"{directory}: a folder with files that are not a run's. Choose another name=, or runs_dir=."
        )
    for name in _FOLDERS:
        path = directory / name
        if path.exists() and not path.is_dir():
            raise UserError(f"{path}: a file, but the run needs a folder there. Move it away.")
    for name in (*_FILES, f"{task}.log"):
        path = directory / name
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: {_kind(path)}, but the run needs a file there. Move it away.")


def _kind(path: Path) -> str:
    return "a folder" if path.is_dir() else "not a regular file"


def read_metrics(path: Path) -> dict[str, Any] | None:
    """The content of a metrics.json; None if it does not exist. Raises UserError if it is damaged."""
    if not path.exists():
        return None
    try:
        metrics = json.loads(path.read_text())
        if not isinstance(metrics, dict) or not isinstance(metrics.get("mIoU"), float | int | None):
            raise TypeError("not the metrics of a run")
        return metrics
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(
            f"{path}: damaged ({error}). Delete it, and the same command writes it anew."
        ) from error


def csv_rows(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; none if the file is missing or damaged."""
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        log.warning("%s is damaged (%s), and is not used.", path, error)
        return []


def kept_id(directory: Path) -> str | None:
    """The run's id in its record.json; None if that is missing, damaged, or from before runs had ids."""
    try:
        kept = json.loads((directory / "record.json").read_text())["run"]
        return kept if isinstance(kept, str) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def check_own(directory: Path, checkpoint: Mapping[str, Any], path: Path) -> None:
    """Raises UserError if the run id in the checkpoint is not the one in the directory's record.json."""
    writer, own = checkpoint.get("run"), kept_id(directory)
    if not isinstance(writer, dict) or own is None or writer.get("id") == own:
        return
    raise UserError(
        f"{path}: written by another run, name={brief(writer.get('name'))} with the id "
        f"{brief(writer.get('id'))}; the id of {directory} is {own!r}. Put the run's own file back, or copy "
        f"its own best.ckpt over last.ckpt. To begin with the other run's weights, start a new run: "
        f"checkpoint={path} name=..."
    )


def check_same_config(directory: Path, config: Mapping[str, Any]) -> None:
    """Raises UserError if a resumed run would compute something else than before."""
    kept = directory / "config.yaml"
    if not kept.exists():
        return
    loaded = _load(kept)
    before, now = (
        {key: below_run_dir(str(c.get("run_dir")), value) for key, value in flatten(c)}
        for c in (loaded, config)
    )
    keys = [key for key in config if key in loaded]
    if len(keys) < len(config) and keys == list(config)[: len(keys)]:
        raise _damaged(kept, f"cut off after {keys[-1] if keys else 'nothing'}")
    allowed = (*MAY_CHANGE, *MAY_EXTEND) if config.get("extend") else MAY_CHANGE
    changed = [
        f"  {key}: {before.get(key)} before, {now.get(key)} now"
        for key in sorted(before.keys() | now.keys())
        if before.get(key) != now.get(key) and (not key.startswith(allowed) or _is_shorter(key, before, now))
    ]
    if changed:
        longer = any(line.startswith(tuple(f"  {key}" for key in MAY_EXTEND)) for line in changed)
        raise UserError(
            f"{directory}: this run was started with another config, it cannot resume with this one:\n"
            + "\n".join(changed)
            + "\nRepeat its own command to resume it, or choose another name=."
            + (_HOW_LONGER.format(directory) if longer and not config.get("extend") else "")
        )


def _is_shorter(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a changed limit of the training is lower than before; null and -1 are no limit."""
    if key not in ("trainer.max_epochs", "trainer.max_steps") or now.get(key) in (None, -1):
        return False
    return before.get(key) in (None, -1) or now[key] < before[key]


def is_extended(directory: Path, config: Mapping[str, Any]) -> bool:
    """Whether this command continues a run beyond the length with which it was started."""
    kept = directory / "config.yaml"
    if not config.get("extend") or not kept.exists():
        return False
    before, now = (dict(flatten(c)) for c in (_load(kept), config))
    return any(before.get(k) != now.get(k) for k in before.keys() | now.keys() if k.startswith(MAY_EXTEND))


def _load(kept: Path) -> dict[str, Any]:
    """The config of a run as plain data: its expressions are compared as texts, never resolved."""
    try:
        loaded: Any = OmegaConf.to_container(OmegaConf.load(kept))
        dict(flatten(loaded))
    except (YAMLError, OmegaConfBaseException, OSError, AttributeError, ValueError, RecursionError) as error:
        raise _damaged(kept, type(error).__name__) from error
    return loaded


_HOW_LONGER = (
    "\nTo train longer, either continue this run: give its own command a larger trainer.max_epochs and "
    "extend=true. Its learning-rate schedule is then spread over the new length, so the learning rate jumps. "
    "Or begin a new run with its weights and a schedule of its own:\n"
    "  checkpoint={}/checkpoints/best.ckpt name=longer trainer.max_epochs=..."
)


def _damaged(kept: Path, how: str) -> UserError:
    return UserError(
        f"{kept}: damaged ({how}), so it cannot be compared with this command's config. "
        f"Delete it if you are sure that the run's config is the same."
    )
