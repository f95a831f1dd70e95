"""Randomness within the network, such as dropout, as a function of (seed, step, rank) alone."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback


class SeedEachBatch(Callback):
    """Seeds PyTorch before each batch, so that a resumed run draws the numbers of an uninterrupted one.

    The samples have seeds of their own (src/data).

    Args:
        seed: of the run.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, *args: Any) -> None:
        batch = trainer.fit_loop.total_batch_idx
        state = np.random.SeedSequence((self.seed, batch, trainer.global_rank)).generate_state(1, np.uint64)
        torch.manual_seed(int(state[0]))
