"""From a file of weights, of a run here or published by others, to a network and the facts about it."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from src.errors import UserError, counted, shorten
from src.network.segmenter import Segmenter
from src.runs.record import ORIGIN
from src.weights.checkpoint_files import load_checkpoint, read_weights_file
from src.weights.checkpoint_schema import check_schema
from src.weights.published import read_published
from src.weights.published_names import OURS
from src.weights.recorded_network import DATASETS, RecordedNetwork, Seen, seen_before
from src.weights.safe_pickle import mapping
from src.weights.shipped import weights_path
from src.weights.tensor_checks import fault

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainedNetwork(RecordedNetwork):
    """What evaluation, prediction, export and fine-tuning take: a network, its weights and their origin.

    weights: the Segmenter's state_dict. val_miou: of the validation that belongs to the weights; None if
    there was none, or on images that they were trained on.
    made_by: what the run recorded about itself, see `Run.origin`; empty for published weights.
    """

    weights: dict[str, Tensor]
    channels_last: bool = False
    val_miou: float | None = None
    made_by: dict[str, Any] = field(default_factory=dict)

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            "checkpoint": self.path,
            "family": self.family,
            "network": self.model["_target_"].rpartition(".")[2],
            "parameters": self._parameters(),
            "epoch": self.epoch,
            "trained_on": self.trained_on,
            "val_mIoU": self.val_miou,
            **{key: self.made_by.get(key) for key in ORIGIN},
            "weights_sha256": self._digest(),
        }

    def _parameters(self) -> int:
        """Their number; the weights have BatchNorm's statistics, too."""
        return sum(p.numel() for p in _without_weights(self.model).parameters())

    def _digest(self) -> str:
        """SHA-256 of the weights, the same in whichever file they are."""
        found = hashlib.sha256()
        for key, tensor in sorted(self.weights.items()):
            found.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def segmenter(self, model: Mapping[str, Any] | None = None) -> Segmenter:
        """The network with its weights, on the CPU in eval mode.

        Args:
            model: with another preprocessing; None = the recorded model.
        """
        segmenter = Segmenter.from_config(model or self.model).eval()
        segmenter.load_state_dict(self.weights)
        if self.channels_last:  # the kernels of each format round differently in 16 bits
            segmenter.channels_last()
        return segmenter


EXPORTED = (".onnx", ".xml", ".pt2")
"""Suffixes of exported files, which src.inference.exports reads."""


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
    if path.endswith(EXPORTED):
        raise UserError(
            f"checkpoint={path}: an exported file, which has no weights to train or to export again. Give "
            f"the checkpoint that it was exported from."
        )
    pickled = read_weights_file(path)
    if "hyper_parameters" in mapping(pickled.root):
        network = network_of(load_checkpoint(path), path)
        check_fit(network.model, network.weights, path)
        return network
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


def network_of(checkpoint: dict[str, Any], path: str) -> TrainedNetwork:
    """The network of a checkpoint of ours that is already loaded. Its weights are not looked at: a training
    that diverged ends with a record, too. Raises UserError for what no training of ours records."""
    check_schema(checkpoint, f"checkpoint={path}")
    recorded = checkpoint["hyper_parameters"]
    weights = {key.removeprefix("segmenter."): tensor for key, tensor in checkpoint["state_dict"].items()}
    began = recorded.get("began_from")
    training = recorded.get("training") or {}
    before: Seen | None = began["trained_on"] if began else []
    splits = [recorded["data"]["train_split"], training.get("unlabelled_split")]
    here = [{"data": recorded["data"]["name"], "split": split} for split in splits if split]
    seen = None if before is None else [*before, *here]
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
        trained_on=seen,
        epoch=checkpoint["epoch"] + 1,
        val_miou=_val_miou(checkpoint, seen or here),
        # Older checkpoints record only the run's id and name, or nothing.
        made_by=checkpoint.get("run") or {},
    )


def is_scored(checkpoint: Mapping[str, Any]) -> bool:
    """Whether its scores are those of its own weights: no step was made since the validation."""
    if not checkpoint.get("scores") or checkpoint.get("scored_epoch") != checkpoint["epoch"]:
        return False
    # Older checkpoints record the epoch alone.
    return "scored_step" not in checkpoint or checkpoint["scored_step"] == checkpoint.get("global_step")


def _val_miou(checkpoint: Mapping[str, Any], seen: Seen) -> float | None:
    """Of the checkpoint's own validation. None also for images that the network was trained on."""
    data = checkpoint["hyper_parameters"]["data"]
    if not is_scored(checkpoint) or seen_before(seen, data["name"], data["val_split"]):
        return None
    return checkpoint["scores"]["mIoU"]


def _without_weights(model: Mapping[str, Any]) -> Segmenter:
    """On the device meta, which takes no memory, whatever sizes are recorded; else a network of the user's
    own whose constructor needs values of tensors."""
    try:
        with torch.device("meta"):
            return Segmenter.from_config(model)
    except (NotImplementedError, RuntimeError):
        return Segmenter.from_config(model)


def check_fit(model: Mapping[str, Any], weights: Mapping[str, Tensor], path: str) -> None:
    """Raises UserError if a Segmenter's state_dict does not fit the network that `model` names, or has values
    that no network can compute with."""
    try:
        wanted = _without_weights(model).state_dict()
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
    """SHA-256 of a file of weights."""
    return hashlib.sha256(weights_path(path).read_bytes()).hexdigest()
