"""From a file of weights, of a run here or published by others, to a network and the facts about it."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.layouts import SPLITS
from src.errors import UserError, counted, shorten
from src.labels import CAMVID, CITYSCAPES
from src.network.segmenter import Segmenter
from src.runs.directory import rank
from src.weights.checkpoint_files import load_checkpoint, read_weights_file
from src.weights.checkpoint_schema import check_schema
from src.weights.published import read_published
from src.weights.published_names import OURS
from src.weights.safe_pickle import mapping
from src.weights.tensor_checks import fault

log = logging.getLogger(__name__)

DATASETS = {table.num_classes: table for table in (CITYSCAPES, CAMVID)}
"""The dataset of published weights, by the number of classes: their files say nothing else about it."""

Seen = list[dict[str, str]]
"""The {"data", "split"} that weights were trained on, earlier trainings included."""


@dataclass(frozen=True)
class TrainedNetwork:
    """What evaluation, prediction, export and fine-tuning take: a network, its weights and their origin.

    model: what Segmenter.from_config takes. weights: the Segmenter's state_dict. classes: in the order of the
    train ids; None if unknown. data: the recorded data group; None for published weights.
    precision, fp32_precision: those of the training. trained_on: None if nobody recorded it. epoch:
    counts from 1; None for published weights.
    """

    path: str
    family: str
    model: dict[str, Any]
    weights: dict[str, Tensor]
    classes: list[str] | None
    mean_is_known: bool = True
    data: dict[str, Any] | None = None
    precision: str = "32-true"
    fp32_precision: str = "ieee"
    channels_last: bool = False
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
        """What metrics.json needs beside the metrics to make them comparable."""
        return {
            "checkpoint": self.path,
            "family": self.family,
            "network": self.model["_target_"].rpartition(".")[2],
            "epoch": self.epoch,
            "trained_on": self.trained_on,
        }

    def segmenter(self) -> Segmenter:
        """The network with its weights, on the CPU in eval mode."""
        return self.load_into(Segmenter.from_config(self.model)).eval()

    def load_into(self, segmenter: Segmenter) -> Segmenter:
        """Load the weights into a Segmenter of the same model, and return it."""
        segmenter.load_state_dict(self.weights)
        if self.channels_last:  # the kernels of each format round differently in 16 bits
            segmenter.channels_last()
        return segmenter

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
        for seen in self.trained_on:
            if seen["data"] == data and set(SPLITS.get(split, ())) & set(SPLITS.get(seen["split"], ())):
                log.warning(
                    "WARNING: this network was trained on '%s', which has images of '%s': the result says "
                    "nothing about new images.",
                    seen["split"],
                    split,
                )


def restore(path: Any) -> TrainedNetwork:
    """Reads best.ckpt or last.ckpt of a run, or a file that others published; nothing in it is executed.

    Raises UserError for no path, for a file that is missing, damaged, hostile or of an unknown kind, and for
    weights that do not fit the network.
    """
    if not isinstance(path, str):
        raise UserError(
            f"checkpoint={path}: give one file. Several are evaluated in turn, for one table, by\n"
            f"python -m src.eval -m checkpoint=one.ckpt,other.ckpt"
        )
    pickled = read_weights_file(path)
    if "hyper_parameters" in mapping(pickled.root):
        return _restore_ours(path)
    try:
        published = read_published(pickled)
    except UserError as error:
        raise UserError(f"checkpoint={path}: {error.text}") from error
    table = DATASETS.get(published.num_classes)
    m, n = published.model["num_blocks"]
    log.info(
        "%s: CGNet M%dN%d with %d classes, published by %s: eps %g, %s, RGB minus (%.3f, %.3f, %.3f)",
        path,
        m,
        n,
        published.num_classes,
        published.family,
        published.model["norm_eps"],
        "with a classifier bias" if published.model["classifier_bias"] else "no classifier bias",
        *published.model["preprocessing"]["mean"],
    )
    if published.skipped:
        log.info("Not needed and left out: %s", ", ".join(published.skipped[:8]))
    return TrainedNetwork(
        path=path,
        family=published.family,
        model=published.model,
        weights=published.weights,
        classes=list(table.class_names) if table else None,
        mean_is_known=published.mean_is_known,
    )


def _restore_ours(path: str) -> TrainedNetwork:
    checkpoint = load_checkpoint(path)
    check_schema(checkpoint, path)
    recorded = checkpoint["hyper_parameters"]
    weights = {key.removeprefix("segmenter."): tensor for key, tensor in checkpoint["state_dict"].items()}
    check_fit(recorded["model"], weights, path)
    began = recorded.get("began_from")
    training = recorded.get("training") or {}
    before: Seen | None = began["trained_on"] if began else []
    splits = [recorded["data"]["train_split"], training.get("unlabelled_split")]
    here = [{"data": recorded["data"]["name"], "split": split} for split in splits if split]
    return TrainedNetwork(
        path=path,
        family=OURS,
        model=recorded["model"],
        weights=weights,
        classes=recorded["classes"],
        data=recorded["data"],
        precision=recorded["precision"] or "32-true",
        # Older checkpoints do not have the key: they are evaluated in the more exact "ieee".
        fp32_precision="tf32" if training.get("fp32_precision") == "tf32" else "ieee",
        channels_last=bool(training.get("channels_last")),
        trained_on=None if before is None else [*before, *here],
        epoch=checkpoint["epoch"] + 1,
    )


def check_fit(model: Mapping[str, Any], weights: Mapping[str, Tensor], path: str) -> None:
    """Raises UserError if a Segmenter's state_dict does not fit the network that `model` names, or has values
    that no network can compute with."""
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes are recorded
            wanted = Segmenter.from_config(model).state_dict()
    except UserError as error:
        raise UserError(f"checkpoint={path}: its network cannot be made. {error.text}") from error
    lines = [
        f"  {key}: {tuple(weights[key].shape) if key in weights else 'missing'}, "
        f"expected {tuple(wanted[key].shape) if key in wanted else 'none'}"
        for key in sorted(wanted.keys() | weights.keys())
        if key not in wanted or key not in weights or wanted[key].shape != weights[key].shape
    ]
    if lines:
        raise UserError(
            f"checkpoint={path}: its weights do not fit the network that it names, in "
            f"{counted(len(lines), 'place')}:\n{shorten(lines)}"
        )
    lines = [
        f"  {key}: {problem}"
        for key, tensor in weights.items()
        if (problem := fault(key, tensor, wanted[key].dtype))
    ]
    if lines:
        raise UserError(
            f"checkpoint={path}: {counted(len(lines), 'tensor')} in it cannot be weights:\n{shorten(lines)}\n"
            f"The file is damaged, or from a training that diverged. Give another checkpoint."
        )


def digest(path: str) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
