"""The run directory of a prediction: what it says about the class maps in it."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rich
from rich import box
from rich.table import Table

from src.errors import UserError, counted
from src.inference import Predictor
from src.inference.views import KEYS
from src.prediction.outputs import SUFFIXES
from src.prediction.shares import Shares
from src.report.pictures import legend, write_image
from src.runs.atomic_files import write_json
from src.runs.directory import Run
from src.runs.directory_checks import check_same_config
from src.weights.trained_network import digest

log = logging.getLogger(__name__)


class Results:
    """Raises UserError if the directory has results of another command.

    Args:
        run: not opened yet.
        kinds: of SUFFIXES.
    """

    def __init__(self, run: Run, kinds: Sequence[str]):
        self.directory = run.directory
        self.name = run.config["name"]
        self._run = run
        self._kinds = kinds
        self._path = run.directory / "predictions.json"
        self._sha256 = digest(run.config["checkpoint"])
        if not run.config["overwrite"] and self._path.exists():
            try:
                check_same_config(run.directory, run.config)
            except UserError as error:
                raise UserError(
                    f"{error.text} overwrite=true deletes what is there, and starts anew."
                ) from error
            self._check_same_weights()
        self._facts: dict[str, Any] = {}

    def _check_same_weights(self) -> None:
        try:
            before = json.loads(self._path.read_text())["sha256"]
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise UserError(
                f"{self._path}: damaged. Start anew with overwrite=true, or choose another name=."
            ) from error
        if before != self._sha256:
            raise UserError(
                f"checkpoint={self._run.config['checkpoint']}: not the file that {self.directory} was "
                f"started with. Choose another name=, or start anew with overwrite=true."
            )

    def open(self, predictor: Predictor) -> None:
        """Make the directory, with the description and the legend."""
        self._run.open()
        if self._run.config["overwrite"]:
            self._path.unlink(missing_ok=True)
            (self.directory / "shares.csv").unlink(missing_ok=True)
            for kind in SUFFIXES:
                shutil.rmtree(self.directory / kind, ignore_errors=True)
        for kind in self._kinds:
            (self.directory / kind).mkdir(exist_ok=True)
            for half_written in (self.directory / kind).rglob(".*.tmp*"):  # by a process that was killed
                half_written.unlink(missing_ok=True)
        config, engine, labels = self._run.config, predictor.engine, predictor.table.train_labels
        self._facts = {
            "checkpoint": config["checkpoint"],
            "sha256": self._sha256,
            "provenance": predictor.provenance,
            "source": config["source"],
            "outputs": list(self._kinds),
            **{key: getattr(engine, key) for key in ("name", "precision", "device")},
            **{key: config[key] for key in KEYS},
            "classes": [
                {"train_id": e.train_id, "label_id": e.id, "name": e.name, "color": list(e.color)}
                for e in labels
            ],
        }
        self._facts["engine"] = self._facts.pop("name")
        write_json(self._path, self._facts)
        write_image(self.directory / "legend.png", legend(predictor.table))

    def finish(
        self, shares: Shares, skipped: Sequence[tuple[str, str]], rate: float | None, example: Path | None
    ) -> None:
        """Write and show what came out."""
        part = shares.counts / shares.counts.sum() if shares.images else shares.counts
        names = [entry["name"] for entry in self._facts["classes"]]
        self._facts |= {
            "images": shares.images,
            "images_per_second": rate,
            "skipped": [{"path": path, "reason": reason} for path, reason in skipped],
            "shares": dict(zip(names, part.tolist(), strict=True)),
        }
        write_json(self._path, self._facts)
        if shares.images:
            table = Table(box=box.SIMPLE)
            table.add_column("class")
            table.add_column("% of all pixels", justify="right")
            for name, share in zip(names, part, strict=True):
                table.add_row(name, f"{100 * share:.2f}")
            rich.print(table)
        speed = "" if rate is None else f", {rate:.3g} images/s"
        look = f" Look at {example}, with the colours of legend.png." if example else ""
        log.info("%s%s: %s.%s", counted(shares.images, "image"), speed, self.directory, look)
