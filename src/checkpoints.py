"""Checkpoints: written whole or not at all, and read as plain data."""

import io
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from src.errors import UserError
from src.pickles import Pickled, read_pickle, shown
from src.writing import write_bytes

_REQUIRED = {"state_dict", "hyper_parameters"}
_RECORDED = {"model", "data", "classes", "precision"}  # arguments of SegmentationModule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a kill or a full disk leaves the previous file as it was."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Raises CannotWriteError."""
        target = Path(path)
        data = io.BytesIO()  # torch.save hides why a file could not be written
        torch.save(checkpoint, data)
        target.parent.mkdir(exist_ok=True)  # without parents: a run directory that was removed stays away
        write_bytes(target, data.getbuffer(), durable=True)

    def remove_checkpoint(self, path: Any) -> None:
        """A single file, for which the name comes from last.ckpt; Lightning would delete a folder as well."""
        target = Path(path)
        if target.suffix == ".ckpt" and ".." not in target.parts and not target.is_dir():
            target.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """What a run goes on from, on the CPU; Lightning moves it to where it belongs."""
        try:
            return load_checkpoint(path)
        except UserError as error:
            raise UserError(
                f"{error.text}\nThe run cannot go on from it: copy best.ckpt over it to go on from there, "
                f"or delete it to start anew."
            ) from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint that training wrote, on the CPU. Raises UserError: missing, damaged or foreign."""
    path = Path(path).expanduser()
    refuse = partial(_refusal, path, "Give the best.ckpt or last.ckpt of a run.")
    _check_file(path, refuse)
    _check_archive(path, refuse)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # Any type: what a foreign file leads to has no common one. Without its text: torch advises to load the
    # file without `weights_only`, which would execute it.
    except Exception as error:
        raise refuse("holds more than tensors and plain values; nothing in the file was executed") from error
    missing = _REQUIRED - _keys(checkpoint)
    missing |= _RECORDED - _keys(checkpoint["hyper_parameters"]) if not missing else set()
    if missing:
        raise refuse(f"no checkpoint of this project's training, {', '.join(sorted(missing))} missing")
    return checkpoint


def read_weights_file(path: str | Path) -> Pickled:
    """What a file of anybody's weights holds, as notes: nothing in it is executed.

    Raises UserError: missing, damaged, or of no format that is known.
    """
    path = Path(path).expanduser()
    refuse = partial(
        _refusal, path, "Give the best.ckpt or last.ckpt of a run, or weights that are published."
    )
    _check_file(path, refuse)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise refuse(f"cannot be read ({error})") from error
    if content[:2] == b"PK":
        _check_archive(path, refuse)
    try:
        return read_pickle(content)
    except Exception as error:  # of any type, in a file that may hold anything
        raise refuse(
            f"no checkpoint, or one that is damaged or cut off ({shown(error) or type(error).__name__}); "
            f"nothing in the file was executed"
        ) from error


def _refusal(path: Path, advice: str, what: str) -> UserError:
    return UserError(f"checkpoint={path}: {what}. {advice}")


def _check_file(path: Path, refuse: Callable[[str], UserError]) -> None:
    if path.is_dir():
        raise refuse(f"a folder; did you mean {path}/checkpoints/best.ckpt")
    if not path.is_file():
        raise refuse("no such file")


def _check_archive(path: Path, refuse: Callable[[str], UserError]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:  # torch.save writes one
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
            damaged = None if packed else archive.testzip()  # torch.load compares no checksums
    except OSError as error:
        raise refuse(f"cannot be read ({error})") from error
    except Exception as error:
        raise refuse("no checkpoint, or a damaged one; nothing in the file was executed") from error
    if packed:  # torch.save compresses nothing; what does can unpack to any size
        raise refuse("no checkpoint: a compressed archive")
    if damaged:
        raise refuse(f"damaged, {damaged} in it has a wrong checksum")


def _keys(content: Any) -> set[str]:
    return set(content) if isinstance(content, dict) else set()
