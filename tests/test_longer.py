"""A run that continues beyond its own length, on request."""

import csv
import json

import numpy as np
import pytest
from front_doors import TINY, early_stopping
from resumed import PLAIN, assert_same

QUIET = (*TINY, "callbacks.summary=null", "callbacks.pictures=null", "report.images=0")
EVERY = (*QUIET, "trainer.log_every_n_steps=1")  # four steps an epoch, two epochs
LONGER = (*EVERY, "trainer.max_epochs=3")


def rates(run):
    with (run.directory / "metrics.csv").open(newline="") as file:
        return [float(row["lr-Adam"]) for row in csv.DictReader(file) if row["lr-Adam"]]


def poly(steps):
    return (1e-3 - 1e-4) * (1 - np.arange(steps) / steps) ** 0.9 + 1e-4


@pytest.mark.slow
def test_a_finished_run_continues_on_request_alone(doors):
    before = doors("train", *EVERY)
    assert before.code == 0, before.err
    kept = {name: (before.directory / name).read_bytes() for name in ("metrics.json", "config.yaml")}

    refused = doors("train", *LONGER)
    assert refused.code == 2
    assert "trainer.max_epochs: 2 before, 3 now" in refused.err
    assert "extend=true" in refused.err
    shorter = doors("train", *EVERY, "trainer.max_epochs=1", "extend=true")
    assert shorter.code == 2
    other = doors("train", *LONGER, "optimizer.lr=1e-2", "extend=true")
    assert other.code == 2
    assert "optimizer.lr" in other.err
    assert "max_epochs" not in other.err
    assert kept == {name: (before.directory / name).read_bytes() for name in kept}

    longer = doors("train", *LONGER, "extend=true")
    assert longer.code == 0, longer.err
    np.testing.assert_allclose(rates(longer), [*poly(8), *poly(12)[8:]], rtol=1e-9)
    said = f"the learning rate is {poly(12)[8]:.3g} there, and was 0.0001 so far"
    assert "12 steps now, and had 8 before. Its schedule, PolyLR, continues at step 8 as in" in longer.out
    assert said in (longer.directory / "train.log").read_text()
    assert longer.metrics["last"]["epoch"] == 3
    assert longer.metrics["validations"] == 3
    assert json.loads((longer.directory / "metrics_epoch_2.json").read_text()) == before.metrics

    for again in (LONGER, (*LONGER, "extend=true")):
        assert "is finished" in doors("train", *again).out
    repeated = doors("train", f"--config-dir={longer.directory}", name="again")
    assert "was extended while it trained" in repeated.out
    np.testing.assert_allclose(rates(repeated), poly(12), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule",
    [
        ("schedule=one_cycle",),
        ("schedule=any", "schedule._target_=torch.optim.lr_scheduler.CosineAnnealingLR"),
        ("schedule=any", "schedule._target_=torch.optim.lr_scheduler.StepLR", "+schedule.step_size=3"),
    ],
)
@pytest.mark.parametrize("at", [1, 3])  # before a checkpoint of the longer training, and after one
def test_an_extension_that_was_killed_ends_to_the_bit_as_one_that_was_not(
    doors, stop, faulty_conf, schedule, at
):
    own = (f"--config-dir={faulty_conf}", *PLAIN, *schedule)
    longer = (*own, "trainer.max_epochs=3", "callbacks.last.every_n_train_steps=1")
    for name in ("run", "other"):
        assert doors("train", *own, name=name).code == 0
    whole = doors("train", *longer, "extend=true", name="other")
    killed = stop(*longer[1:], "extend=true", hook="on_train_batch_start", at=at, what="Crash")
    assert killed == "Crash"
    run = doors("train", *longer)
    assert "Resuming from" in run.out
    assert_same(run, whole)


@pytest.mark.slow
def test_an_extended_rate_is_that_of_a_training_of_that_length(doors):
    cycle = ("schedule=one_cycle", "optimizer.groups={classifier.*: {lr_factor: 0.1}}")
    whole = doors("train", *LONGER, *cycle, name="whole")
    assert doors("train", *EVERY, *cycle).code == 0
    run = doors("train", *LONGER, *cycle, "extend=true")
    assert run.code == 0, run.err
    for name in ("lr-Adam/others", "lr-Adam/classifier.*"):
        found, expected = ([row[name] for row in rows(r) if row.get(name)] for r in (run, whole))
        assert found[8:] == expected[8:]
        assert found[:8] != expected[:8]


def rows(run):
    with (run.directory / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_a_run_that_stopped_early_continues_without_early_stopping(doors):
    stop = (*EVERY, early_stopping("min", 1), "trainer.max_epochs=3")
    early = doors("train", *stop)
    assert "Ended in epoch 2/3: EarlyStopping (monitor=val/mIoU, patience=1)" in early.out
    run = doors("train", *LONGER, "extend=true")
    assert run.code == 0, run.err
    assert run.metrics["last"]["epoch"] == 3
    np.testing.assert_allclose(rates(run), poly(12), rtol=1e-9)  # its length is the same, so is its schedule


@pytest.mark.slow
def test_a_run_that_stopped_early_continues_with_more_patience(doors):
    keys = (*EVERY, "trainer.max_epochs=5")
    early = doors("train", *keys, early_stopping("min", 1))
    assert "Ended in epoch 2/5: EarlyStopping (monitor=val/mIoU, patience=1)" in early.out
    run = doors("train", *keys, early_stopping("min", 2), "extend=true")
    assert run.code == 0, run.err
    assert "Ended in epoch 3/5: EarlyStopping (monitor=val/mIoU, patience=2)" in run.out


@pytest.mark.slow
def test_a_run_that_has_ended_within_an_epoch_cannot_be_extended(doors):
    assert doors("train", *QUIET, "trainer.max_steps=3").code == 0
    run = doors("train", *QUIET, "trainer.max_steps=7", "extend=true")
    assert run.code == 2
    assert "has ended the run within an epoch" in run.err
    assert {"metrics.json", "checkpoints/last.ckpt"} <= run.files
    assert "is finished" in doors("train", *QUIET, "trainer.max_steps=3").out
