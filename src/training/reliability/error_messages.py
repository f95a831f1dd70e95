"""Messages for failures from outside the program: what happened, what is kept, what helps."""

import errno
import os
import re
import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from src.errors import UserError
from src.runs.atomic_files import CannotWriteError, nearest_existing
from src.runs.directory import Run
from src.runs.open_files import MORE_FILES
from src.schema.keys import TARGETS
from src.training.loggers.csv import MetricsCSV
from src.training.reliability.rank_watchdog import RankWatchdog
from src.weights.checkpoint_files import WAYS_ON

_NO_MEMORY = re.compile(
    r"(can't|cannot) allocate memory|not enough memory|out of memory|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_FULL = (errno.ENOSPC, errno.EDQUOT)
_OUTSIDE = (  # errors of operations on files that are no fault of the program
    *_FULL, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EIO, errno.ESTALE, errno.ENOTCONN,
    errno.EMFILE, errno.ENFILE, errno.ENODEV, errno.ENXIO,
)  # fmt: skip


@contextmanager
def clear_errors(run: Run, trainer: pl.Trainer) -> Iterator[None]:
    """Wraps a Trainer's work: a failure from outside the program becomes a UserError that says what is kept
    and how to resume. Any other error is a fault of the program, and is raised unchanged."""
    guard = RunGuard(run)
    trainer.callbacks.insert(0, guard)  # type: ignore[attr-defined]
    try:
        yield
    except Exception as error:
        if isinstance(error, UserError) and not isinstance(error, CannotWriteError):
            raise
        if run.last_checkpoint and _is_restoring(error):
            raise UserError(
                f"{run.last_checkpoint}: the run cannot resume from it ({type(error).__name__}: {error}): "
                f"{WAYS_ON}"
            ) from error
        text = _of_a_logger(error, run.config, trainer) or explain(
            error, run.config, trainer, guard.was_training
        )
        if text is None:
            raise
        run.check_in_place()
        raise UserError(f"{text}\n{_what_is_kept(run)}") from error
    finally:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, RankWatchdog):
                callback.stop()


def _is_restoring(error: BaseException) -> bool:
    """Whether the error was raised while Lightning restored the content of a checkpoint."""
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any("checkpoint_connector" in f.co_filename and "restore" in f.co_name for f in frames)


class RunGuard(Callback):
    """Creates the folders of the checkpoints, writes no checkpoint once the run directory was replaced, puts
    the run's id, name and origin into each, and records whether an error came from training or validation."""

    def __init__(self, run: Run):
        self.run = run
        self.was_training = False

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for callback in trainer.checkpoint_callbacks:
            if trainer.is_global_zero and isinstance(callback, ModelCheckpoint) and callback.dirpath:
                Path(callback.dirpath).mkdir(parents=True, exist_ok=True)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.run.check_in_place()
        checkpoint["run"] = {"id": self.run.id, "name": self.run.config["name"], **self.run.origin}

    def on_exception(self, trainer: pl.Trainer, *args: Any) -> None:
        self.was_training = bool(trainer.training)  # the Trainer resets it before it raises


def explain(error: BaseException, config: dict[str, Any], trainer: pl.Trainer, training: bool) -> str | None:
    """The message for the first known error in the chain that led to this one; None if there is none."""
    cause: BaseException | None = error
    while cause is not None:
        text = _explain(cause, config, trainer, training)
        if text is not None:
            return text
        # A fault of the program may occur while another error, such as a missing file, is being handled.
        chained = isinstance(cause, OSError | RuntimeError) and not cause.__suppress_context__
        cause = cause.__cause__ or (cause.__context__ if chained else None)
    return None


def _of_a_logger(error: BaseException, config: dict[str, Any], trainer: pl.Trainer) -> str | None:
    """The message for an error within a logger of the user's own; None for any other error."""
    entries = {key: entry for key, entry in (config.get("logger") or {}).items() if entry is not None}
    configured = [logger for logger in trainer.loggers if not isinstance(logger, MetricsCSV)]
    own = {
        id(logger): f"logger.{key}"
        for key, logger in zip(entries, configured, strict=False)
        if entries[key]["_target_"] not in TARGETS  # else a file of conf/logger
    }
    call = error.__traceback__
    while call is not None:
        logger = call.tb_frame.f_locals.get("self")
        if id(logger) in own:
            key = own[id(logger)]
            kind = f"{type(logger).__module__}.{type(logger).__name__}"
            return (
                f"{key} ({kind}) has failed: {type(error).__name__}: {error}\n"
                f"Fix it, or continue without it: {key}=null."
            )
        call = call.tb_next
    return None


def _explain(error: BaseException, config: dict[str, Any], trainer: pl.Trainer, training: bool) -> str | None:
    text = str(error)
    if isinstance(error, CannotWriteError):
        return f"{error.text} A file that was there before is unchanged."
    if isinstance(error, RuntimeError) and "returned nan values in its" in text:  # trainer.detect_anomaly
        return f"{text}\nThe warning above shows where in the forward pass this operation is."
    if isinstance(error, RuntimeError) and "DataLoader worker (pid" in text:
        return _worker_died(text, trainer)
    if _is_about_shared_memory(error):
        return (
            f"The shared memory (/dev/shm, {_free(Path('/dev/shm'))} free), through which the data workers "
            f"pass their batches, is full: {_last_line(error)}.\n{_LESS_SHARED_MEMORY}"
        )
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError | OSError) and _NO_MEMORY.search(text)
    ):
        return _out_of_memory(error, config["data"], trainer, training)
    number = _errno(error)
    if number in (errno.EMFILE, errno.ENFILE) or "received 0 items of ancdata" in text:
        return f"Too many files are open at once ({_last_line(error)}).\n{MORE_FILES}"
    if number in _OUTSIDE:
        return _file_trouble(error, number)
    return None


