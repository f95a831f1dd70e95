"""Writing a submission to Cityscapes' server during an evaluation, on any number of devices."""

import logging
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from src.data.datamodule import SegmentationDataModule
from src.data.dataset import SegmentationDataset
from src.data.layouts import CITYSCAPES_IMAGES
from src.errors import UserError, shorten
from src.evaluation.submission import ENDING, check_can_submit, write_archive, write_prediction
from src.evaluation.submission_check import check_submission
from src.runs.directory import Run

log = logging.getLogger(__name__)


class SubmissionWriter(Callback):
    """Writes submission/<image>_labelIds.png and submission.zip in the run directory, each time all anew.

    Every device writes the predictions of its own images, so all machines must share the run directory.
    """

    def __init__(self, run: Run, data: SegmentationDataModule):
        self.folder = run.directory / "submission"
        self.archive = run.directory / "submission.zip"
        self.data = data

    def check(self) -> None:
        """Raises UserError where the server could not compare predictions for this data."""
        check_can_submit(self.data.table, self._names)

    @property
    def _dataset(self) -> SegmentationDataset:
        assert self.data.val_set is not None, "call setup('validate') first"
        return self.data.val_set

    @property
    def _names(self) -> list[str]:
        return [pair.name for pair in self._dataset.pairs]

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.folder.mkdir(exist_ok=True)
            # Files of an earlier evaluation under this name, which was interrupted or had other images.
            earlier = [self.archive, *self.folder.glob(f"*{ENDING}"), *self.folder.glob(".*.tmp")]
            if not self._dataset.has_labels:  # there will be no metrics
                earlier += [
                    self.archive.with_name(name) for name in ("metrics.json", "confusion.png", "report.html")
                ]
            for path in earlier:
                path.unlink(missing_ok=True)
        trainer.strategy.barrier()

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, *_: Any
    ) -> None:
        predictions: Tensor = outputs
        for name, train_ids in zip(batch["name"], predictions.cpu().numpy(), strict=True):
            write_prediction(self.folder, name, train_ids)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.strategy.barrier()  # until every rank has written its files

    def finish(self) -> None:
        """On one device: packs the class maps into the archive, and checks it.

        Raises UserError where the server would refuse it, such as after an evaluation of a part of the split.
        """
        names = self._names
        write_archive(self.archive, sorted(self.folder.glob(f"*{ENDING}")))
        problems = check_submission(self.archive, sizes=dict(zip(names, self.data.val_sizes, strict=True)))
        if problems:
            raise UserError(
                f"{self.archive}: the server would refuse it.\n{shorten(problems)}\n"
                f"Was the split evaluated in part (trainer.limit_val_batches)?"
            )
        kilobytes = self.archive.stat().st_size / 1e3
        log.info("%s: %d class maps, checked, %.0f kB.", self.archive, len(names), kilobytes)
        wanted, root = CITYSCAPES_IMAGES["test"], self.data.config["root"]
        if self.data.config["val_split"] == "test" and len(names) != wanted:
            log.warning(
                "WARNING: the server wants all %d images of 'test'; %s has %d.", wanted, root, len(names)
            )
