"""metrics.csv: one row per logged step, kept across restarts."""

import csv
import io
import logging
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from src.runs.atomic_files import CannotWriteError, set_aside, write_text

log = logging.getLogger(__name__)
_MANY = 2000  # rows, beyond which not each of them is written at once
_WAIT = 20  # times as long as writing took, until such a file is written again


class MetricsCSV(Logger):
    """Rows of (step, epoch, metrics...), with all values of a step in one row.

    Lightning's CSVLogger deletes the file when a run resumes. Here the rows are read back, except for those
    after the checkpoint that the run resumes from: their steps are trained again.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        self.path = Path(path)
        self._rows: list[dict[str, Any]] | None = None
        self._next_write = 0.0
        self._is_written = True

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """The run directory's config.yaml holds them."""

    @rank_zero_only
    def resume_from(self, step: int) -> None:
        """Drops the rows of `step`, which is trained next, and of later steps."""
        rows = self._read()
        self._rows = [row for row in rows if int(row["step"]) < step]
        if len(self._rows) < len(rows):
            self._write()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        rows = self._read() if self._rows is None else self._rows
        step = step or 0
        while rows and int(rows[-1]["step"]) > step:
            rows.pop()
        if not rows or int(rows[-1]["step"]) != step:
            rows.append({"step": step})
        rows[-1].update({key: value for key, value in metrics.items() if key != "step"})
        self._rows, self._is_written = rows, False
        if len(rows) < _MANY or time.monotonic() >= self._next_write:
            self._write()

    @rank_zero_only
    def flush(self) -> None:
        """Writes what may not be in the file yet: before a checkpoint, and before the file is read."""
        if not self._is_written:
            self._write()

    def finalize(self, status: str) -> None:
        # After a failure, its own message counts, not that the disk is full for this file, too.
        with nullcontext() if status == "success" else suppress(CannotWriteError):
            self.flush()

    def _read(self) -> list[dict[str, Any]]:
        """The rows of the file; a file that cannot be read is kept under another name."""
        if not self.path.exists():
            return []
        try:
            with self.path.open(newline="") as file:
                rows = [
                    {k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file, strict=True)
                ]
            if any(not row["step"].isdecimal() or None in row for row in rows):
                raise ValueError("a row without a step")
        except (ValueError, LookupError, AttributeError, csv.Error) as error:
            kept = set_aside(self.path)
            log.warning(
                "%s was damaged (%s). It is kept as %s, and a new file is begun.", self.path, error, kept.name
            )
            return []
        return rows

    def _write(self) -> None:
        # The whole file each time, atomically: a run may add columns, and logs a row every 50 steps or so. If
        # it logs each step, a long file is written so rarely that it takes a twentieth of the time.
        assert self._rows is not None
        begun = time.monotonic()
        columns = list(dict.fromkeys(["epoch", "step", *(key for row in self._rows for key in row)]))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.path, text.getvalue())
        self._is_written = True
        self._next_write = time.monotonic() + _WAIT * (time.monotonic() - begun)
