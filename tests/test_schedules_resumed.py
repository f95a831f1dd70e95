"""Schedules, parameter groups and early stopping in a training: killed and resumed, they are as without."""

import csv

import pytest
from front_doors import TINY, early_stopping
from resumed import PLAIN, assert_same

TORCH = "schedule._target_=torch.optim.lr_scheduler."
OFTEN = (*PLAIN, "callbacks.last.every_n_train_steps=1", "trainer.log_every_n_steps=1")
STOP = early_stopping("min", 1)
GROUPS = (
    "optimizer.groups={stage1.*: {lr_factor: 0.1}, *norm*: {weight_decay: 0}, stage2_down.*: {lr_factor: 0}}"
)


def rates(run, name="lr-Adam"):
    with (run.directory / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "hook", "at"),
    [
        (("schedule=any", f"{TORCH}CosineAnnealingLR", GROUPS), "on_train_batch_start", 7),
        (("schedule=warmup_cosine", "schedule.warmup=3"), "on_train_batch_end", 2),
        (
            (
                *("loss=ohem", "loss.min_kept=0.5", "trainer.precision=bf16-mixed", "channels_last=true"),
                *("schedule=warmup_cosine", "schedule.warmup=0.4"),
            ),
            "on_train_batch_end",
            3,
        ),
        (("schedule=one_cycle", GROUPS), "on_validation_batch_start", 1),
        (
            ("schedule=any", f"{TORCH}StepLR", "+schedule.step_size=1", "schedule.interval=epoch"),
            "on_validation_batch_start",
            2,
        ),
        (
            # A threshold that nothing passes: the rate falls after the second validation.
            (
                *("schedule=any", f"{TORCH}ReduceLROnPlateau", "schedule.monitor=val/mIoU"),
                *("+schedule.patience=0", "+schedule.threshold=0.99", "trainer.max_epochs=3"),
            ),
            "on_train_batch_start",
            10,
        ),
        (("schedule=any", f"{TORCH}MultiStepLR", "+schedule.milestones=[2,5]"), "on_train_batch_end", 5),
        (("schedule=any", f"{TORCH}CosineAnnealingWarmRestarts", "+schedule.T_0=3"), "on_train_batch_end", 5),
        (("schedule=any", f"{TORCH}CyclicLR", "+schedule.base_lr=1e-5"), "on_train_batch_end", 5),
        (("optimizer=any", "optimizer._target_=torch.optim.RMSprop", GROUPS), "on_train_batch_end", 5),
        ((STOP, "trainer.max_epochs=8"), "on_train_batch_start", 6),
        ((STOP, "trainer.max_epochs=8"), "on_fit_end", 1),  # after the last checkpoint
        (
            (early_stopping("min", 9, "train/loss_step"), "trainer.val_check_interval=2"),
            "on_validation_batch_start",
            2,
        ),
    ],
    ids=lambda value: value[-1].rpartition(".")[2] if isinstance(value, tuple) else str(value),
)
def test_a_killed_run_ends_to_the_bit_as_one_that_was_not(
    doors, stop, whole, faulty_conf, overrides, hook, at
):
    assert stop(*OFTEN, *overrides, hook=hook, at=at, what="Crash") == "Crash"
    run = doors("train", f"--config-dir={faulty_conf}", *OFTEN, *overrides)
    assert_same(run, whole(*OFTEN, *overrides))
    if STOP in overrides:
        assert "Ended in epoch 2/8: EarlyStopping (monitor=val/mIoU, patience=1)" in run.out
    if "schedule.monitor=val/mIoU" in overrides:
        assert rates(run)[-1] == pytest.approx(rates(run)[0] / 10)


@pytest.mark.slow
def test_a_schedule_of_epochs_where_steps_end_the_training(doors):
    """8 steps are 2 epochs: half way the cosine is at half the rate."""
    cosine = ("schedule=any", f"{TORCH}CosineAnnealingLR", "schedule.interval=epoch")
    end = ("trainer.max_epochs=-1", "trainer.max_steps=8", "trainer.log_every_n_steps=1")
    run = doors("train", *TINY, "callbacks.pictures=null", *cosine, *end)
    assert run.code == 0, run.err
    assert rates(run) == pytest.approx(4 * [1e-3] + 4 * [5e-4])


@pytest.mark.slow
def test_stochastic_weight_averaging(doors, stop, faulty_conf):
    """Lightning adds an epoch without a step of the optimizer to it, which has no gradients to rescale."""
    average = (
        "+callbacks.swa={_target_: pytorch_lightning.callbacks.StochasticWeightAveraging, swa_lrs: 1e-4}"
    )
    keys = (*PLAIN, average, "trainer.max_epochs=3")
    assert stop(*keys, hook="on_train_batch_start", at=9, what="Crash") == "Crash"
    run = doors("train", f"--config-dir={faulty_conf}", *keys)
    assert run.code == 0, run.err
    assert "Resuming from" in run.out
