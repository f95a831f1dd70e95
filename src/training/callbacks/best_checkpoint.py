"""The callback behind best.ckpt and last.ckpt."""

import logging
from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

log = logging.getLogger(__name__)


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, which forgets the best score where the run directory has moved.

    A worse epoch would then overwrite best.ckpt. Here the paths that it remembers move along.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        old, new = str(state_dict["dirpath"]), str(self.dirpath)

        def moved(value: Any) -> Any:
            return value.replace(old, new, 1) if isinstance(value, str) else value

        state = {key: moved(value) for key, value in state_dict.items()}
        state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}
        if not all(isinstance(score, Tensor) for score in state["best_k_models"].values()):
            raise TypeError("a best score that is no number")
        best = state["best_model_path"]
        if best and not Path(best).exists():
            log.warning("%s is gone: the next validation writes another, however good it is.", best)
            return  # with its score remembered only a better epoch would write one
        super().load_state_dict(state)
