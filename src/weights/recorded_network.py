"""What a file records about its network: the same for weights and for exported files."""

import logging
from dataclasses import dataclass
from typing import Any

from src.data.layouts import share_images
from src.labels import CAMVID, CITYSCAPES
from src.runs.directory import rank
from src.weights.published_names import OURS

log = logging.getLogger(__name__)

DATASETS = {table.num_classes: table for table in (CITYSCAPES, CAMVID)}
"""The dataset of published weights, by the number of classes: their files say nothing else about it."""

Seen = list[dict[str, str]]
"""The {"data", "split"} that weights were trained on, earlier trainings included."""


@dataclass(frozen=True, kw_only=True)
class RecordedNetwork:
    """A network, without what computes it.

    path: of the file. model: what Segmenter.from_config takes. classes: in the order of the train ids; None
    if unknown. data: the recorded data group; None for published weights. precision, fp32_precision: those of
    the training, in which it is evaluated. trained_on: None if nobody recorded it. epoch: counts from 1; None
    for published weights.
    """

    path: str
    family: str
    model: dict[str, Any]
    classes: list[str] | None
    mean_is_known: bool = True
    data: dict[str, Any] | None = None
    precision: str = "32-true"
    fp32_precision: str = "ieee"
    trained_on: Seen | None = None
    epoch: int | None = None

    @property
    def num_classes(self) -> int:
        return len(self.classes) if self.classes else self.model["num_classes"]

    @property
    def dataset(self) -> str | None:
        """The name of the data group that the network is for; None if unknown."""
        if self.data is not None:
            return self.data["name"]
        return DATASETS[self.num_classes].name if self.num_classes in DATASETS else None

    @property
    def provenance(self) -> dict[str, Any]:
        """What the network is and where it comes from: one block, the same in metrics.json, in the report and
        in exported files. What nobody recorded is None."""
        raise NotImplementedError

    def warn_of_seen_images(self, data: str, split: str) -> None:
        """Warn, on rank 0, if the split may have been trained on, so that a result on it says little."""
        if rank() != 0:
            return
        if self.trained_on is None:
            log.warning(
                "WARNING: nobody recorded which images these weights were trained on%s. They may have seen "
                "'%s' of %s, and the result may say nothing about new images.",
                ", before they were fine-tuned" if self.family == OURS else f" ({self.family})",
                split,
                data,
            )
            return
        for seen in seen_before(self.trained_on, data, split):
            log.warning(
                "WARNING: this network was trained on '%s', which has images of '%s': the result says "
                "nothing about new images.",
                seen,
                split,
            )


def seen_before(trained_on: Seen, data: str, split: str) -> list[str]:
    """The splits that were trained on, and that have images of this one."""
    return [
        seen["split"] for seen in trained_on if seen["data"] == data and share_images(split, seen["split"])
    ]
