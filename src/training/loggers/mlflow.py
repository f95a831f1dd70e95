"""An MLflow logger that continues its MLflow run when the run directory resumes."""

import re
import time
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from src.config import flatten
from src.runs.atomic_files import write_text
from src.training.loggers.enduring import Enduring

_KEPT = "mlflow_id.txt"
_LONGEST = 250  # characters of a value that Lightning sends
_NOT_IN_NAMES = re.compile(r"[^\w\-. :/]")  # of parameters: MLflow refuses them


class EnduringMLFlowLogger(Enduring, MLFlowLogger):
    """Lightning's, for runs that resume, and for servers that fail."""

    service = "MLflow"

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._logged: dict[str, int] = {}

    @rank_zero_only
    def resume_from(self, step: int) -> None:
        """Leaves out what MLflow has already: the values after the checkpoint of a run that was killed."""
        self.attempt(self._read_logged)

    def _read_logged(self) -> None:
        for key in self.experiment.get_run(self.run_id).data.metrics:
            history = self.experiment.get_metric_history(self.run_id, key)
            self._logged[key] = max(value.step for value in history)
        self.experiment.update_run(self.run_id, status="RUNNING")  # it may have been ended as failed

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """MLflow refuses another value for a parameter of a run. Where a resumed run has other values
        (devices, revision, max_epochs), the parameter keeps that of the first start; a tag
        `resumed/<parameter>` has the new one."""
        assert isinstance(params, dict)
        self.attempt(self._log_new, dict(flatten(params)))

    def _log_new(self, params: Mapping[str, Any]) -> None:
        known = self.experiment.get_run(self.run_id).data.params
        named = {_NOT_IN_NAMES.sub("_", key): value for key, value in params.items()}
        super().log_hyperparams({key: value for key, value in named.items() if key not in known})
        for key, value in named.items():
            if key in known and known[key] != (text := str(value)[:_LONGEST]):
                self.experiment.set_tag(self.run_id, f"resumed/{key}", text)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        new = {key: value for key, value in metrics.items() if (step or 0) > self._logged.get(key, -1)}
        self.attempt(super().log_metrics, new, step)

    def finalize(self, status: str = "success") -> None:
        self.attempt(super().finalize, status)


def mlflow_logger(save_dir: str | Path, run_id: str | None = None, **arguments: Any) -> EnduringMLFlowLogger:
    """An MLflow logger for a run directory.

    Args:
        save_dir: the run directory.
        run_id: of the MLflow run; None = the one kept in the run directory, a new one for a new run.
        arguments: any other argument of Lightning's MLFlowLogger.
    """
    kept = Path(save_dir) / _KEPT
    if run_id is None and kept.exists():
        run_id = kept.read_text().strip()
    return EnduringMLFlowLogger(run_id=run_id, **arguments)


def keep_mlflow_id(logger: MLFlowLogger, run_dir: Path) -> None:
    """Begins the MLflow run if it is new, and keeps its id in the run directory."""
    try:
        run_id = logger.run_id
    except Exception:  # another job of a sweep may have created the experiment, or the database, meanwhile
        time.sleep(1)
        run_id = logger.run_id
    write_text(run_dir / _KEPT, f"{run_id}\n")
