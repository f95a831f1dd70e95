"""Checkpoints: written completely or not at all, and read as plain data."""

import io
import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor

from src.errors import UserError, counted, shorten
from src.runs.atomic_files import write_bytes
from src.weights.checkpoint_content import check_content
from src.weights.checkpoint_schema import check_schema
from src.weights.safe_pickle import Pickled, read_pickle
from src.weights.shipped import weights_path
from src.weights.tensor_checks import fault
from src.weights.unpickler import shown

WAYS_ON = "copy best.ckpt over it to resume from there, or delete it to start anew."
"""What to do about a last.ckpt that cannot be used."""
_REQUIRED = {"state_dict", "hyper_parameters"}
_OF_A_TRAINING = ("epoch", "global_step", "loops", "callbacks", "optimizer_states", "lr_schedulers")
_FOREIGN = {  # (offset, bytes there in lower case): other files that are taken for checkpoints
    (0, b"version https://git-lfs"): "a pointer of Git LFS: run git lfs pull",
    (0, b"<"): "a web page",
    (0, b"\x1f\x8b"): "a gzip archive: unpack it",
    (0, b"\x89hdf"): "an HDF5 file",
    (257, b"ustar"): "a tar archive: unpack it, or write it again with torch.save",
    (
        8,
        b'{"',
    ): "a safetensors file. This makes one that can be read: "
    "torch.save(safetensors.torch.load_file(...), 'weights.pth')",
}
_COMPUTED_WITH = ("state_dict", "current_model_state", "optimizer_states")
_RECORDED = {"model", "data", "classes", "precision"}  # arguments of SegmentationModule


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a temporary file and renames it: a kill or a full disk leaves the previous file unchanged."""

    def __init__(self) -> None:
        self._read: dict[Path, dict[str, Any]] = {}

    def hand_over(self, path: Path, checkpoint: dict[str, Any]) -> None:
        """Let the next `load_checkpoint` of this path return what was read from it before, and checked."""
        self._read[path] = checkpoint

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Raises CannotWriteError."""
        target = Path(path)
        data = io.BytesIO()  # torch.save hides why a file could not be written
        torch.save(checkpoint, data)
        target.parent.mkdir(exist_ok=True)  # no parents: a removed run directory is not made again
        write_bytes(target, data.getbuffer(), durable=True)

    def remove_checkpoint(self, path: Any) -> None:
        """Deletes only a single file: its name comes from last.ckpt, and Lightning would delete a folder."""
        target = Path(path)
        if target.suffix == ".ckpt" and ".." not in target.parts and not target.is_dir():
            target.unlink(missing_ok=True)

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The checkpoint that a run resumes from, on the CPU; Lightning moves it to the device.

        Raises UserError also for what no training records, and if a weight, or its state in the optimizer,
        is not finite.
        """
        if (checkpoint := self._read.pop(Path(path), None)) is not None:
            return checkpoint
        try:
            checkpoint = load_checkpoint(path)
            if missing := [key for key in _OF_A_TRAINING if key not in checkpoint]:
                raise UserError(
                    f"{path}: {', '.join(missing)} missing: it is no whole checkpoint of a training."
                )
            check_schema(checkpoint, str(path))
            _check_finite(checkpoint, path)
            return checkpoint
        except UserError as error:
            raise UserError(f"{error.text}\nThe run cannot resume from it: {WAYS_ON}") from error


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """A checkpoint that training wrote, on the CPU. Raises UserError if it is missing, damaged or foreign."""
    path = weights_path(path)
    refuse = partial(_refusal, path, "Give the best.ckpt or last.ckpt of a run.")
    pickled = _read(path, refuse, ours=True)
    try:
        check_content(pickled)
    except ValueError as error:
        raise refuse(f"not one that training wrote ({error}); nothing in the file was executed") from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    # Any type: the errors that foreign files lead to have none in common. The error's text is left out:
    # torch advises to load the file without `weights_only`, which would execute it.
    except Exception as error:
        raise refuse("holds more than tensors and plain values; nothing in the file was executed") from error
    missing = _REQUIRED - _keys(checkpoint)
    missing |= _RECORDED - _keys(checkpoint["hyper_parameters"]) if not missing else set()
    if missing:
        raise refuse(f"not a checkpoint of this project's training, {', '.join(sorted(missing))} missing")
    return checkpoint


def _check_finite(checkpoint: dict[str, Any], path: Any) -> None:
    waiting = [(key, checkpoint.get(key)) for key in _COMPUTED_WITH]
    lines: list[str] = []
    while waiting:
        where, value = waiting.pop(0)
        if isinstance(value, dict):
            waiting += [(f"{where}.{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list | tuple):
            waiting += [(f"{where}.{key}", inner) for key, inner in enumerate(value)]
        elif isinstance(value, float) and not math.isfinite(value):
            lines.append(f"  {where}: {value}")
        elif isinstance(value, Tensor) and (problem := fault(where, value, value.dtype)):
            lines.append(f"  {where}: {problem}")
    if lines:
        raise UserError(f"{path}: {counted(len(lines), 'value')} in it cannot be used:\n{shorten(lines)}")


def read_weights_file(path: str | Path) -> Pickled:
    """The content of any file of weights, as notes: nothing in it is executed.

    Raises UserError if it is missing, damaged, or of an unknown format.
    """
    path = weights_path(path)
    refuse = partial(_refusal, path, "Give the best.ckpt or last.ckpt of a run, or published weights.")
    return _read(path, refuse)


def _read(path: Path, refuse: Callable[[str], UserError], ours: bool = False) -> Pickled:
    if path.is_dir():
        raise refuse(f"a folder; did you mean {path}/checkpoints/best.ckpt")
    if not path.is_file():
        raise refuse("no such file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise refuse(f"cannot be read ({error})") from error
    for (begin, signature), kind in _FOREIGN.items():
        if content[begin:].lower().startswith(signature):
            raise refuse(f"not a checkpoint, but {kind}")
    if ours or content.startswith(b"PK"):
        check_archive(content, refuse)
    try:
        return read_pickle(content)
    except Exception as error:  # of any type, in a file that may hold anything
        raise refuse(
            f"not a checkpoint, or one that is damaged or cut off ({shown(error) or type(error).__name__}); "
            f"nothing in the file was executed"
        ) from error


def _refusal(path: Path, advice: str, what: str) -> UserError:
    return UserError(f"checkpoint={path}: {what}. {advice}")


def check_archive(content: bytes, refuse: Callable[[str], Exception]) -> None:
    """Raises for any archive that Python's reader and torch's could understand differently."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # torch.save writes one
            entries = archive.infolist()
            packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
            names = {entry.filename.lower() for entry in entries}
            twice = len(names) < len(entries) or sum(entry.file_size for entry in entries) > len(content)
            damaged = None if packed or twice else archive.testzip()  # torch.load verifies no checksums
    except Exception as error:
        raise refuse("not a checkpoint, or a damaged one; nothing in the file was executed") from error
    if packed:  # torch.save does not compress, and a compressed archive can unpack to any size
        raise refuse("not a checkpoint: a compressed archive")
    if twice or not content.startswith(b"PK\x03\x04"):
        raise refuse("not a checkpoint: an archive that torch.save does not write")
    if damaged:
        raise refuse(f"damaged, {damaged} in it has a wrong checksum")
    if any(name.endswith("/constants.pkl") for name in names):
        raise refuse(
            "a TorchScript program. Its code is not executed; give the weights: "
            "torch.save(torch.jit.load(...).state_dict(), 'weights.pth')"
        )


def _keys(content: Any) -> set[str]:
    return set(content) if isinstance(content, dict) else set()