def _errno(error: BaseException) -> int:
    """The error number; 0 if there is none. A data worker's error arrives as text, with the number in it."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = re.findall(r"\[Errno (\d+)\]|\((\d+)\)\s*$", str(error)) if isinstance(error, OSError) else []
    return int("".join(found[-1])) if found else 0


def _is_about_shared_memory(error: BaseException) -> bool:
    text = str(error)
    if isinstance(error, RuntimeError) and re.search(
        r"shared memory|</torch_|unable to (mmap|open|write)", text
    ):
        return "No space left" in text or "Cannot allocate" in text
    # A queue's semaphore is a file in /dev/shm; Python's error does not contain its name.
    full_without_a_name = isinstance(error, OSError) and error.errno == errno.ENOSPC and not error.filename
    return full_without_a_name and _share_free(Path("/dev/shm")) < 0.01


def _file_trouble(error: BaseException, number: int) -> str:
    name = getattr(error, "filename", None)
    where = f"{name}: " if name else ""
    if number in _FULL:
        places = [Path(name)] if name else [Path(os.environ.get("TMPDIR", "/tmp")), Path("/dev/shm")]
        room = ", ".join(f"{place}: {_free(place)} free" for place in places)
        return f"{where}no space left on the disk ({room}). Make room."
    return (
        f"{where}{_last_line(error)}. Has a disk, or a folder of the run or of the dataset, been removed, "
        f"unmounted or made read-only?"
    )


def _worker_died(text: str, trainer: pl.Trainer) -> str:
    found = re.search(r"DataLoader worker \(pid\(?s?\)? ?[\d, ]+\).*", text)
    what = found.group(0).strip() if found else "A data worker has ended."
    if "Bus error" in text:
        return (
            f"{what}\nA data worker could not access a file that it had mapped into memory: /dev/shm "
            f"({_free(Path('/dev/shm'))} free) is full, or a disk was removed.\n{_LESS_SHARED_MEMORY}"
        )
    return (
        f"{what}\nUsually the system has killed it because the memory of the machine or the job ran out "
        f"(dmesg, or the cluster's report, says so). Fewer workers take less: data.num_workers (now "
        f"{_workers(trainer)} per device); or ask for more memory."
    )


_LESS_SHARED_MEMORY = (
    "Fewer workers take less of it (data.num_workers=2; 0 takes none). In a container it is 64 MB unless one "
    "asks for more (docker run --shm-size=8g, or --ipc=host)."
)


def _out_of_memory(error: BaseException, data: dict[str, Any], trainer: pl.Trainer, training: bool) -> str:
    devices, parts = trainer.world_size, trainer.accumulate_grad_batches
    on_device = trainer.strategy.root_device.type != "cpu" and not isinstance(error, MemoryError)
    where = f"The memory of {trainer.strategy.root_device}" if on_device else "The memory of the machine"
    head = f"{where} is not enough: {_last_line(error)}."
    if training:
        total = data["batch_size"]
        head += (
            f"\nIn training: {total // (devices * parts)} crops of {data['crop_size'][0]}x"
            f"{data['crop_size'][1]} per device (data.batch_size={total} = {devices} device(s) x {parts} "
            f"accumulated x {total // (devices * parts)}), trainer.precision={trainer.precision}."
        )
        more = [n for n in range(parts + 1, total + 1) if total % (devices * n) == 0]
        ways = (
            [f"trainer.accumulate_grad_batches={_or(more)}: the same batch in smaller parts"] if more else []
        )
        more = [n for n in range(devices + 1, total + 1) if total % (n * parts) == 0]
        ways += [f"trainer.devices={_or(more)}: the same batch on more devices"] if more else []
        last = "another recipe: a smaller data.crop_size, or a smaller data.batch_size"
    else:
        size = data["val_batch_size"]
        head += (
            f"\nIn validation: up to {size} whole frames per device (data.val_batch_size={size}), "
            f"trainer.precision={trainer.precision}."
        )
        ways = ["data.val_batch_size=1: the same metrics"] if size > 1 else []
        last = "a device with more memory"
    if not on_device and _workers(trainer):
        ways.append(f"data.num_workers: fewer than {_workers(trainer)}")
    if trainer.precision == "32-true":
        ways.append("trainer.precision=bf16-mixed: needs less memory, rounds differently")
    tries = "\n".join(f"  {way}" for way in [*ways, last])
    return f"{head}\nWhat helps, beginning with changes that keep the recipe:\n{tries}"


def _or(numbers: list[int], shown: int = 4) -> str:
    return " or ".join(str(number) for number in numbers[:shown])


def _workers(trainer: pl.Trainer) -> int:
    return trainer.datamodule.workers(trainer.num_devices)  # type: ignore[attr-defined]


def _last_line(error: BaseException) -> str:
    """The line that names the error, without the traceback that a data worker's error carries."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        (lines[-1] if "Original Traceback" in str(error) else lines[0]).rstrip(".") if lines else "no memory"
    )


def _free(place: Path) -> str:
    try:
        return f"{shutil.disk_usage(nearest_existing(place)).free / 1e6:,.0f} MB"
    except OSError:
        return "nothing"


def _share_free(place: Path) -> float:
    try:
        usage = shutil.disk_usage(place)
    except OSError:
        return 1.0
    return usage.free / usage.total if usage.total else 1.0


def _what_is_kept(run: Run) -> str:
    if run.config["task"] != "train":
        return "The same command begins anew."
    last = run.last_checkpoint
    if last is None:
        return "No checkpoint had been written yet: the same command begins anew."
    saved = datetime.fromtimestamp(last.stat().st_mtime).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{last}, saved {saved}, is whole: the same command with name={run.config['name']} resumes from it."
    )
