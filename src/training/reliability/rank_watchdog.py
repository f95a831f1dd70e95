"""The processes of a distributed run end together: none waits for ever for one that failed."""

import os
import re
import signal
import sys
import threading
import time
from subprocess import Popen
from typing import NoReturn

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback

from src.errors import UserError
from src.training.reliability.lightning_internals import leave_process_group_at_exit, take_over_ranks
from src.training.reliability.preemption import Stopped

PATIENCE = 10  # minutes that a rank waits for another in a collective operation; Lightning's default is 30
_POLL = 0.2  # seconds
_TO_CLEAN_UP = 60.0  # seconds; a rank whose device waits for another rank would never finish
_FIRST_RANK = "CGNET_FIRST_RANK"
_HOW_TO_RESUME = "All ranks end. The same command resumes from the run's last checkpoint, which is whole."


class RankWatchdog(Callback):
    """Watches the ranks that Lightning started, and ends this one when another has ended in failure.

    Lightning's own watcher kills rank 0 up to 5 s later, so that the command ends without a message and with
    exit code 137; and when rank 0 fails, the others run until their collectives time out (minutes under
    NCCL). Ranks that another launcher started (torchrun, SLURM) are ended by that launcher.
    """

    def __init__(self) -> None:
        self._ranks: list[Popen] = []
        self._ended_at: float | None = None
        self._over = False
        self._thread: threading.Thread | None = None
        # The process id of rank 0, in a rank that Lightning started. Only the command line tells such a rank,
        # since rank 0 gets a LOCAL_RANK, too.
        self._parent: int | None = None
        if "LOCAL_RANK" not in os.environ:
            os.environ[_FIRST_RANK] = str(os.getpid())
        elif any(argument.startswith("hydra.job.name=train_ddp_process") for argument in sys.argv):
            self._parent = int(os.environ[_FIRST_RANK])
            self._begin_to_watch()  # rank 0 may end before the ranks have connected

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._ranks = take_over_ranks(trainer) or self._ranks
        if trainer.world_size > 1 and self._thread is None:
            self._begin_to_watch()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Raises UserError if another rank is the cause."""
        self._ended_at = time.monotonic()
        if isinstance(exception, Stopped | KeyboardInterrupt):
            return  # every rank has been told
        leave_process_group_at_exit()
        lost = _is_lost_connection(exception)
        if lost:  # the lost rank knows the reason: wait for its end
            deadline = time.monotonic() + 10
            while self._ranks and self._failed() is None and time.monotonic() < deadline:
                time.sleep(_POLL)
        failed = self._failed()
        for process in self._ranks:
            process.kill()
        if lost:
            found = how_it_ended(*failed) if failed else f"Another rank cannot be reached ({exception})."
            raise UserError(f"{found}\n{_HOW_TO_RESUME}") from exception

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._over = self._ended_at is None

    def stop(self) -> None:
        """Called when the Trainer is done: from here on nothing waits for another rank."""
        self._over = True

    def _begin_to_watch(self) -> None:
        self._thread = threading.Thread(target=self._watch, daemon=True, name="rank-watchdog")
        self._thread.start()

    def _failed(self) -> tuple[int, int] | None:
        """(rank, exit code) of one that has ended in failure."""
        codes = [(rank, process.poll()) for rank, process in enumerate(self._ranks, 1)]
        return next(((rank, code) for rank, code in codes if code), None)

    def _watch(self) -> None:
        while not self._over:
            time.sleep(_POLL)
            if self._ended_at is not None:
                if time.monotonic() > self._ended_at + _TO_CLEAN_UP:
                    self._end("This process failed, and could not clean up.", 2)
                continue
            if self._parent and os.getppid() != self._parent:
                self._end("", 2)  # without a message: the command has ended, and nobody would read it
            failed = self._failed()
            if failed:
                time.sleep(2)  # this rank may have failed as well, and is then about to give a better message
                if self._ended_at is None and not self._over:
                    self._end(f"{how_it_ended(*failed)}\n{_HOW_TO_RESUME}", failed[1] if failed[1] > 0 else 2)

    def _end(self, message: str, code: int) -> NoReturn:
        print(f"\n{message}", file=sys.stderr, flush=True)
        for process in self._ranks:
            process.kill()
        os._exit(code)  # the main thread waits for another rank, and no exception can reach it


def how_it_ended(rank: int, code: int) -> str:
    """How a rank ended, in words; `code` is negative for a signal."""
    if code == -signal.SIGKILL:
        return (
            f"Rank {rank} was killed by SIGKILL: by the system where the memory of the machine ran out "
            f"(dmesg says so), by the cluster, or by hand."
        )
    if code == -signal.SIGABRT:  # what NCCL's watchdog does
        return (
            f"Rank {rank} was ended by SIGABRT: its own message says why. Usually NCCL has waited {PATIENCE} "
            f"minutes for a rank that hangs, or has lost the connection to one."
        )
    if code < 0:
        return f"Rank {rank} was ended by {signal.Signals(-code).name}."
    return (
        f"Rank {rank} ended with exit code {code}; its own message, beginning with [rank {rank}], says why."
    )


def _is_lost_connection(error: BaseException) -> bool:
    gloo = re.search(r"gloo/|Connection (closed|reset) by peer|Broken pipe", str(error))
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and gloo is not None)
