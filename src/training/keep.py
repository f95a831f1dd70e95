"""The callback behind best.ckpt and last.ckpt."""

from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


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
        super().load_state_dict(state)
