"""Checkpoints: written whole or not at all, and read as plain data."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from src.errors import UserError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a kill or a full disk leaves the previous file as it was."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint that training wrote, on the CPU. Raises UserError: missing, damaged or foreign."""
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint={path}: no such file. Give the best.ckpt or last.ckpt of a run.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"checkpoint={path}: not a checkpoint of plain tensors, or damaged ({reason}). "
            f"Give the best.ckpt or last.ckpt of a run; nothing in the file was executed."
        ) from error
    missing = {"state_dict", "hyper_parameters"} - set(checkpoint if isinstance(checkpoint, dict) else ())
    if missing:
        raise UserError(
            f"checkpoint={path}: {' and '.join(sorted(missing))} missing, so it is no checkpoint of this "
            f"project's training. Give the best.ckpt or last.ckpt of a run."
        )
    return checkpoint
