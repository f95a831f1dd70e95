"""Steps a schedule that reads a metric, such as ReduceLROnPlateau."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback

from src.errors import UserError


class StepAfterValidation(Callback):
    """Steps the schedule after each validation, before a checkpoint is written.

    Args:
        monitor: name of the metric.
    """

    def __init__(self, monitor: str):
        self.monitor = monitor

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if self.monitor not in trainer.callback_metrics:
            raise UserError(f"schedule.monitor={self.monitor}: not a metric of this validation.")
        for config in trainer.lr_scheduler_configs:
            config.scheduler.step(float(trainer.callback_metrics[self.monitor]))  # type: ignore[arg-type]
