"""From an exported file to a network that is ready to compute, with all that the file says about it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from src.errors import UserError
from src.inference.engines.engine import Engine
from src.inference.exports import onnx_file, openvino_file, torch_file
from src.inference.exports.metadata import parsed
from src.inference.tables import numbered
from src.inference.views import Inference, scaled
from src.label_tables import table_of
from src.labels import Label, LabelTable
from src.network.segmenter import Segmenter
from src.weights.recorded_network import RecordedNetwork
from src.weights.trained_network import EXPORTED, TrainedNetwork, restore

FORMATS: dict[str, ModuleType] = {"onnx": onnx_file, "openvino": openvino_file, "torch": torch_file}
Size = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class ExportedNetwork(RecordedNetwork):
    """A network in a file that python -m src.export has made.

    engine: computes the file's graph. output: of the graph, "class_map" or "logits". size: of all images, if
    the file is for one size. table: its classes. recorded: the provenance of the weights, and how they were
    exported.
    """

    engine: Engine
    output: str
    size: Size | None
    table: LabelTable
    recorded: dict[str, Any]

    @property
    def provenance(self) -> dict[str, Any]:
        return self.recorded | {"checkpoint": self.path}

    def segmenter(self, _: Mapping[str, Any] | None = None) -> Segmenter:
        """For whatever takes a Segmenter; the preprocessing is in the graph."""
        return _ExportedSegmenter(self.engine)

    def check_engine(self, engine: str, device: str) -> None:
        """Raises UserError for another engine than the file's own, and for another device than the CPU."""
        if engine not in ("auto", self.engine.name):
            raise UserError(
                f"engine={engine}: {self.path} runs in {self.engine.name}. Set engine=auto, or give the "
                f"checkpoint that it was exported from."
            )
        if device not in ("auto", "cpu"):
            raise UserError(f"device={device}: exported files run on the CPU here. Set device=cpu.")

    def check_views(self, inference: Inference, sizes: Iterable[Size] = ()) -> None:
        """Raises UserError for views that the file's graph cannot compute.

        Args:
            sizes: of the images, where they are known.
        """
        several = inference.flip or len(inference.scales) > 1
        if self.output != "logits" and (several or inference.window or inference.scales != (1.0,)):
            raise UserError(
                f"checkpoint={self.path}: tta=, window= and input_scale= combine logits, and this file gives "
                f"class maps. Export it with output=logits."
            )
        seen = {
            (min(height, inference.window[0]), min(width, inference.window[1]))
            if inference.window
            else (height, width)
            for scale in inference.scales
            for height, width in (scaled(size, scale) for size in sizes)
        }
        if self.size and (other := sorted(seen - {self.size})):
            raise _other_size(self.path, self.size, other[0])


class _ExportedSegmenter(Segmenter):
    """What an exported graph computes, as a Segmenter without weights. Its engine is on the CPU."""

    def __init__(self, engine: Engine):
        super().__init__(nn.Identity(), mean=[0.0] * 3, std=[1.0] * 3)
        self.engine = engine
        self.min_size = engine.min_size

    def forward(self, image: Tensor) -> Tensor:
        return self.engine(image.cpu()).to(image.device)

    def class_map(self, image: Tensor) -> Tensor:
        return self.engine.class_map(image.cpu()).to(image.device)


def restore_any(path: str, precision: str = "float32") -> TrainedNetwork | ExportedNetwork:
    """The network of a checkpoint, of published weights or of an exported file, by the file's suffix.

    Args:
        precision: of the arithmetic, for an exported file.

    Raises UserError as `restore` and `read_exported` do.
    """
    return read_exported(path, precision) if is_exported(path) else restore(path)


def is_exported(path: Any) -> bool:
    return isinstance(path, str) and path.endswith(EXPORTED)


def read_exported(path: str, precision: str = "float32") -> ExportedNetwork:
    """Raises UserError for a file that is missing, damaged or not exported by us, without the package that
    runs it, and for a precision that it does not have."""
    place = Path(path).expanduser()
    name, file = next((name, file) for name, file in FORMATS.items() if path.endswith(file.SUFFIX))
    if not place.is_file():
        raise UserError(f"checkpoint={path}: no such file.")
    if precision != "float32" and not (name == "openvino" and precision in ("bf16", "fp16")):
        raise UserError(f"precision={precision}: a {place.suffix} file computes in float32.")
    try:
        texts = file.read(place)
    except UserError:
        raise
    except Exception as error:  # of any type, from the runtime's own reader
        raise _damaged(path, name, error) from error
    values = parsed(texts, path)
    how = values["export"]
    try:
        engine = file.engine(place, how["output"], precision)
        engine.min_size = how["min_size"]
        size = (how["size"][0], how["size"][1]) if how["size"] else None
    except Exception as error:
        raise _damaged(path, name, error) from error
    names = [entry["name"] for entry in values["classes"]]
    exported = {"from": values["provenance"]["checkpoint"], "format": name}
    exported |= {key: how[key] for key in ("precision", "output", "size")}
    return ExportedNetwork(
        path=path,
        family=values["provenance"]["family"],
        model=values["model"],
        classes=None if names == numbered(len(names)) else names,
        data=values["data"],
        trained_on=values["provenance"]["trained_on"],
        epoch=values["provenance"]["epoch"],
        engine=_OneSize(engine, size, path) if size else engine,
        output=how["output"],
        size=size,
        table=_table(values),
        recorded=values["provenance"] | {"exported": exported},
    )


def _table(values: Mapping[str, Any]) -> LabelTable:
    if values["data"] is not None:
        return table_of(values["data"])
    labels = [
        Label(e["name"], e["label_id"], e["train_id"], e["name"], False, (*e["color"],))
        for e in values["classes"]
    ]
    return LabelTable("exported", tuple(labels))


def _damaged(path: str, name: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:300]
    return UserError(
        f"checkpoint={path}: not a file of format={name}, or one that is damaged or cut off "
        f"({type(error).__name__}: {reason}). Export the checkpoint again."
    )


class OtherSizeError(UserError):
    """An image has another size than the one that a file is for."""


def _other_size(path: str, size: Size, other: Size) -> UserError:
    return OtherSizeError(
        f"checkpoint={path}: exported for images of {size[1]}x{size[0]} pixels alone, and it would see "
        f"{other[1]}x{other[0]}. Export it with size=null, or with the other size."
    )


class _OneSize:
    """See `Engine`: one image of one size at a time."""

    def __init__(self, engine: Engine, size: Size, path: str):
        self.name, self.precision, self.device = engine.name, engine.precision, engine.device
        self.min_size = engine.min_size
        self._engine = engine
        self._size = size
        self._path = path

    def __call__(self, image: Tensor) -> Tensor:
        return torch.cat([self._engine(one) for one in self._single(image)])

    def class_map(self, image: Tensor) -> Tensor:
        return torch.cat([self._engine.class_map(one) for one in self._single(image)])

    def _single(self, image: Tensor) -> Iterable[Tensor]:
        size = (image.shape[-2], image.shape[-1])
        if size != self._size:
            raise _other_size(self._path, self._size, size)
        return image.split(1)
