"""What every command has in common: help, flags, and messages for values that are not allowed."""

import io
import subprocess

import pytest
import rich
from front_doors import REPOSITORY, TINY
from pytorch_lightning import Trainer
from rich.console import Console

from src.errors import UserError, counted
from src.objects import build
from src.training.callbacks.network_summary import NetworkSummary
from src.training.module import SegmentationModule


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("task", "sentence"),
    [("train", "Trains a network"), ("eval", "Evaluates a checkpoint"), ("doctor", "Tells whether"),
     ("benchmark", "Measures what")],
)  # fmt: skip
def test_help_says_what_the_command_does(doors, task, sentence):
    done = subprocess.run(
        doors.command(task, "--help"), cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    title, about, _, examples, *_ = done.stdout.splitlines()
    assert title == f"== python -m src.{task} =="
    assert about.startswith(sentence)
    assert examples == "Examples:"


@pytest.mark.parametrize("flag", ["--help", "--cfg=job"])
def test_a_reader_that_has_enough(doors, flag):
    with subprocess.Popen(
        doors.command("train", flag), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as command:
        command.stdout.close()
        assert command.stderr.read() == b""
    assert command.returncode == 0


@pytest.mark.parametrize(
    ("flag", "right"),
    [
        ("--experiment=debug", "experiment=debug"),
        ("--trainer.devices=2", "trainer.devices=2"),
        ("--name", "name=..."),
    ],
)
def test_keys_with_dashes(doors, flag, right):
    outcome = doors("train", flag)
    assert outcome.code == 2
    assert outcome.err.strip().endswith(f"Keys have no dashes before them: {right}")


def test_a_sweep_of_another_primary_config(doors):
    outcome = doors("train", "-m", "--config-name=eval", "seed=1,2")
    assert outcome.code == 2
    assert outcome.err.strip().startswith("--config-name=eval: not allowed in a sweep.")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "data.crop_size=[0,5]",
            "data.crop_size=[0, 5]: expected a list of 2 values, each a whole number from",
        ),
        ("schedule.power=abc", "schedule.power=abc: expected a number above 0"),
        ("optimizer.lr=abc", "optimizer.lr=abc: expected a number above 0"),
        ("augment.flip.p=2", "augment.flip.p=2: expected a number from 0 to 1"),
        ("loss.label_smoothing=3", "loss.label_smoothing=3: expected a number from 0 to below 1"),
        (
            "+augment.rotate={_target_:albumentations.Rotate,p:2}",
            "p: Input should be less than or equal to 1",
        ),
        ("trainer.accelerator=cuda", "trainer.accelerator=cuda: PyTorch can use no GPU here"),
    ],
)
def test_values_that_are_not_allowed(doors, monkeypatch, override, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    outcome = doors("train", *TINY, override)
    assert outcome.code == 2
    assert message in outcome.err
    assert "pydantic" not in outcome.err
    assert not outcome.directory.exists()


def test_an_error_that_the_object_itself_explains_is_its_own():
    with pytest.raises(UserError, match=r"^RandomScaledCrop: scale=\[3, 1\]"):
        build(
            "augment.crop", {"_target_": "src.data.augment.RandomScaledCrop", "size": [1, 1], "scale": [3, 1]}
        )


def test_counted():
    assert [counted(n, "device") for n in (0, 1, 2)] == ["0 devices", "1 device", "2 devices"]


def test_the_summary_fits_into_a_terminal(monkeypatch):
    terminal = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(rich, "_console", terminal)
    module = SegmentationModule(
        model={
            "_target_": "src.network.cgnet.CGNet", "num_classes": 19,
            "preprocessing": {"mean": [1, 2, 3], "std": [1, 1, 1]},
        },
        data={"crop_size": [512, 1024]}, classes=[str(i) for i in range(19)],
    )  # fmt: skip
    NetworkSummary(max_depth=3).on_fit_start(Trainer(accelerator="cpu", logger=False), module)
    lines = terminal.file.getvalue().splitlines()
    stage3 = next(line.split() for line in lines if line.split()[:1] == ["stage3"])
    assert (stage3[1], stage3[-1]) == ("Sequential", "128x64x128")
    assert lines[-1].startswith("496,306 parameters")
    assert len(lines) < 20  # no line is wrapped
