"""Cityscapes' official metrics of an evaluation, counted batch by batch."""

from collections.abc import Mapping
from itertools import chain
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from src.data.dataset import SegmentationDataset
from src.metrics.cityscapes import Instance, by_label_id, official_scores
from src.metrics.instances import InstanceCounter


class OfficialScores(Callback):
    """Adds IoU of categories and iIoU to the module's scores, for label tables that have categories.

    iIoU is added only if the batches have "instances". Only integers are summed and gathered, so that any
    number of devices gives bitwise the same metrics.
    """

    def __init__(self) -> None:
        self._instances: list[Instance] = []
        self._counter: InstanceCounter | None = None
        self._index: dict[str, int] = {}  # name of an image -> its index in the split

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        dataset: SegmentationDataset = trainer.datamodule.val_set  # type: ignore[attr-defined]
        self._instances = []
        self._index = {pair.name: index for index, pair in enumerate(dataset.pairs)}
        if dataset.instances is not None:
            learned = [label.id for label in dataset.table.train_labels]
            self._counter = InstanceCounter(dataset.table, learned)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._counter is None:
            return
        prediction: Tensor = outputs
        for name, classes, instances in zip(batch["name"], prediction, batch["instances"], strict=True):
            self._instances += self._counter(classes, instances, self._index[name])

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Runs after the module's own metrics, which are computed at the end of the epoch."""
        table = trainer.datamodule.table  # type: ignore[attr-defined]
        metrics: dict[str, Any] | None = pl_module.scores  # type: ignore[assignment]
        if not table.has_categories or metrics is None:
            return
        instances = self._gather(trainer) if self._counter is not None else None
        matrix = np.array(metrics["confusion_matrix"])
        metrics |= official_scores(by_label_id(matrix, table), instances, table)

    def _gather(self, trainer: pl.Trainer) -> list[Instance]:
        if trainer.world_size == 1:
            return self._instances
        parts: list[Any] = [None] * trainer.world_size
        dist.all_gather_object(parts, self._instances)
        return list(chain.from_iterable(parts))
