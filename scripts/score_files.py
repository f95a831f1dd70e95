"""Cityscapes' official metrics of predictions in files, whatever program wrote them.

python -m scripts.score_files --predictions FOLDER --root CITYSCAPES [--split val] [--output metrics.json]

Counts with the same code as `python -m src.eval`, and its metrics equal those of cityscapesScripts'
evaluation bit for bit. Predictions are PNGs of label ids, one for each frame, anywhere below their folder.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import rich
import torch
from torch import Tensor

from src.data.dataset import to_target
from src.data.files import Source, png_size, read_label
from src.data.instance_ids import check_instance_files, instance_files, read_instances
from src.data.layouts import SPLITS, Pair, find_labels
from src.data.parallel import parallel_map
from src.data.predictions import find_predictions, read_prediction
from src.errors import UserError
from src.labels import CITYSCAPES, IGNORE
from src.metrics.cityscapes import Instance, official_scores
from src.metrics.confusion import count_pairs, scores
from src.metrics.instances import InstanceCounter
from src.report.table import table
from src.runs.atomic_files import write_json

IDS = len(CITYSCAPES.labels)  # label ids go from 0 to IDS - 1
_COUNTER = InstanceCounter(CITYSCAPES, range(IDS))


class Frame(NamedTuple):
    number: int  # in the split
    prediction: Path
    label: Source
    instances: Source | None


def score(predictions: Path, root: Path, splits: Sequence[str], threads: int | None = None) -> dict[str, Any]:
    """The metrics, as in the metrics.json of an evaluation. Raises UserError.

    Args:
        predictions: folder that holds one PNG for each frame of the splits, and no other PNG.
        root: of Cityscapes; gtFine alone is enough.
        threads: None = one for each core.
    """
    labels = [label for split in splits for label in find_labels(root, split)]
    found = find_predictions(predictions, labels)
    instances = instance_files(labels)
    if instances is not None:
        check_instance_files(instances, [png_size(label) for label in labels])
    none: list[Source | None] = [None] * len(labels)
    files = zip(found, labels, instances or none, strict=True)
    frames = [Frame(number, *of_frame) for number, of_frame in enumerate(files)]
    matrix = torch.zeros(IDS, IDS, dtype=torch.int64)
    counted: list[Instance] = []
    for counts, of_frame in parallel_map(_count, frames, "Scoring", threads):
        matrix += counts
        counted += of_frame
    learned = [label.id for label in CITYSCAPES.train_labels]
    others = [label.id for label in CITYSCAPES.labels if label.train_id == IGNORE]
    metrics = scores(matrix[learned][:, learned + others], CITYSCAPES.class_names)
    metrics |= official_scores(matrix.numpy(), None if instances is None else counted, CITYSCAPES)
    return metrics | {"num_images": len(frames), "split": "+".join(splits), "predictions": str(predictions)}


def _count(frame: Frame) -> tuple[Tensor, list[Instance]]:
    """Pixels by label id, (IDS, IDS) int64, rows are the ground truth; and the counts of each instance."""
    label = read_label(frame.label)
    target = to_target(label, Pair(frame.label.name, frame.label, frame.label), CITYSCAPES)
    prediction = torch.from_numpy(read_prediction(frame.prediction, label.shape, CITYSCAPES))
    counted = []
    if frame.instances is not None:
        instances = torch.from_numpy(read_instances(frame.instances, target, CITYSCAPES))
        counted = _COUNTER(prediction, instances, frame.number)
    return count_pairs(prediction, torch.from_numpy(label), IDS)[:IDS, :IDS], counted


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", type=Path, required=True, help="folder of <city>_<seq>_<frame>*.png")
    parser.add_argument("--root", type=Path, required=True, help="Cityscapes: the folder that holds gtFine/")
    parser.add_argument("--split", choices=[split for split in SPLITS if split != "test"], default="val")
    parser.add_argument("--threads", type=int, help="default: one for each core")
    parser.add_argument("--output", type=Path, help="where to write the metrics as JSON")
    arguments = parser.parse_args()
    if arguments.threads is not None and arguments.threads < 1:
        parser.error(f"--threads {arguments.threads}: expected a number of at least 1.")
    cv2.setNumThreads(1)  # a core works on a whole frame, so OpenCV must not split it
    torch.set_num_threads(1)
    try:
        metrics = score(arguments.predictions, arguments.root, SPLITS[arguments.split], arguments.threads)
        rich.print(table(metrics))  # first, so that no error in writing loses it
        if arguments.output is not None:
            write_json(arguments.output, metrics)
    except UserError as error:
        print(error.text, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
