"""What callbacks count where the gradients of several batches are accumulated: steps, not batches."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from src.benchmarks.clock import Clock
from src.training.callbacks.best_checkpoint import RunCheckpoint
from src.training.callbacks.image_ranking import _is_best
from src.training.callbacks.throughput import Throughput


class Linear(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, _):
        return self.layer(batch["image"]).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(callback, **keys):
    data = torch.utils.data.DataLoader([{"image": torch.ones(1)}] * 24, batch_size=1)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **keys,
    )
    trainer.fit(Linear(), data)
    return trainer


@pytest.mark.parametrize("accumulated", [1, 4])
def test_a_benchmark_measures_steps(accumulated):
    clock = Clock(warmup=2, budget=0.0)
    trainer = train(clock, accumulate_grad_batches=accumulated)
    assert trainer.global_step == 2 + 3, "it stops after three blocks of a step each"
    assert len(clock.seconds) == 3


@pytest.mark.parametrize("accumulated", [1, 4])
def test_speed_is_the_mean_over_all_images_since_it_was_logged(accumulated, monkeypatch):
    logged = []
    throughput = Throughput()
    monkeypatch.setattr(Linear, "log_dict", lambda *_: logged.append(throughput._logged.images))
    train(throughput, accumulate_grad_batches=accumulated, log_every_n_steps=2)
    assert logged == [2 * accumulated] * (24 // (2 * accumulated))


@pytest.mark.parametrize(("score", "best"), [(0.5, False), (0.8, True)])
def test_the_best_validation_is_that_of_best_ckpt(tmp_path, score, best):
    """A second ModelCheckpoint, which keeps more of them, says nothing about it."""
    keeper = RunCheckpoint(dirpath=tmp_path, monitor="val/mIoU", mode="max")
    keeper.best_k_models = {"a": torch.tensor(0.7)}
    keeper.kth_best_model_path = "a"
    more = ModelCheckpoint(dirpath=tmp_path / "top", monitor="val/mIoU", mode="max", save_top_k=3)
    trainer = SimpleNamespace(
        checkpoint_callbacks=[more, keeper],
        callback_metrics={"val/mIoU": torch.tensor(score)},
        strategy=SimpleNamespace(reduce_boolean_decision=lambda decision: decision),
    )
    assert _is_best(trainer) == best
