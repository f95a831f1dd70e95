"""What a run that was stopped is compared with: one that was not."""

import csv

import torch
from front_doors import TINY

from src.weights.checkpoint_files import load_checkpoint

TIMES = ("train/images_per_second", "train/data_wait")

# Four steps an epoch, two epochs; dropout draws from the global generator.
PLAIN = (
    *TINY,
    "callbacks=faulty",
    "trainer.num_sanity_val_steps=0",
    "callbacks.pictures=null",
    "model.dropout=0.5",
)
EVERYTHING = (
    *PLAIN,
    "trainer.accumulate_grad_batches=2",
    "trainer.gradient_clip_val=1.0",
    "data.num_workers=1",
)


def assert_same(run, whole):
    assert run.code == 0, run.err
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (load_checkpoint(r.directory / "checkpoints" / name) for r in (run, whole))
        for key in ("state_dict", "current_model_state"):
            weights = one.get(key, {}), other.get(key, {})
            assert weights[0].keys() == weights[1].keys()
            assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[1]), (name, key)
        assert one["optimizer_states"][0]["param_groups"] == other["optimizer_states"][0]["param_groups"]
        assert one["lr_schedulers"] == other["lr_schedulers"]
        assert one["global_step"] == other["global_step"]
    assert run.metrics["confusion_matrix"] == whole.metrics["confusion_matrix"]
    assert rows(run) == rows(whole)


def rows(run):
    """The rows of metrics.csv, without those columns that are times."""
    with (run.directory / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]
