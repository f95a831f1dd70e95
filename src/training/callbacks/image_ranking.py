"""The best and worst images of a validation, kept beside best.ckpt for the report."""

import logging
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from src.report.best_and_worst import BestAndWorst, image_mious, merged
from src.runs.atomic_files import CannotWriteError, write_json

log = logging.getLogger(__name__)


class BestAndWorstImages(Callback):
    """Writes one file with pictures of the images that have the best and worst mIoU: of an evaluation or, in
    a training, of the validation that best.ckpt belongs to. It uses the same class maps as the metrics (what
    `validation_step` returns), so they may come from averaged weights or several scales.

    Args:
        path: of the file; its folder is created if it is missing, the folder above has to exist.
        count: number of best images, and of worst images; 0 = no file.
    """

    def __init__(self, path: str | Path, count: int = 4):
        self.path = Path(path)
        self.count = count
        self._seen = BestAndWorst(count)
        self._waiting: tuple[Tensor, Any, Tensor] | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen, self._waiting = BestAndWorst(self.count), None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.sanity_checking or not self.count or outputs is None:
            return
        mious = image_mious(outputs, batch["target"], len(pl_module.classes))  # type: ignore[arg-type]
        # The values are read one batch later: the bincount of that batch waits for the device in any case.
        # Reading them at once would wait once more, for the operations after this batch's bincount.
        self._take_waiting()
        self._waiting = mious, batch, outputs

    def _take_waiting(self) -> None:
        if self._waiting is None:
            return
        mious, batch, prediction = self._waiting
        self._seen.add(mious.tolist(), batch["name"], batch["image"], batch["target"], prediction)
        self._waiting = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not self.count or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._take_waiting()
        seen, self._seen = self._seen, BestAndWorst(self.count)
        if trainer.state.fn == "fit" and not _is_best(trainer):
            return
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        mine = seen.found(data.val_set.table)
        parts = [mine]
        if trainer.world_size > 1:
            parts = [{} for _ in range(trainer.world_size)]
            dist.all_gather_object(parts, mine)
        scores: Any = pl_module.scores
        if not trainer.is_global_zero or scores["mIoU"] is None:  # without labels
            return
        found = {"epoch": trainer.current_epoch + 1, "mIoU": scores["mIoU"], "size": data.val_sizes[0]}
        try:
            # Without parents=True: a run directory that was removed is not created again.
            self.path.parent.mkdir(exist_ok=True)
            write_json(self.path, found | merged(parts, self.count))
        except (CannotWriteError, OSError) as error:
            log.warning("The report will be without pictures. %s", error)


def _is_best(trainer: pl.Trainer) -> bool:
    """Whether best.ckpt is about to be replaced, by its own rule; all ranks have to call this together."""
    current = trainer.callback_metrics.get("val/mIoU")
    return current is not None and any(
        keeper.check_monitor_top_k(trainer, current)
        for keeper in trainer.checkpoint_callbacks
        if isinstance(keeper, ModelCheckpoint) and keeper.monitor == "val/mIoU"
    )
