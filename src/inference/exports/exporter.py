"""From a checkpoint to files that are left behind only if they compute what the network computes."""

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch.export import ExportedProgram

from src.errors import UserError
from src.inference.engines.program import trace
from src.inference.exports.exported_network import FORMATS, read_exported
from src.inference.exports.int8 import Int8
from src.inference.exports.metadata import metadata
from src.inference.exports.parity import BARS, Comparison, batches, compare, worst
from src.inference.tables import table_for
from src.runs.atomic_files import write_json
from src.runs.machine import machine
from src.weights.trained_network import restore

log = logging.getLogger(__name__)

_UNCHECKED = ".unchecked-"


@dataclass(frozen=True)
class Exported:
    """A file, and how it compares with the network.

    path: of the file, which is there only if `problem` is empty. megabytes: of the file with its weights.
    """

    format: str
    path: Path
    megabytes: float
    comparisons: list[Comparison]
    problem: str


class Exporter:
    """Prepares an export. Raises UserError for every error it can find, before the run directory is made.

    Args:
        config: the values of conf/export.yaml.
    """

    def __init__(self, config: Mapping[str, Any]):
        self.formats = [config["format"]] if isinstance(config["format"], str) else config["format"]
        self.output, self.precision = config["output"], config["precision"]
        self.size = (config["size"][0], config["size"][1]) if config["size"] else None
        for name in self.formats:
            if self.precision not in FORMATS[name].PRECISIONS:
                raise UserError(
                    f"precision={self.precision}: format={name} has {', '.join(FORMATS[name].PRECISIONS)}."
                )
        self._versions = {name: FORMATS[name].versions() for name in self.formats}
        equal, difference = BARS[self.precision]
        own = config["parity"]
        self.bar = (
            equal if own["equal"] is None else own["equal"],
            difference if own["difference"] is None else own["difference"],
        )
        self.trained = restore(config["checkpoint"])
        self._segmenter = self.trained.segmenter()
        if self.size and min(self.size) < self._segmenter.min_size:
            raise UserError(
                f"size={list(self.size)}: the network needs at least {self._segmenter.min_size} pixels."
            )
        self._int8: Int8 | None = None
        if self.precision == "int8":
            if self.size:
                raise UserError("precision=int8: labelled images have their own sizes. Set size=null.")
            self._int8 = Int8(self.trained, config.get("data"), config["max_drop"])
        self._images = list(batches(config["images"], self.size, self._segmenter.min_size))
        if not self.trained.mean_is_known:
            mean = self.trained.model["preprocessing"]["mean"]
            log.warning("WARNING: the mean that its training subtracted is unknown; %s is exported.", mean)
        self._program = _bare(trace(self._segmenter, self.output, self.size))

    def export(self, folder: Path) -> list[Exported]:
        """Write the files and parity.json, which says how each of them compares with the network."""
        for left in folder.glob(f"{_UNCHECKED}*"):  # by a process that was killed
            shutil.rmtree(left, ignore_errors=True)
        exported = [self._export(name, folder) for name in self.formats]
        write_json(
            folder / "parity.json",
            {
                "provenance": self.trained.provenance,
                "output": self.output,
                "precision": self.precision,
                "size": self.size,
                "val_mIoU": self._int8.miou if self._int8 else None,
                "bar": dict(zip(("equal", "difference"), self.bar, strict=True)),
                "files": [
                    {
                        "format": e.format,
                        "file": None if e.problem else e.path.name,
                        "megabytes": e.megabytes,
                        "versions": self._versions[e.format],
                        "problem": e.problem or None,
                        "comparisons": [asdict(c) for c in e.comparisons],
                    }
                    for e in exported
                ],
                "machine": machine(),
            },
        )
        return exported

    def _export(self, name: str, folder: Path) -> Exported:
        file = FORMATS[name]
        target = folder / f"model{file.SUFFIX}"
        log.info("Exporting %s", target)
        how = {
            "format": name,
            "output": self.output,
            "precision": self.precision,
            "size": self.size,
            "min_size": self._segmenter.min_size,
            "versions": self._versions[name] | FORMATS["torch"].versions(),
        }
        texts = metadata(self.trained, table_for(self.trained), how)
        comparisons: list[Comparison] = []
        try:
            with tempfile.TemporaryDirectory(dir=folder, prefix=_UNCHECKED) as place, _quiet():
                draft = Path(place) / target.name
                problem = self._write(name, draft, texts)
                if not problem:
                    comparisons, problem = self._compare(draft)
                written = sorted(draft.parent.iterdir(), key=lambda path: path.suffix)  # .bin, then .xml
                megabytes = round(sum(path.stat().st_size for path in written) / 1e6, 3)
                for path in written if not problem else ():
                    path.replace(folder / path.name)
            if problem:  # nor is the file of an earlier export left, which could be taken for this one
                for suffix in {file.SUFFIX, ".bin"} if name == "openvino" else {file.SUFFIX}:
                    target.with_suffix(suffix).unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{target}: cannot be written ({error}). Set runs_dir=...") from error
        return Exported(name, target, megabytes, comparisons, problem)

    def _write(self, name: str, draft: Path, texts: Mapping[str, str]) -> str:
        """In words, why it was not possible; empty if it was."""
        quantize = {"quantize": self._int8} if self._int8 else {}
        try:
            FORMATS[name].write(self._program, self.output, draft, texts, self.precision, **quantize)
        except (OSError, UserError):
            raise
        except Exception as error:  # of any type, from the exporter
            return f"It cannot be exported: {type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return self._int8.problem if self._int8 else ""

    def _compare(self, draft: Path) -> tuple[list[Comparison], str]:
        """The file, read as whoever uses it reads it, and the network on the same images."""
        try:
            engine = read_exported(str(draft)).engine
        except UserError as error:
            return [], error.text
        comparisons = [compare(self._segmenter, engine, self.output, image) for image in self._images]
        if self.output == "class_map" and all(c.classes == 1 for c in comparisons):
            log.warning(
                "WARNING: the network sees one class in all images, so that the comparison says little. "
                "images=... compares on images of your own."
            )
        return comparisons, worst(comparisons, self.bar)


def _bare(program: ExportedProgram) -> ExportedProgram:
    """Without the places in the source code, which name folders of this machine, and without an example
    image, which would be the only pickle in a .pt2 file."""
    for node in program.graph.nodes:
        node.meta = {key: value for key, value in node.meta.items() if key == "val"}
    program._example_inputs = None
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of torch about its own code, which the user cannot change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
