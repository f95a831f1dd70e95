"""Every file of conf/ that a training can choose composes, and runs at toy size."""

import pytest
from front_doors import REPOSITORY

from src.runs.jobs import read_jobs

CONF = REPOSITORY / "conf"
TOY = (
    *("data=street_tiny", "data.street.train=8", "data.street.val=2", "data.batch_size=4"),
    *("data.crop_size=[64,64]", "data.num_workers=0", "model.num_blocks=[2,2]"),
    *("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu"),
    *("trainer.precision=32-true", "channels_last=false", "callbacks.pictures.count=1"),
)
NEEDS = {  # what a file does not say itself
    "optimizer=any": ["optimizer._target_=torch.optim.RMSprop"],
    "schedule=any": ["schedule._target_=torch.optim.lr_scheduler.CosineAnnealingLR"],
    "experiment=cityscapes_mmseg": ["trainer.val_check_interval=1.0"],  # it validates every 4000 steps
}
GROUPS = ("experiment", "model", "augment", "loss", "optimizer", "schedule", "trainer", "callbacks", "logger")


def files(*groups):
    """`group=file`, with the folders of data= left out: their datasets are in test_known_datasets.py."""
    return [f"{group}={path.stem}" for group in groups for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.sampled(1)
@pytest.mark.parametrize("choice", files(*GROUPS))
def test_it_runs(doors, choice):
    if choice == "logger=mlflow":
        pytest.importorskip("mlflow", reason="pip install mlflow")
    toy = [override for override in TOY if choice != "model=pixelwise" or "num_blocks" not in override]
    run = doors("train", choice, *toy, *NEEDS.get(choice, []))
    assert run.code == 0, run.err
    assert run.metrics["last"]["epoch"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("choice", files("sweep"))
def test_its_jobs_run(doors, choice):
    if choice == "sweep=optuna":
        pytest.importorskip("optuna", reason='pip install -e ".[optuna]"')
    few = ["hydra.sweeper.n_trials=2"] if choice == "sweep=optuna" else []
    toy = [override for override in TOY if choice != "sweep=depth" or "num_blocks" not in override]
    swept = doors("train", "-m", choice, *toy, *few, name="sweep", own_process=True)
    assert swept.code == 0, swept.err
    jobs = read_jobs(doors.folder / "train/sweep")
    assert len(jobs) >= 2
    assert {job.status for job in jobs} == {"finished"}
    assert (doors.folder / "train/sweep/comparison.html").exists()
