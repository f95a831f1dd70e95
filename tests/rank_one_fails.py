"""A callback for the tests of sweeps: of the ranks of a job, one alone fails."""

import pytorch_lightning as pl


class RankOneFails(pl.Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_index):
        if trainer.global_rank == 1 and batch_index == 1:
            raise RuntimeError("rank 1 fails, and nobody else")
