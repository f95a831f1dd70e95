"""Pictures of a search, drawn by Optuna: history.png and importances.png in the sweep's directory."""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from src.runs.atomic_files import write_bytes

if TYPE_CHECKING:  # an optional dependency
    from optuna.study import Study


def draw(study: Study, directory: Path) -> None:
    """The val mIoU of each trial, and how much each key matters. A picture that fails is left out."""
    import matplotlib as mpl

    mpl.use("agg")  # Optuna draws with pyplot, which may want a display
    from optuna.importance import PedAnovaImportanceEvaluator  # the one that needs no other package
    from optuna.trial import TrialState
    from optuna.visualization import matplotlib as plots

    name = "best val mIoU"
    _write(directory / "history.png", lambda: plots.plot_optimization_history(study, target_name=name))
    if len(study.get_trials(states=[TrialState.COMPLETE])) > 1:
        evaluator = PedAnovaImportanceEvaluator()
        _write(
            directory / "importances.png",
            lambda: plots.plot_param_importances(study, evaluator=evaluator, target_name=name),
        )


def _write(path: Path, plot: Callable[[], Any]) -> None:
    from matplotlib import pyplot as plt

    picture = io.BytesIO()
    try:
        with plt.rc_context(), warnings.catch_warnings():  # Optuna changes the style, and warns of itself
            warnings.simplefilter("ignore")
            plot().figure.savefig(picture, format="png", dpi=150, bbox_inches="tight")
        write_bytes(path, picture.getvalue())
    except Exception as error:  # of Optuna, of matplotlib, of a full disk
        print(f"{path} could not be drawn ({error!r}).", file=sys.stderr)
    finally:
        plt.close("all")
