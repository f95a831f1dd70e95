"""Callbacks of a user's own."""

import json
from pathlib import Path

import pytorch_lightning as pl


class RankSpy(pl.Callback):
    """What each rank thinks the metrics are."""

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {key: float(value) for key, value in trainer.callback_metrics.items()}
        (self.folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(metrics))


class Chat(pl.Callback):
    """Would tell a chat of the run."""

    def __init__(self, chat_token: str):
        self.chat_token = chat_token
