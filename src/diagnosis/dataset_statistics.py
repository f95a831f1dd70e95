"""Class frequencies, class weights, mean and std of the training files, compared with those of the config."""

from typing import Any

from src.data.datamodule import SegmentationDataModule
from src.data.statistics import weights_of
from src.diagnosis.dataset_health import Folders
from src.diagnosis.notes import DATASET, Notes
from src.label_tables import OWN

Statistics = dict[str, Any]
_FAR = 1.5  # factor between a configured class weight and the one from the data's labels
_FAR_MEAN = 16  # of 255


def statistics_of(
    notes: Notes, data: SegmentationDataModule, folders: Folders, class_weights: Any = None
) -> Statistics:
    """Plain values for the report, over all files that could be read; {} if none could.

    Args:
        class_weights: as in the config of the loss: numbers, "labels", or None.
    """
    result: Statistics = {}
    train, val = folders.of(folders.train), folders.of(folders.val)
    if train and train.levels.any():
        mean, std = train.mean_and_std()
        result |= {"mean": mean, "std": std, "configured_mean": list(data.config["mean"])}
        _compare_mean(notes, mean, result["configured_mean"])
    if not train or not val or not sum(train.class_counts(data.table)):
        return result
    counts = {"train": train.class_counts(data.table), "val": val.class_counts(data.table)}
    total = {split: sum(numbers) or 1 for split, numbers in counts.items()}
    own, configured = weights_of(counts["train"]), class_weights
    result["classes"] = {
        name: {
            "train_pixels": counts["train"][c],
            "train_share": counts["train"][c] / total["train"],
            "val_pixels": counts["val"][c],
            "val_share": counts["val"][c] / total["val"],
            "weight": own[c],
            "configured_weight": configured[c] if _is_list(configured, len(own)) else None,
        }
        for c, name in enumerate(data.table.class_names)
    }
    if _is_list(configured, len(own)):
        _compare_weights(notes, result["classes"])
    elif configured == "labels":
        for entry in result["classes"].values():
            entry["configured_weight"] = entry["weight"]
    for split, numbers in counts.items():
        absent = [name for name, number in zip(data.table.class_names, numbers, strict=True) if not number]
        if absent:
            meaning = {
                "train": "The network cannot learn them; they have the largest class weight.",
                "val": "The mean IoU is over the other classes, unless the network predicts them.",
            }[split]
            text = f"Classes that never occur in {split}: {', '.join(absent)}. {meaning}"
            if data.table.name == OWN:
                text += " If they should occur, correct their ids or colors in data.classes."
            notes.add(DATASET, "remark", "class that never occurs", text)
    return result


def _is_list(weights: Any, length: int) -> bool:
    return isinstance(weights, list) and len(weights) == length


def _compare_mean(notes: Notes, own: list[float], configured: list[float]) -> None:
    if len(configured) != 3 or max(abs(a - b) for a, b in zip(own, configured, strict=True)) <= _FAR_MEAN:
        return
    numbers = ",".join(f"{value:.2f}" for value in own)
    text = (
        f"data.mean={configured} is far from the mean of the training images. This is fine if a published "
        f"recipe requires it; otherwise set data.mean=[{numbers}]"
    )
    notes.add(DATASET, "remark", "mean of other data", text)


def _compare_weights(notes: Notes, classes: dict[str, dict[str, Any]]) -> None:
    far = [
        f"{name} {entry['configured_weight']:.2f} (own: {entry['weight']:.2f})"
        for name, entry in classes.items()
        if not 1 / _FAR <= entry["configured_weight"] / entry["weight"] <= _FAR
    ]
    if far:
        text = (
            f"data.class_weights do not fit this dataset: {', '.join(far)}. This is fine if a published "
            f"recipe requires them; otherwise set data.class_weights=labels"
        )
        notes.add(DATASET, "remark", "class weights of other data", text)
