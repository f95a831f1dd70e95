"""What a training would find out after its first epoch, or never, is said before it."""

from itertools import pairwise

import pytest
from faults import fault
from front_doors import TINY

STOPPING = "_target_: pytorch_lightning.callbacks.EarlyStopping, mode: max, patience: 1, min_delta: 1.0"
STOP = f"+callbacks.early_stopping={{{STOPPING}, monitor: %s}}"
QUIET = (*TINY, "callbacks.summary=null", "callbacks.pictures=null", "report.images=0")


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("callbacks.best.monitor=val/miou",), "callbacks.best.monitor=val/miou: not a metric of this"),
        (("callbacks.best.monitor=val/miou",), "Did you mean val/mIoU? There are: train/loss_step, "),
        ((STOP % "nope",), "callbacks.early_stopping.monitor=nope"),
        (("callbacks.best.monitor=val_IoU/rod",), "Did you mean val_IoU/road?"),
        (("callbacks.best.monitor=lr-Adam", "callbacks.lr=null"), "not a metric of this training"),
        (("callbacks.best.monitor=train/loss_epoch",), "save_on_train_epoch_end=true"),
        (("trainer.max_epochs=null",), "trainer.max_epochs=null and trainer.max_steps=-1"),
        (("trainer.max_epochs=null", "trainer.max_time='00:00:01:00'"), "trainer.max_time does not say"),
        (("trainer.val_check_interval=5",), "an epoch has 4 batches"),
        (("trainer.val_check_interval=3", "trainer.accumulate_grad_batches=2"), "choose a multiple of"),
        (
            ("trainer.val_check_interval=0.2", "trainer.accumulate_grad_batches=2"),
            "a validation after 1 batches",
        ),
        (
            (
                *("trainer.val_check_interval=8", "trainer.check_val_every_n_epoch=null"),
                *("trainer.limit_train_batches=5", "trainer.accumulate_grad_batches=2"),
            ),
            "Set trainer.limit_train_batches to a multiple",
        ),
        (
            (STOP % "train/loss_epoch", "trainer.val_check_interval=0.5"),
            "Set callbacks.early_stopping.check_on_train_epoch_end=true",
        ),
        (("trainer.limit_train_batches=0.01",), "0.01: of 4 batches (train) not one"),
        (("trainer.limit_train_batches=0",), "no training step"),
        (("trainer.overfit_batches=0.1",), "trainer.overfit_batches=0.1"),
        (("trainer.limit_val_batches=0.01",), "trainer.limit_val_batches=0.01: of 3 batches (val) not one"),
        (("trainer.accelerator=tpu",), "trainer.accelerator=tpu: expected auto, gpu,"),
        (
            ("optimizer.fused=true", "trainer.precision=16-mixed", "trainer.gradient_clip_val=1"),
            "optimizer.fused=true cannot be combined",
        ),
        (("optimizer.lr=1e-5",), "schedule.min_lr=0.0001 is above optimizer.lr=1e-05"),
    ],
    ids=str,
)  # fmt: skip
def test_it_is_refused_before_the_run_is_made(doors, overrides, said):
    run = doors("train", *QUIET, *overrides)
    assert run.code == 2, run.out
    assert said in run.err
    assert not run.directory.exists()


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (("trainer.check_val_every_n_epoch=5",), "trainer.check_val_every_n_epoch=5"),
        (("trainer.limit_val_batches=0",), "trainer.limit_val_batches=0"),
        (
            ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=9"),
            "trainer.val_check_interval=9",
        ),
    ],
    ids=str,
)
def test_a_training_that_never_validates_is_warned_of(doors, overrides, why):
    run = doors("train", *QUIET, *overrides)
    assert run.code == 0, run.err
    assert f"nothing will be validated: {why}" in run.out
    assert "checkpoints/best.ckpt" not in run.files


def test_a_training_that_ends_by_its_steps_validates(doors):
    rare = ("trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=9")
    run = doors("train", *QUIET, *rare, "trainer.max_epochs=null", "trainer.max_steps=3")
    assert run.code == 0, run.err
    assert "nothing will be validated" not in run.out
    assert "checkpoints/best.ckpt" in run.files


def test_a_callback_of_one_s_own_may_log_what_another_waits_for(doors):
    own = "+callbacks.chat={_target_: spy.Chat, chat_token: x}"
    run = doors("train", *QUIET, own, "callbacks.best.monitor=my/metric", "trainer.max_epochs=1")
    assert "One of your own callbacks has to log it" in run.out


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            (STOP % "val/mIoU", "trainer.max_epochs=8"),
            "Ended in epoch 2/8: EarlyStopping (monitor=val/mIoU, patience=1)",
        ),
        (
            ((STOP % "val/mIoU").replace("patience: 1", "patience: 0"), "trainer.max_epochs=8"),
            "Ended in epoch 2/8: EarlyStopping (monitor=val/mIoU, patience=0)",
        ),
        (("trainer.max_steps=3",), "Ended in epoch 1/2: trainer.max_steps=3 is reached."),
        (
            ("trainer.max_epochs=999", "trainer.max_time='00:00:00:01'"),
            "/999: trainer.max_time is over (",
        ),
    ],
    ids=["early stopping", "no patience", "steps", "time"],
)
def test_the_log_says_why_a_training_ended(doors, overrides, said):
    run = doors("train", *QUIET, *overrides)
    assert run.code == 0, run.err
    assert said in (run.directory / "train.log").read_text()


def test_an_ordinary_end_needs_no_word_and_the_bar_counts_as_the_log(doors):
    run = doors("train", *QUIET, "trainer.enable_progress_bar=true")
    assert run.code == 0, run.err
    assert "Ended in" not in run.out
    assert "Epoch 2/2" in run.out
    assert "Epoch 0" not in run.out


def test_values_that_are_not_finite_from_the_start_are_not_the_learning_rate_s_fault(doors):
    run = doors("train", *QUIET, "+callbacks.fault={_target_: faults.SpoiltFromTheStart}")
    assert run.code == 2
    assert "The training would begin with values that are NaN or infinite:\n  segmenter." in run.err
    assert "learning rate" not in run.err


def test_a_first_step_that_is_not_finite_is_not_the_learning_rate_s_fault(doors):
    run = doors("train", *QUIET, *fault("SpoilFirst", step=0))
    assert run.code == 2
    assert "in step 1 " in run.err
    assert "the learning rate is not the cause" in run.err
    assert "a lower learning rate" not in run.err


@pytest.mark.slow
def test_pictures_do_not_grow_without_end(doors):
    run = doors("train", *TINY, "callbacks.summary=null", "trainer.max_epochs=7", "callbacks.pictures.keep=4")
    assert run.code == 0, run.err
    kept = sorted(int(name[-8:-4]) for name in run.files if name.startswith("pictures/epoch_"))
    assert len(kept) == 4
    assert (kept[0], kept[-1]) == (1, 7)
    assert max(later - earlier for earlier, later in pairwise(kept)) <= 4
