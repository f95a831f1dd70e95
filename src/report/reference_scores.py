"""What a report puts beside a run's IoU: the published metrics, or another run's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.errors import UserError
from src.label_tables import table_of

# Percent on Cityscapes' test split, by the benchmark's server, from the authors' own submission:
# https://www.cityscapes-dataset.com/method-details/?submissionID=2095
_PUBLISHED = {
    "road": 95.92, "sidewalk": 73.89, "building": 89.86, "wall": 43.86, "fence": 46.05, "pole": 52.86,
    "traffic light": 55.85, "traffic sign": 63.79, "vegetation": 91.72, "terrain": 68.34, "sky": 94.11,
    "person": 76.70, "rider": 54.21, "car": 91.30, "truck": 41.26, "bus": 56.00, "train": 32.85,
    "motorcycle": 41.05, "bicycle": 60.87,
}  # fmt: skip


@dataclass(frozen=True)
class Baseline:
    name: str
    split: str  # dataset and split of its metrics
    iou: Mapping[str, float | None]  # by class, in [0, 1]
    miou: float | None
    note: str = ""


PUBLISHED = Baseline(
    name="CGNet as published",
    split="Cityscapes, test",
    iou={name: value / 100 for name, value in _PUBLISHED.items()},
    miou=0.6476,
    note="The authors' metrics are from the benchmark server, on the test split. Compare them only roughly "
    "with metrics on another split.",
)


def find_baseline(choice: str | None, data: Mapping[str, Any]) -> Baseline | None:
    """What `report.baseline` means for a dataset (the values of the data group).

    `auto` means the published metrics for Cityscapes' own images, and no baseline for other images: the
    synthetic street has the same classes, but its metrics are not comparable. Raises UserError for a file
    that is no metrics.json.
    """
    if choice == "auto":
        choice = "published" if data["labels"] == "cityscapes" and not data.get("street") else None
    if choice is None:
        return None
    if choice == "published":
        return _of_the_same_classes(PUBLISHED, choice, data)
    path = Path(str(choice)).expanduser()
    path = path / "metrics.json" if path.is_dir() else path
    try:
        metrics = json.loads(path.read_text())
        iou, miou = dict(metrics["IoU"]), metrics["mIoU"]
        if not all(isinstance(value, int | float | None) for value in (*iou.values(), miou)):
            raise TypeError("an IoU is no number")
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"report.baseline={choice}: {path} cannot be read as a run's metrics ({error}). Give the "
            f"directory of a finished run, its metrics.json, published, auto or null."
        ) from error
    baseline = Baseline(path.parent.name, images_of(metrics, None), iou, miou)
    return _of_the_same_classes(baseline, choice, data)


def _of_the_same_classes(baseline: Baseline, choice: str, data: Mapping[str, Any]) -> Baseline:
    classes = table_of(data).class_names
    if set(baseline.iou) != set(classes):
        raise UserError(
            f"report.baseline={choice}: its metrics are of other classes than those of "
            f"data.labels={data['labels']}. Give a run on a dataset with the same ones, or null."
        )
    return baseline


def images_of(metrics: Mapping[str, Any], data: str | None) -> str:
    """Dataset and split of metrics. Metrics of old runs do not name their dataset: then it is `data`."""
    return ", ".join(filter(None, (metrics.get("data") or data, metrics.get("split", "unknown split"))))
