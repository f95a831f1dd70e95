"""Builds a Trainer from the trainer group: devices, strategy, synchronised BatchNorm, safe checkpoints."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.accelerators import (
    AcceleratorRegistry,
    CPUAccelerator,
    CUDAAccelerator,
    MPSAccelerator,
)
from pytorch_lightning.callbacks import ProgressBar as AnyProgressBar
from pytorch_lightning.loggers import Logger
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from src.errors import UserError
from src.runs.allocator import keep_freed_memory
from src.training.callbacks.epoch_lines import ProgressBar
from src.training.callbacks.time_left import TimeLeft
from src.training.reliability.lightning_internals import leave_signals_alone, resume_by_epochs
from src.training.reliability.preemption import StopOnSignal, end_workers
from src.training.reliability.rank_watchdog import PATIENCE, RankWatchdog
from src.training.reliability.sync_batchnorm import SyncOverRanks
from src.weights.checkpoint_files import AtomicCheckpointIO


def build_trainer(
    config: Mapping[str, Any], callbacks: Sequence[Callback] = (), loggers: Sequence[Logger] = ()
) -> Trainer:
    """A Trainer from the values of the trainer group.

    Raises UserError where the machine or the values do not allow it.
    """
    arguments = dict(config)
    set_fp32_precision(arguments.pop("fp32_precision"))
    on_cpu, devices = _devices(arguments["accelerator"], arguments["devices"])
    plugins: list[Any] = [AtomicCheckpointIO()]
    if arguments.pop("sync_batchnorm"):
        plugins.append(SyncOverRanks())
    if on_cpu:
        # Lightning would give each of several processes its share of the cores. Sums over another number of
        # threads are rounded differently, so that a pixel's class could depend on the number of devices.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
        keep_freed_memory()
    has_bar = any(isinstance(callback, AnyProgressBar) for callback in callbacks)
    bar = [ProgressBar()] if arguments["enable_progress_bar"] and not has_bar else []
    several = devices * arguments["num_nodes"] > 1
    if arguments["strategy"] == "ddp" or (arguments["strategy"] == "auto" and several):
        # broadcast_buffers: DDP's broadcast in each forward pass hangs when devices validate unequal numbers
        # of batches; SegmentationModule broadcasts once per validation instead.
        arguments["strategy"] = DDPStrategy(
            broadcast_buffers=False, gradient_as_bucket_view=True, timeout=timedelta(minutes=PATIENCE)
        )
    try:
        trainer = Trainer(
            **arguments,
            callbacks=[TimeLeft(), *callbacks, *bar, StopOnSignal(), RankWatchdog()],
            logger=list(loggers) or False,
            plugins=plugins,
            # Our samplers already split the data over the ranks, and never repeat an image for equal shares.
            use_distributed_sampler=False,
            enable_autolog_hparams=False,  # the whole config is logged instead
        )
    except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
        raise UserError(
            f"The trainer cannot be set up: {error}\nCheck the keys of `trainer` (conf/trainer)."
        ) from error
    # A debugging aid: in a deterministic training it would write each empty tensor once more.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    leave_signals_alone(trainer)
    resume_by_epochs(trainer)
    return trainer


def set_fp32_precision(how: str) -> None:
    """Sets how this process computes float32 convolutions and matrix products on NVIDIA GPUs.

    Args:
        how: "ieee" or "tf32".
    """
    # Set by the older names: parts of PyTorch, such as torch.compile, still read them, and raise an error if
    # the newer ones (torch.backends.cudnn.conv.fp32_precision) have been set.
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = how == "tf32"


@contextmanager
def honest_exit(trainer: Trainer) -> Iterator[None]:
    """Wraps a Trainer's work, so that a signal shows in how the process ends: KeyboardInterrupt after Ctrl-C
    (Lightning: exit code 1); 128 plus the signal's number after any other, such as 143 (Lightning: 0)."""
    stop = next(callback for callback in trainer.callbacks if isinstance(callback, StopOnSignal))  # type: ignore[attr-defined]
    try:
        with stop.listening(trainer):
            yield
    except BaseException as error:
        if stop.ended:
            end_workers()
        if stop.ended == signal.SIGINT:
            raise KeyboardInterrupt from error
        if stop.ended:
            raise SystemExit(128 + stop.ended) from error
        if isinstance(error, SystemExit):  # Lightning raises it for a KeyboardInterrupt
            raise KeyboardInterrupt from error
        about_keys = isinstance(error, ValueError) and "val_check_interval" in str(error)
        if about_keys or isinstance(error, MisconfigurationException):
            raise UserError(
                f"Lightning refuses: {error}\nCheck the keys of `trainer` (conf/trainer)."
            ) from error
        raise


def _devices(accelerator: str, devices: Any) -> tuple[bool, int]:
    """(on the CPU, number of devices per node), as Lightning will decide it."""
    if accelerator == "auto":
        on_cpu = not any(AcceleratorRegistry.get(name).is_available() for name in ("cuda", "mps"))
    else:
        on_cpu = accelerator == "cpu"
        usable = {
            "cpu": (CPUAccelerator,),
            "gpu": (CUDAAccelerator, MPSAccelerator),
            "cuda": (CUDAAccelerator,),
            "mps": (MPSAccelerator,),
        }[accelerator]
        if not any(kind.is_available() for kind in usable):
            raise UserError(
                f"trainer.accelerator={accelerator}: PyTorch can use no GPU here; python -m src.doctor says "
                f"more. Choose auto, which takes what is available."
            )
    try:
        if on_cpu:
            return True, 1 if devices in ("auto", -1, "-1") else int(CPUAccelerator.parse_devices(devices))
        if accelerator in ("auto", "gpu", "cuda") and CUDAAccelerator.is_available():
            if devices in ("auto", -1, "-1"):
                return False, CUDAAccelerator.auto_device_count()
            return False, len(CUDAAccelerator.parse_devices(devices) or [])
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise UserError(f"trainer.devices={devices}: {error}") from error
    return False, 1
