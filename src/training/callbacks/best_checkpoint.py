"""The callback that writes best.ckpt."""

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

log = logging.getLogger(__name__)


class RunCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that keeps its best score when the run directory has moved.

    Lightning's own forgets the score then, and a worse epoch would overwrite best.ckpt. Here the paths in its
    state are changed to the new directory.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        old, new = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(value: Any) -> Any:
            return value.replace(old, new, 1) if isinstance(value, str) else value

        state = {key: moved(value) for key, value in state_dict.items()}
        state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
        if not all(
            isinstance(score, Tensor) and score.numel() == 1 for score in state["best_k_models"].values()
        ):
            raise TypeError("a best score is not a number")
        best = state["best_model_path"]
        if best and Path(best).parent != Path(new):
            raise ValueError(f"best_model_path={best} is not in {new}")
        if (kth := state["kth_best_model_path"]) and kth not in state["best_k_models"]:
            raise ValueError(f"kth_best_model_path={kth} has no score")
        if best and not Path(best).exists():
            log.warning("%s is gone: the next validation writes a new one, even with a worse score.", best)
            return  # with the old score kept, only a better epoch would write a new file
        super().load_state_dict(state)
