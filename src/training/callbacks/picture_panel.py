"""A panel of the same validation images in each epoch: image | ground truth | prediction."""

from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from src.data.dataset import SegmentationDataset
from src.report.pictures import Row, panel, write_image
from src.training.loggers.dashboards import dashboards
from src.training.reliability.lightning_internals import logged_step

Sample = dict[str, Any]
_SENT = 8  # rows that go to a dashboard at each validation


class PicturePanel(Callback):
    """Writes `epoch_0001.jpg`, ... and sends the panel to W&B (with mask overlays), TensorBoard or MLflow.

    The samples are spread evenly over the validation set, the same in every epoch and for any number of
    devices; they are decoded once. Rank 0 draws them all, without the other ranks.

    Args:
        directory: where the pictures go.
        count: samples of the panel.
        every_n_epochs: epochs from one panel to the next.
        keep: number of files that are kept, 2 or more: the first, the newest, and others spread over the
            epochs between them; None = all.
        width: largest width of one image of the panel, in pixels.
        filename: may contain {epoch}, counted from 1.

    In the list of callbacks it has to come before a weight average, since that puts the trained weights back
    at the end of the validation epoch.
    """

    def __init__(
        self,
        directory: str | Path,
        count: int = 4,
        every_n_epochs: int = 1,
        keep: int | None = None,
        width: int = 512,
        filename: str = "epoch_{epoch:04d}.jpg",
    ):
        self.directory = Path(directory)
        self.count = count
        self.every_n_epochs = every_n_epochs
        self.keep = keep
        self.width = width
        self.filename = filename
        self._samples: list[Sample] = []

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if trainer.sanity_checking or not trainer.is_global_zero or not due or not self.count:
            return
        dataset: SegmentationDataset = trainer.datamodule.val_set  # type: ignore[attr-defined]
        samples = self._samples or self._load(dataset)
        predictions = [self._predict(trainer, pl_module, sample) for sample in samples]
        labelled = dataset.has_labels
        rows: list[Row] = [
            (sample["name"], _pixels(sample), sample["target"].numpy() if labelled else None, prediction)
            for sample, prediction in zip(samples, predictions, strict=True)
        ]
        picture = panel(rows, dataset.table, max_width=self.width)
        self.directory.mkdir(exist_ok=True)  # without parents=True: a removed run directory is not made again
        write_image(self.directory / self.filename.format(epoch=trainer.current_epoch + 1), picture)
        if self.keep:
            self._thin_out(trainer.current_epoch + 1, self.keep)
        for dashboard in dashboards(trainer.loggers, dataset.table):
            dashboard.pictures("val/panel", rows[:_SENT], logged_step(trainer), self.width)

    def _thin_out(self, newest: int, keep: int) -> None:
        """While there are too many files, remove the one whose neighbours are nearest to each other."""
        there = {path.name for path in self.directory.iterdir()}
        epochs = [n for n in range(1, newest + 1) if self.filename.format(epoch=n) in there]
        while len(epochs) > keep:
            least = min(range(1, len(epochs) - 1), key=lambda i: epochs[i + 1] - epochs[i - 1])
            gone = self.directory / self.filename.format(epoch=epochs.pop(least))
            gone.unlink(missing_ok=True)

    def _load(self, dataset: SegmentationDataset) -> list[Sample]:
        indices = np.linspace(0, len(dataset) - 1, min(self.count, len(dataset))).round().astype(int)
        self._samples = [dataset[0, index] for index in indices]
        return self._samples

    @staticmethod
    def _predict(trainer: pl.Trainer, pl_module: Any, sample: Sample) -> np.ndarray:
        image = sample["image"][None].to(pl_module.device)
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            return pl_module.class_map(image)[0].cpu().numpy()


def _pixels(sample: Sample) -> np.ndarray:
    return sample["image"].permute(1, 2, 0).numpy()
