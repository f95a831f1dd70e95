"""An MLflow logger that continues its MLflow run when the run directory resumes."""

from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger

from src.runs.atomic_files import write_text

_KEPT = "mlflow_id.txt"


def mlflow_logger(save_dir: str | Path, run_id: str | None = None, **arguments: Any) -> MLFlowLogger:
    """Lightning's MLFlowLogger for a run directory.

    Args:
        save_dir: the run directory.
        run_id: of the MLflow run; None = the one kept in the run directory, a new one for a new run.
        arguments: any other argument of Lightning's MLFlowLogger.
    """
    kept = Path(save_dir) / _KEPT
    if run_id is None and kept.exists():
        run_id = kept.read_text().strip()
    return MLFlowLogger(run_id=run_id, **arguments)


def keep_mlflow_id(logger: MLFlowLogger, run_dir: Path) -> None:
    """Begins the MLflow run if it is new, and keeps its id in the run directory."""
    write_text(run_dir / _KEPT, f"{logger.run_id}\n")
