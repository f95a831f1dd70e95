"""What a validation knows of each image: by_image.csv, and pictures of the best and worst for the report."""

import logging
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch.distributed as dist
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from src.metrics.by_image import image_counts, image_mious, write_by_image
from src.report.best_and_worst import BestAndWorst, merged
from src.runs.atomic_files import CannotWriteError, write_json
from src.training.callbacks.best_checkpoint import RunCheckpoint

log = logging.getLogger(__name__)


class BestAndWorstImages(Callback):
    """Writes the pixel counts of each image of the newest validation, and one file with pictures of the
    images that have the best and worst mIoU: of an evaluation or, in a training, of the validation that
    best.ckpt belongs to. It uses the same class maps as the metrics (what `validation_step` returns), so they
    may come from averaged weights or several scales.

    Args:
        path: of the pictures; its folder is created if it is missing, the folder above has to exist.
        by_image: of the pixel counts.
        count: number of best images, and of worst images; 0 = no files.
    """

    def __init__(self, path: str | Path, by_image: str | Path, count: int = 4):
        self.path = Path(path)
        self.by_image = Path(by_image)
        self.count = count
        self._seen = BestAndWorst(count)
        self._counts: list[tuple[str, np.ndarray]] = []
        self._waiting: tuple[Tensor, Any, Tensor] | None = None

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._seen, self._counts, self._waiting = BestAndWorst(self.count), [], None

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if trainer.sanity_checking or outputs is None:
            return
        counts = image_counts(outputs, batch["target"], len(pl_module.classes))  # type: ignore[arg-type]
        # The values are read one batch later: the bincount of that batch waits for the device in any case.
        # Reading them at once would wait once more, for the operations after this batch's bincount.
        self._take_waiting()
        self._waiting = counts, batch, outputs

    def _take_waiting(self) -> None:
        if self._waiting is None:
            return
        found, batch, prediction = self._waiting
        counts = found.cpu().numpy()
        mious = image_mious(counts).tolist()
        self._seen.add(mious, batch["name"], batch["image"], batch["target"], prediction)
        self._counts += zip(batch["name"], counts, strict=True)
        self._waiting = None

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._take_waiting()
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        scores: Any = pl_module.scores
        counts, seen = _of_all_ranks(trainer, self._counts), None
        if self.count and (trainer.state.fn != "fit" or _is_best(trainer)):
            seen = _of_all_ranks(trainer, self._seen.found(data.val_set.table))
        self._seen, self._counts = BestAndWorst(self.count), []
        if not trainer.is_global_zero or scores["mIoU"] is None:  # without labels
            return
        try:
            write_by_image(self.by_image, chain.from_iterable(counts), pl_module.classes)  # type: ignore[arg-type]
            if seen is not None:
                found = {
                    "epoch": trainer.current_epoch + 1,
                    "mIoU": scores["mIoU"],
                    "size": data.val_sizes[0],
                }
                # Without parents=True: a run directory that was removed is not created again.
                self.path.parent.mkdir(exist_ok=True)
                write_json(self.path, found | merged(seen, self.count))
        except (CannotWriteError, OSError) as error:
            log.warning("The report will be without pictures. %s", error)


def _of_all_ranks(trainer: pl.Trainer, mine: Any) -> list[Any]:
    if trainer.world_size == 1:
        return [mine]
    parts = [None] * trainer.world_size
    dist.all_gather_object(parts, mine)
    return parts


def _is_best(trainer: pl.Trainer) -> bool:
    """Whether best.ckpt is about to be replaced, by its own rule; all ranks have to call this together."""
    keeper = next((c for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint)), None)
    current = trainer.callback_metrics.get(keeper.monitor or "") if keeper else None
    return keeper is not None and current is not None and keeper.check_monitor_top_k(trainer, current)
