"""From a file of weights to a function from images to class maps: `load(path)(image)`."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor

from src.errors import UserError
from src.inference.engines.choice import engine_for
from src.inference.engines.engine import Engine
from src.inference.exports.exported_network import ExportedNetwork, restore_any
from src.inference.tables import table_for
from src.inference.views import NO_TTA, Inference
from src.labels import LabelTable
from src.network.trust import trust as trust_classes
from src.schema.check import check_values

Image = np.ndarray | Tensor
"""uint8 RGB: (H, W, 3), or a batch (B, 3, H, W)."""


class Predictor:
    """Class maps of a trained network.

    engine: what computes them. inference: the same with its views and windows.
    table: its classes, with their colours and label ids. provenance: what the weights are.
    crop_size: (height, width) of its training crops in pixels; None if unknown.
    """

    def __init__(
        self,
        engine: Engine,
        inference: Inference,
        table: LabelTable,
        provenance: dict[str, Any],
        crop_size: Sequence[int] | None = None,
    ):
        self.engine = engine
        self.inference = inference
        self.table = table
        self.provenance = provenance
        self.crop_size = crop_size

    @property
    def classes(self) -> tuple[str, ...]:
        """Their names, by train id."""
        return self.table.class_names

    @property
    def colors(self) -> np.ndarray:
        """uint8 (256, 3) RGB by train id: `colors[class_map]` is a picture."""
        return self.table.colors

    def __call__(self, image: Image) -> np.ndarray:
        """uint8 train ids: (H, W), or (B, H, W) of a batch. Raises ValueError for what is no image."""
        batch, single = _batch(image)
        maps = self.inference.class_map(batch).numpy()
        return maps[0] if single else maps

    def logits(self, image: Image) -> np.ndarray:
        """float32 (C, H, W), or (B, C, H, W) of a batch. Raises ValueError with several views (tta), whose
        logits are not averaged, and UserError for an exported file that gives class maps."""
        if self._several:
            raise ValueError("several views (tta) have no common logits: use probabilities()")
        self.check_scores()
        batch, single = _batch(image)
        logits = self.inference(batch).numpy()
        return logits[0] if single else logits

    def probabilities(self, image: Image) -> np.ndarray:
        """float32 in [0, 1] that sum up to 1 over the classes: (C, H, W), or (B, C, H, W) of a batch.
        Raises UserError for an exported file that gives class maps."""
        self.check_scores()
        batch, single = _batch(image)
        scores = self.inference(batch)
        probabilities = (scores if self._several else scores.softmax(1)).numpy()
        return probabilities[0] if single else probabilities

    def check_scores(self) -> None:
        """Raises UserError for an exported file that gives nothing but class maps."""
        if self.provenance.get("exported", {}).get("output") == "class_map":
            raise UserError(
                f"checkpoint={self.provenance['checkpoint']}: logits and probabilities are wanted, and this "
                f"file gives class maps. Export it with output=logits."
            )

    @property
    def _several(self) -> bool:
        return self.inference.flip or len(self.inference.scales) > 1


def load(
    path: str | os.PathLike[str],
    engine: str = "auto",
    precision: str = "float32",
    device: str = "auto",
    *,
    tta: Mapping[str, Any] | None = None,
    window: tuple[int, int] | None = None,
    stride: tuple[int, int] | None = None,
    input_scale: float = 1.0,
    trust: str | Iterable[str] = (),
    images: int | None = None,
) -> Predictor:
    """The network of a file: a checkpoint of a run, published weights, or an exported file.

    Args:
        path: of the file, or the name of a network that comes with the project.
        engine: one of src.inference.engines.engine.ENGINES.
        precision: "float32", "bf16", "fp16".
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        tta: {"scales": [0.75, 1.0], "flip": True}, as in conf/tta.
        window, stride: (height, width); input_scale: as in conf/eval.yaml.
        trust: classes outside src.network that the file may name as its network.
        images: how many there will be, as far as it is known: engine="auto" depends on it.

    Raises UserError where the file cannot be used, and for values that the commands would refuse.
    """
    trust_classes([trust] if isinstance(trust, str) else trust)
    views = {"tta": NO_TTA | dict(tta or {}), "window": window, "stride": stride, "input_scale": input_scale}
    _check_views(views)
    network = restore_any(os.fspath(path), precision)
    crop_size = (network.data or {}).get("crop_size")
    if isinstance(network, ExportedNetwork):
        network.check_engine(engine, device)
        inference = Inference.from_config(network.engine, views)
        inference.check_sizes(())
        network.check_views(inference)
        if network.output != "logits":
            crop_size = None  # which serves to advise an input_scale, and that needs logits
        return Predictor(network.engine, inference, network.table, network.provenance, crop_size)
    chosen = engine_for(network, engine, precision, device, images)
    inference = Inference.from_config(chosen, views)
    inference.check_sizes(())
    return Predictor(chosen, inference, table_for(network), network.provenance, crop_size)


def _check_views(views: Mapping[str, Any]) -> None:
    for key in views["tta"].keys() - NO_TTA.keys():
        raise UserError(f"tta.{key} does not exist: tta has {' and '.join(NO_TTA)}.")
    check_values(OmegaConf.create(dict(views)), "predict")


def _batch(image: Image) -> tuple[Tensor, bool]:
    """(B, 3, H, W), and whether the image came alone."""
    if not isinstance(image, np.ndarray | Tensor):
        raise ValueError(
            f"image is {image!r:.80}: expected an array or a tensor, uint8 RGB (H, W, 3) or (B, 3, H, W)"
            + (". cv2.imread returns None for a file that it cannot read" if image is None else "")
        )
    if 0 in image.shape:
        raise ValueError(f"image has shape {tuple(image.shape)}: it has no pixels")
    if isinstance(image, np.ndarray):
        # A copy where a tensor cannot share the memory: of a mirrored view, or of a read-only array (PIL).
        tensor = torch.from_numpy(np.require(image, requirements=["C", "W"]))
    else:
        tensor = image
    if tensor.dtype != torch.uint8:
        raise ValueError(f"image is {image.dtype}: expected uint8 RGB with values from 0 to 255")
    if tensor.ndim == 3 and tensor.shape[2] == 3:
        return tensor.permute(2, 0, 1)[None], True
    if tensor.ndim == 4 and tensor.shape[1] == 3:
        return tensor, False
    raise ValueError(f"image has shape {tuple(tensor.shape)}: expected (H, W, 3) or (B, 3, H, W)")
