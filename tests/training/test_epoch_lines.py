"""What one watches while a training goes on: log lines, the progress bar, the time left."""

import io
import logging
import time
from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.callbacks import Timer
from rich.console import Console
from rich.progress import Progress

from src.training.callbacks.epoch_lines import EpochLines, ProgressBar
from src.training.callbacks.throughput import Throughput
from src.training.callbacks.time_left import TimeLeft, duration


class Measured(Throughput):
    images_per_second, data_wait = 125.4, 0.031


PACE = Measured()


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(time, "monotonic", lambda: now.seconds)
    return now


def trainer_of(*callbacks, step=0, total=340 * 185, epoch=11):
    loss, miou = torch.tensor(0.43211), torch.tensor(0.65432)
    return SimpleNamespace(
        callbacks=list(callbacks),
        global_step=step,
        current_epoch=epoch,
        max_epochs=340,
        num_training_batches=185,
        is_last_batch=False,
        is_global_zero=True,
        sanity_checking=False,
        callback_metrics={"train/loss_step": loss, "val/loss": loss, "val/mIoU": miou},
        lightning_module=SimpleNamespace(total_steps=total, scores={"mIoU": 0.65432}),
    )


def after_an_epoch(clock, *more, seconds=25.0):
    """An epoch of 185 steps with its validation is done."""
    left = TimeLeft()
    trainer = trainer_of(*more, left)
    left.on_train_start(trainer, None)
    left.on_train_batch_end(trainer, None, None, None, 0)
    clock.seconds, trainer.global_step = clock.seconds + seconds, 185
    left.on_validation_end(trainer, None)
    left.on_train_epoch_end(trainer, None)
    return trainer, left


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (3599, "1 h 0 min"),
        (7980, "2 h 13 min"),
        (1e5, "1 d 3 h"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_time_left_has_validations_in_it(clock):
    trainer, left = after_an_epoch(clock)
    assert left.seconds(trainer) == 339 * 25.0
    clock.seconds, trainer.global_step = (
        clock.seconds + 5,
        200,
    )  # within the next epoch, faster: no validation
    assert left.seconds(trainer) == pytest.approx((340 * 185 - 200) * 25 / 185)
    trainer.callbacks.append(Timer(duration={"seconds": 60}))
    assert left.seconds(trainer) == pytest.approx(60, abs=1)


def test_the_time_left_in_the_first_epoch_and_after_a_resume(clock):
    left, trainer = TimeLeft(), trainer_of(step=1000, total=2000)
    assert left.seconds(trainer) is None
    left.on_train_start(trainer, None)
    assert left.seconds(trainer) is None
    clock.seconds += 500  # the first step compiles
    left.on_train_batch_end(trainer, None, None, None, 0)
    assert left.seconds(trainer) is None
    clock.seconds, trainer.global_step = clock.seconds + 10, 1100
    assert left.seconds(trainer) == 90


def test_a_resume_shortly_before_a_validation_counts_the_steps_after_it(clock):
    left, trainer = TimeLeft(), trainer_of(step=1001, total=2000)
    left.on_train_start(trainer, None)
    left.on_train_batch_end(trainer, None, None, None, 80)
    clock.seconds, trainer.global_step = clock.seconds + 40, 1010
    left.on_validation_end(trainer, None)
    clock.seconds, trainer.global_step = clock.seconds + 10, 1110
    assert left.seconds(trainer) == 89
    clock.seconds += 10
    left.on_validation_end(trainer, None)
    assert left.seconds(trainer) == 890 * 20 / 100


def test_only_the_last_ten_validations_count(clock):
    trainer, left = after_an_epoch(clock, seconds=3600)  # frames cached
    for _ in range(11):
        clock.seconds, trainer.global_step = clock.seconds + 10, trainer.global_step + 100
        left.on_validation_end(trainer, None)
    assert left.seconds(trainer) == pytest.approx((340 * 185 - trainer.global_step) / 10)


def test_lines_fit_into_80_columns(clock, caplog):
    caplog.set_level(logging.INFO)
    trainer, _ = after_an_epoch(clock, PACE)
    lines = EpochLines(seconds=15)
    lines._interactive = False
    lines.on_train_start(trainer, None)
    lines.on_train_batch_end(trainer, None, None, None, 3)
    assert not caplog.messages, "too soon"
    clock.seconds += 16
    lines.on_train_batch_end(trainer, None, None, None, 150)
    lines.on_validation_end(trainer, None)
    assert caplog.messages == [
        "epoch 12/340, 82 %, loss 0.432, 125 images/s, data wait 3 %, 2 h 21 min left",
        "epoch 12/340  val mIoU 0.6543  loss 0.4321  val loss 0.4321  2 h 21 min left",
    ]
    assert max(map(len, caplog.messages)) <= 80


def test_a_short_epoch_has_one_line_with_the_speed(clock, caplog):
    caplog.set_level(logging.INFO)
    trainer = trainer_of(PACE, TimeLeft())
    lines = EpochLines(seconds=15)
    lines._interactive = False
    lines.on_train_start(trainer, None)
    trainer.is_last_batch = True
    for _ in range(2):
        lines.on_train_batch_end(trainer, None, None, None, 184)
    assert caplog.messages == ["epoch 12/340, 100 %, loss 0.432, 125 images/s, data wait 3 %"]


def test_the_bar_fits_into_80_columns(clock):
    trainer, _ = after_an_epoch(clock, PACE)
    bar = ProgressBar()
    bar._trainer = trainer
    console = Console(width=80, record=True, file=io.StringIO())
    progress = Progress(*bar.configure_columns(trainer), console=console)
    bar.train_progress_bar_id = progress.add_task(bar._get_train_description(11), total=185, completed=150)
    console.print(progress)
    (line,) = console.export_text().splitlines()
    assert line.startswith("Epoch 12/340 ")
    assert line.rstrip().endswith(" 150/185 125 images/s, wait 3 %, mIoU 0.654, 2 h 21 min left")
    assert len(line.rstrip()) <= 80
