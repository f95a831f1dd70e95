"""What dashboards show besides metrics: pictures with class maps, tables, the confusion matrix, files.

A callback says what is shown. `dashboards` gives it one adapter per logger, which knows how W&B, TensorBoard
or MLflow want it. Any other logger gets metrics alone.
"""

import csv
import glob
import io
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from src.labels import IGNORE, LabelTable
from src.report.pictures import Row, confusion_png, panel
from src.report.table import markdown

Cell = str | int | float | None


class Dashboard:
    """One logger's way to show things; by default it shows none.

    Keys are as `val/panel`: W&B and TensorBoard make sections of the part before the slash.
    """

    def __init__(self, logger: Any, table: LabelTable):
        self.logger = logger
        self.labels = table

    def pictures(self, key: str, rows: Sequence[Row], step: int, width: int = 512) -> None:
        """Images with their ground truth and prediction, at most `width` pixels wide."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """A table; empty cells are None."""

    def confusion(self, key: str, matrix: np.ndarray, step: int) -> None:
        """A confusion matrix, int64 (C, C): rows are ground truth, columns are prediction."""

    def summary(self, values: dict[str, Any]) -> None:
        """Values of the whole run, beside the last ones of its metrics."""

    def file(self, path: Path) -> None:
        """A file of the run directory."""

    def _attempt(self, action: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        """Our loggers endure a server that fails; one's own may not."""
        attempt = getattr(self.logger, "attempt", None)
        attempt(action, *args, **kwargs) if attempt else action(*args, **kwargs)


class WandbDashboard(Dashboard):
    def pictures(self, key: str, rows: Sequence[Row], step: int, width: int = 512) -> None:
        """Masks that can be switched on and off, with the classes' names; 255 is `ignored`."""
        names: dict[int, str] = {**dict(enumerate(self.labels.class_names)), IGNORE: "ignored"}
        # Every nth pixel: uploads of megabytes are slow, and class maps must not be interpolated.
        stride = [max(1, -(-image.shape[1] // width)) for _, image, _, _ in rows]

        def mask(class_map: np.ndarray, n: int) -> dict[str, Any]:
            return {"mask_data": class_map[::n, ::n], "class_labels": names}

        self.logger.log_image(
            key,
            [image[::n, ::n] for n, (_, image, _, _) in zip(stride, rows, strict=True)],
            step=step,
            caption=[name for name, *_ in rows],
            masks=[
                {"prediction": mask(prediction, n)}
                | ({} if target is None else {"ground_truth": mask(target, n)})
                for n, (_, _, target, prediction) in zip(stride, rows, strict=True)
            ],
        )

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        self.logger.log_table(key, list(columns), [list(row) for row in rows], step=step)

    def confusion(self, key: str, matrix: np.ndarray, step: int) -> None:
        """W&B's own chart of a confusion matrix, which takes counts: here of pixels."""
        import wandb

        names = self.labels.class_names
        cells = [
            [names[row], names[column], int(matrix[row, column])] for row, column in np.ndindex(matrix.shape)
        ]
        table = wandb.Table(columns=["Actual", "Predicted", "nPredictions"], data=cells)
        chart = wandb.plot_table(
            "wandb/confusion_matrix/v1",
            table,
            {name: name for name in ("Actual", "Predicted", "nPredictions")},
            {"title": "Confusion matrix (pixels)"},
        )
        self.logger.log_metrics({key: chart}, step)

    def summary(self, values: dict[str, Any]) -> None:
        self._attempt(lambda: self.logger.experiment.summary.update(values))

    def file(self, path: Path) -> None:
        save = partial(self.logger.experiment.save, base_path=str(path.parent), policy="now")
        self._attempt(lambda: save(glob.escape(str(path))))  # W&B takes a pattern

    def model(self, path: Path, aliases: Sequence[str], metadata: dict[str, Any]) -> None:
        """The checkpoint as an artifact, if the logger has been told to log it."""
        import wandb

        if not getattr(self.logger, "log_best_model", False):
            return
        artifact = wandb.Artifact(f"model-{self.logger.version}", type="model", metadata=metadata)
        artifact.add_file(str(path), name=path.name)
        self._attempt(
            lambda: self.logger.experiment.log_artifact(artifact, aliases=["latest", "best", *aliases])
        )


class TensorBoardDashboard(Dashboard):
    def pictures(self, key: str, rows: Sequence[Row], step: int, width: int = 512) -> None:
        self._image(key, panel(rows, self.labels, max_width=width), step)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        text = markdown([columns, *([_text(cell) for cell in row] for row in rows)])
        self.logger.experiment.add_text(key, text, step)
        self.logger.experiment.flush()

    def confusion(self, key: str, matrix: np.ndarray, step: int) -> None:
        self._image(key, _pixels(confusion_png(matrix, self.labels.class_names)), step)

    def _image(self, key: str, pixels: np.ndarray, step: int) -> None:
        self.logger.experiment.add_image(key, pixels, step, dataformats="HWC")
        self.logger.experiment.flush()


class MLflowDashboard(Dashboard):
    def pictures(self, key: str, rows: Sequence[Row], step: int, width: int = 512) -> None:
        self._image(f"{key}/{step:07d}.jpg", panel(rows, self.labels, max_width=width))

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        # Not log_table, which would add the rows to those of an evaluation before.
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        self._attempt(
            lambda: self.logger.experiment.log_text(self.logger.run_id, text.getvalue(), f"{key}.csv")
        )

    def confusion(self, key: str, matrix: np.ndarray, step: int) -> None:
        self._image(f"{key}.png", _pixels(confusion_png(matrix, self.labels.class_names)))

    def summary(self, values: dict[str, Any]) -> None:
        for key, value in values.items():
            self._attempt(self._tag, key, value)

    def _tag(self, key: str, value: Any) -> None:
        self.logger.experiment.set_tag(self.logger.run_id, key, value)

    def file(self, path: Path) -> None:
        self._attempt(lambda: self.logger.experiment.log_artifact(self.logger.run_id, str(path)))

    def _image(self, name: str, pixels: np.ndarray) -> None:
        self._attempt(lambda: self.logger.experiment.log_image(self.logger.run_id, pixels, name))


_ADAPTERS: tuple[tuple[type[Logger], type[Dashboard]], ...] = (
    (WandbLogger, WandbDashboard),
    (TensorBoardLogger, TensorBoardDashboard),
    (MLFlowLogger, MLflowDashboard),
)


def dashboards(loggers: Iterable[Logger], table: LabelTable) -> list[Dashboard]:
    """An adapter for each logger whose dashboard shows more than metrics; for rank 0 only."""
    return [
        adapter(logger, table)
        for logger in loggers
        for kind, adapter in _ADAPTERS
        if isinstance(logger, kind)
    ]


def _text(cell: Cell) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    return f"{cell:.4f}" if isinstance(cell, float) else str(cell)


def _pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)).convert("RGB"))
