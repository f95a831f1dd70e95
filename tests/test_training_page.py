"""The commands of docs/training.md for optimizers, schedules, ... and augmentation, run as they are."""

import re
import shlex
from importlib.util import find_spec

import pytest
import yaml
from front_doors import REPOSITORY, TINY

_PAGE = (REPOSITORY / "docs/training.md").read_text()
_SECTION = re.search(r"## Optimizers, schedules, callbacks and loggers\n(.*?)\n## ", _PAGE, re.S)[1]
COMMANDS = [
    shlex.split(line)[2:]
    for line in _SECTION.replace("\\\n", " ").splitlines()
    if line.startswith("python -m src.") and "name=" not in line.split()[3]
]
TRAININGS = [arguments for module, *arguments in COMMANDS if module == "src.train"]
EVALUATIONS = [arguments for module, *arguments in COMMANDS if module == "src.eval"]
# What a command leaves: a file, and a text in it.
LEAVES = {
    "RMSprop": ("metrics.csv", "lr-RMSprop"),
    "optimizer.groups": ("metrics.csv", "lr-Adam/"),
    "CSVLogger": ("lightning_logs/version_0/metrics.csv", "val/mIoU"),
}


def test_no_command_lets_the_shell_replace_a_part_of_it():
    assert len(TRAININGS) >= 15
    for block in re.findall(r"```\n(.*?)```", _SECTION, re.S):
        outside = re.sub(r"'[^']*'", "", block)
        assert not re.search(r"[${}*]", re.sub(r"#.*", "", outside)), outside


def missing_package(arguments):
    return "logger=mlflow" in arguments and not find_spec("mlflow")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("arguments", TRAININGS, ids=lambda arguments: arguments[-1][:60])
def test_a_training(doors, arguments):
    run = doors("train", *TINY, "callbacks.summary=null", "callbacks.pictures=null", *arguments)
    if missing_package(arguments):
        assert run.code == 2
        assert "logger.mlflow: src.training.loggers.mlflow.mlflow_logger needs a package" in run.err
        return
    assert run.code == 0, run.err
    for part, (name, text) in LEAVES.items():
        if any(part in argument and "lr_factor: 0}" not in argument for argument in arguments):
            assert text in (run.directory / name).read_text()
    if "logger=tensorboard" in arguments:
        assert any(file.startswith("tensorboard/events") for file in run.files)
    kept = yaml.safe_load((run.directory / "config.yaml").read_text())
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        group, _, name = key.partition(".")
        if name and "." not in name and "$" not in value:
            assert kept[group][name] == yaml.safe_load(re.sub(r"(\*[\w.]*\*?|[\w.]+\*):", r"'\1':", value))


@pytest.mark.parametrize("arguments", EVALUATIONS, ids=lambda arguments: arguments[1][:60])
def test_an_evaluation(doors, arguments):
    assert doors("train", *TINY, "callbacks.summary=null", "trainer.max_epochs=1").code == 0
    checkpoint = f"checkpoint={doors.folder}/train/run/checkpoints/best.ckpt"
    own = [checkpoint if argument.startswith("checkpoint=") else argument for argument in arguments]
    run = doors("eval", "trainer.accelerator=cpu", *own, "+logger.mine={_target_: spy.Notes}")
    assert run.code == 0, run.err
    assert any(file.startswith("tensorboard/events") for file in run.files)
    assert f'"val/mIoU": {run.metrics["mIoU"]}' in (run.directory / "notes").read_text()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("+callbacks.mine={_target_: spy.Nothing}", "callbacks.mine._target_=spy.Nothing: cannot be"),
        ("+callbacks.mine={_target_: spy.Chat, token: x}", "callbacks.mine.token: spy.Chat has no such"),
        ("+logger.mine={_target_: torch.nn.Identity}", "logger.mine: torch.nn.Identity gives a Identity"),
    ],
)
def test_an_evaluation_refuses_what_is_none(module_doors, entry, said):
    checkpoint = module_doors.folder / "train/run/checkpoints/best.ckpt"
    if not checkpoint.exists():
        assert module_doors("train", *TINY, "callbacks.summary=null", "trainer.max_epochs=1").code == 0
    run = module_doors("eval", f"checkpoint={checkpoint}", "trainer.accelerator=cpu", entry)
    assert run.code == 2
    assert said in run.err
    assert not run.directory.exists()


def test_files_of_one_s_own(doors, tmp_path):
    """An optimizer and a schedule in a folder of the user's own config files."""
    for group, text in {
        "optimizer": "_target_: torch.optim.Adagrad\nlr: 2e-3\n",
        "schedule": "_target_: torch.optim.lr_scheduler.ExponentialLR\ngamma: 0.5\ninterval: epoch\n",
    }.items():
        (tmp_path / "my_conf" / group).mkdir(parents=True)
        (tmp_path / "my_conf" / group / "mine.yaml").write_text(text)
    own = (f"--config-dir={tmp_path}/my_conf", "optimizer=mine", "schedule=mine")
    run = doors("train", *own, *TINY, "callbacks.pictures=null", "trainer.log_every_n_steps=4")
    assert run.code == 0, run.err
    header, *rows = (run.directory / "metrics.csv").read_text().splitlines()
    column = header.split(",").index("lr-Adagrad")
    assert [float(row.split(",")[column]) for row in rows if row.split(",")[column]] == [2e-3, 1e-3]
