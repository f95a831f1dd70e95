"""Quantisation to 8 bits by NNCF, as far as the mIoU on the user's own labelled images allows it."""

import contextlib
import io
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.data.dataset import read_pair
from src.data.layouts import Pair, find_pairs
from src.errors import UserError
from src.inference.engines.openvino_engine import openvino
from src.inference.tables import table_for
from src.label_tables import table_of
from src.metrics.confusion import ConfusionMatrix, scores
from src.network.upsample import best_class
from src.street import write_street
from src.weights.trained_network import TrainedNetwork

log = logging.getLogger(__name__)

CALIBRATION = 100
"""Training images at most, from which the ranges of activations are taken."""


class Int8:
    """Quantises a model. Raises UserError without the package, without data, and for data of other classes.

    Args:
        data: a data group. Ranges come from its train split, the mIoU from its val split.
        max_drop: of the mIoU, at most.

    miou: of the model in float32, and in int8; known after a call.
    """

    def __init__(self, trained: TrainedNetwork, data: Mapping[str, Any] | None, max_drop: float):
        try:
            import nncf
        except ImportError as error:
            raise UserError(
                "precision=int8 needs the package nncf, which is not installed: pip install -e '.[int8]'"
            ) from error
        if data is None:
            raise UserError(
                "precision=int8: give the labelled images on which its mIoU is measured, such as data=camvid "
                "data.root=/path/to/camvid."
            )
        trained.warn_of_seen_images(data["name"], data["val_split"])
        nncf.set_log_level(logging.ERROR)
        self._nncf = nncf
        self.table, self.max_drop = table_of(data), max_drop
        own = table_for(trained).class_names
        if own != self.table.class_names:
            raise UserError(f"data={data['name']}: other classes than those of checkpoint={trained.path}.")
        if street := data.get("street"):
            splits = {split: street[split] for split in ("train", "val")}
            size = {key: street[key] for key in ("width", "height", "seed")}
            write_street(Path(data["root"]), splits, **size)
        self._train, self._val = (
            find_pairs(data["layout"], data["root"], data[key], data) for key in ("train_split", "val_split")
        )
        self.miou: dict[str, float] = {}

    def __call__(self, model: Any) -> Any:
        """An openvino.Model with 8 bits wherever the mIoU allows it. `miou` says whether it is enough."""
        step = max(1, len(self._train) // CALIBRATION)
        calibration = [image for image, _ in self._samples(self._train[::step][:CALIBRATION])]
        log.info("Quantising: ranges from %d images, mIoU on %d", len(calibration), len(self._val))
        with contextlib.redirect_stdout(io.StringIO()):  # progress bars
            quantized = self._nncf.quantize_with_accuracy_control(
                model,
                self._nncf.Dataset(calibration),
                self._nncf.Dataset([None]),  # the validation reads the images by itself
                lambda compiled, _: (self._miou(compiled), None),
                max_drop=self.max_drop,
                subset_size=len(calibration),
            )
        compiled = [openvino().compile_model(m, "CPU", _FLOAT32) for m in (model, quantized)]
        self.miou = dict(zip(("float32", "int8"), map(self._miou, compiled), strict=True))
        log.info("mIoU in float32 %.4f, in int8 %.4f", self.miou["float32"], self.miou["int8"])
        return quantized

    @property
    def problem(self) -> str:
        """In words, that the mIoU drops by too much; empty if it does not."""
        drop = self.miou["float32"] - self.miou["int8"]
        if drop <= self.max_drop:
            return ""
        return (
            f"Its mIoU on the val split is {self.miou['int8']:.4f}, in float32 {self.miou['float32']:.4f}: "
            f"more than max_drop={self.max_drop:g} below."
        )

    def _miou(self, compiled: Any) -> float:
        confusion = ConfusionMatrix(self.table.num_classes)
        for image, target in self._samples(self._val):
            result = torch.from_numpy(np.array(compiled(image)[0]))
            confusion.update(best_class(result) if result.ndim == 4 else result, target)
        return scores(confusion.compute(), list(self.table.class_names))["mIoU"]

    def _samples(self, pairs: Sequence[Pair] | Iterable[Pair]) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        for pair in pairs:
            image, target = read_pair(pair, self.table)
            yield np.ascontiguousarray(image.transpose(2, 0, 1)[None]), torch.from_numpy(target)[None]


_FLOAT32 = {"INFERENCE_PRECISION_HINT": "f32"}
