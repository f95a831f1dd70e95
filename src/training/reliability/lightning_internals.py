"""What this project uses of Lightning that Lightning does not promise to keep, each with the reason.

pyproject.toml keeps Lightning below 2.7 for this.
"""

import atexit
from subprocess import Popen

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.distributed import _destroy_dist_connection
from torch import Tensor
from torch.optim import Optimizer


def is_accumulating(trainer: pl.Trainer) -> bool:
    """Whether the optimizer does not step after this batch. Lightning has no public way to ask."""
    return trainer.fit_loop.epoch_loop._should_accumulate()


def is_last_batch(trainer: pl.Trainer) -> bool:
    """Whether the epoch ends after this training batch. Valid until the end of the batch."""
    return trainer.fit_loop.epoch_loop.batch_progress.is_last_batch


def logs_this_step(trainer: pl.Trainer) -> bool:
    """Whether the metrics of this step are logged, by log_every_n_steps. Valid until the end of the batch."""
    return trainer._logger_connector.should_update_logs


def logged_step(trainer: pl.Trainer) -> int:
    """The step under which Lightning logs metrics now: during a validation, that of the batch before it."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def validation_is_next(trainer: pl.Trainer) -> bool:
    """Whether a validation follows this training batch, by val_check_interval and the keys like it."""
    loop = trainer.fit_loop
    assert loop._data_fetcher is not None
    return loop.epoch_loop._should_check_val_fx(loop._data_fetcher)


def leave_signals_alone(trainer: pl.Trainer) -> None:
    """Switch off Lightning's handling of signals, which StopOnSignal replaces.

    Lightning broadcasts within its signal handler, where another collective operation may be under way: ranks
    that are told to stop before the first step would wait for ever. In each step it also exchanges, through
    the device, the signals that its handlers have received.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def resume_by_epochs(trainer: pl.Trainer) -> None:
    """Let a run with `max_steps` resume after a whole epoch as one with `max_epochs` does.

    Lightning would go on with the epoch that has ended: it trains one batch of the next one, and ends the
    epoch a second time, without its other batches.
    """
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def restore_metrics(trainer: pl.Trainer, metrics: dict[str, Tensor]) -> None:
    """What callbacks with a `monitor` read, until it is logged again."""
    trainer._logger_connector._callback_metrics.update(metrics)


def take_over_ranks(trainer: pl.Trainer) -> list[Popen]:
    """Returns the processes that Lightning has started for the other ranks.

    Lightning's own watcher holds the original list, which is emptied here, so that the watcher ends.
    """
    launcher = trainer.strategy.launcher
    started: list[Popen] = getattr(launcher, "procs", [])
    ranks = started.copy()
    if started:
        launcher.procs = ranks  # type: ignore[union-attr]
        started.clear()
    return ranks


def leave_process_group_at_exit() -> None:
    """Keep Lightning from destroying the process group at exit, in a rank that has failed.

    Under NCCL it would wait there for the other ranks.
    """
    atexit.unregister(_destroy_dist_connection)


def loss_scaler(trainer: pl.Trainer) -> torch.amp.GradScaler | None:
    """The scaler of the loss under 16-mixed. Lightning has no public way to it."""
    return getattr(trainer.precision_plugin, "scaler", None)


def scale_left(trainer: pl.Trainer, optimizer: Optimizer) -> Tensor | float:
    """The factor that gradients still have when the optimizer steps: a fused one takes it out by itself."""
    if not getattr(optimizer, "_step_supports_amp_scaling", False):
        return 1.0
    scaler = loss_scaler(trainer)
    return 1.0 if scaler is None or scaler._scale is None else scaler._scale


def scale_tensors(scaler: torch.amp.GradScaler | None) -> list[Tensor]:
    """Its scale, and the number of steps since it was changed. Its `state_dict` would wait for the device."""
    tensors = [scaler._scale, scaler._growth_tracker] if scaler else []
    return [tensor for tensor in tensors if tensor is not None]
