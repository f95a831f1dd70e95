"""What this project uses of Lightning that Lightning does not promise to keep, each with the reason.

pyproject.toml keeps Lightning below 2.7 for this.
"""

import atexit
from subprocess import Popen

import pytorch_lightning as pl
from lightning_fabric.utilities.distributed import _destroy_dist_connection


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Whether the optimizer does not step after this batch. Lightning says so nowhere else."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def validation_is_next(trainer: pl.Trainer) -> bool:
    """Whether a validation follows this training batch, by val_check_interval and its like."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """StopOnSignal listens instead.

    Lightning broadcasts within its handler, where another collective operation may be under way: ranks that
    are told to stop before the first step would wait for ever. And it asks in each step, through the device,
    for the signals that those handlers would have seen.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def take_over_ranks(trainer: pl.Trainer) -> list[Popen]:
    """The processes that Lightning has started for the other ranks.

    Its own watcher has the list that is emptied here, and ends when nothing is left to watch.
    """
    launcher = trainer.strategy.launcher
    started: list[Popen] = getattr(launcher, "procs", [])
    ranks = started.copy()
    if started:
        launcher.procs = ranks  # type: ignore[union-attr]
        started.clear()
    return ranks


def leave_process_group_at_exit() -> None:
    """For a rank that has failed.

    Under NCCL Lightning destroys the process group at the end of the process, and waits there for the others.
    """
    atexit.unregister(_destroy_dist_connection)
