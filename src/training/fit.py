"""Runs a training to its end, and says what runs, why it ended and how it is resumed."""

import logging
from contextlib import suppress
from typing import Any

import pytorch_lightning as pl

from src.data.datamodule import SegmentationDataModule
from src.errors import counted
from src.runs.directory import Run
from src.training.callbacks.epoch_lines import say_why_it_ended
from src.training.callbacks.live_report import LiveReport
from src.training.early_checks import planned_length
from src.training.loggers.build import keep_ids
from src.training.module import SegmentationModule
from src.training.reliability.error_messages import clear_errors
from src.training.resume import check_resumable, renew_patience, spread_anew
from src.training.trainer import honest_exit
from src.weights.checkpoint_files import AtomicCheckpointIO

log = logging.getLogger(__name__)


def fit(
    trainer: pl.Trainer,
    module: SegmentationModule,
    data: SegmentationDataModule,
    run: Run,
    last: dict[str, Any] | None,
) -> None:
    """Train to the end, beginning at the run's last checkpoint if it has one.

    Args:
        last: the content of that checkpoint.
    """
    if last and run.last_checkpoint:
        check_resumable(last, run.last_checkpoint, trainer, module)
        renew_patience(last, trainer)
        if not trainer.fast_dev_run:  # type: ignore[attr-defined]
            spread_anew(last, module, *planned_length(trainer, data), asked=run.config.get("extend", False))
        files = trainer.strategy.checkpoint_io
        assert isinstance(files, AtomicCheckpointIO)
        files.hand_over(run.last_checkpoint, last)
    if trainer.is_global_zero:
        keep_ids(trainer.loggers, run.directory)
        _say_what_runs(trainer, module, data, run)
    trainer.callbacks.append(LiveReport(run))  # type: ignore[attr-defined]
    try:
        with clear_errors(run, trainer), honest_exit(trainer):
            for logger in trainer.loggers:
                logger.log_hyperparams(run.config | run.origin)
            trainer.fit(module, datamodule=data, ckpt_path=run.last_checkpoint, weights_only=True)
        if trainer.is_global_zero:
            say_why_it_ended(trainer)
    except (KeyboardInterrupt, SystemExit):
        if trainer.is_global_zero:
            _say_how_to_resume(run)
        raise
    finally:
        with suppress(RuntimeError):  # from a loader that was interrupted while it was created
            trainer.fit_loop.teardown()  # Lightning ends only the loader in use, not the one that waits


def _say_how_to_resume(run: Run) -> None:
    if (run.directory / "job.json").exists():
        log.info("Interrupted. The same sweep resumes from here.")
    elif run.last_checkpoint:
        log.info("Interrupted. The same command with name=%s resumes from here.", run.config["name"])
    else:
        log.info("Interrupted before the first checkpoint: there is nothing to resume from.")


def _say_what_runs(
    trainer: pl.Trainer, module: SegmentationModule, data: SegmentationDataModule, run: Run
) -> None:
    parameters = sum(p.numel() for p in module.segmenter.parameters())
    frozen = sum(p.numel() for p in module.segmenter.parameters() if not p.requires_grad)
    total, parts = run.config["data"]["batch_size"], trainer.world_size * trainer.accumulate_grad_batches
    assert data.train_set is not None
    assert data.val_set is not None
    log.info(
        "%s, %s parameters%s, on %s: %d training and %d validation images, "
        "batch %d = %d x %s x %d accumulated",
        type(module.segmenter.network).__name__,
        f"{parameters:,}",
        f" ({frozen:,} of them frozen)" if frozen else "",
        run.config["data"]["name"],
        len(data.train_set),
        len(data.val_set),
        total,
        total // parts,
        counted(trainer.world_size, "device"),
        trainer.accumulate_grad_batches,
    )
    if trainer.strategy.root_device.type == "cuda":
        log.info("float32 on the GPU: %s (trainer.fp32_precision)", run.config["trainer"]["fp32_precision"])
    if run.last_checkpoint:
        log.info("Resuming from %s", run.last_checkpoint)
    if not run.config["callbacks"].get("last"):
        log.warning("Without callbacks.last no last.ckpt is written: if the run is stopped, it begins anew.")
