"""A run resumes from its own last.ckpt alone."""

import json
import shutil

import pytest
import torch
from front_doors import TINY

from src.weights.checkpoint_files import load_checkpoint

QUIET = (*TINY, "callbacks.summary=null", "callbacks.pictures=null", "trainer.max_epochs=1")


@pytest.fixture(scope="module")
def runs(module_doors):
    found = [module_doors("train", *QUIET, f"seed={seed}", name=f"seed{seed}") for seed in (1, 2)]
    assert [run.code for run in found] == [0, 0]
    return [run.directory for run in found]


@pytest.fixture
def stopped(runs, module_doors):
    """Copies of both, as if they had been stopped: (own, other, how the own one resumes)."""
    folder = module_doors.folder / "train/stopped"
    shutil.rmtree(folder, ignore_errors=True)
    copies = [shutil.copytree(run, folder / run.name) for run in runs]
    for copy in copies:
        (copy / "metrics.json").unlink()
    return (*copies, lambda: module_doors("train", *QUIET, "seed=1", name="stopped/seed1"))


def _change(path, change):
    checkpoint = torch.load(path, weights_only=True)
    change(checkpoint)
    torch.save(checkpoint, path)


def test_a_foreign_last_ckpt_is_refused_by_both_names(stopped):
    own, other, resume = stopped
    shutil.copyfile(other / "checkpoints/last.ckpt", own / "checkpoints/last.ckpt")
    ids = [json.loads((run / "record.json").read_text())["run"] for run in (own, other)]
    outcome = resume()
    assert outcome.code == 2, outcome.out
    for text in (f"{own}/checkpoints/last.ckpt", "name='seed2'", *ids, "copy its own best.ckpt over"):
        assert text in outcome.err
    shutil.copyfile(own / "checkpoints/best.ckpt", own / "checkpoints/last.ckpt")  # the advice
    outcome = resume()
    assert outcome.code == 0, outcome.err
    assert json.loads((own / "record.json").read_text())["run"] == ids[0]
    assert load_checkpoint(own / "checkpoints/last.ckpt")["run"]["id"] == ids[0]


@pytest.mark.slow
def test_a_foreign_best_ckpt_is_not_reported(stopped):
    own, other, resume = stopped
    shutil.copyfile(other / "checkpoints/best.ckpt", own / "checkpoints/best.ckpt")
    outcome = resume()
    assert outcome.code == 2
    assert f"{own}/checkpoints/best.ckpt: written by another run, name='seed2'" in outcome.err
    assert not (own / "metrics.json").exists()


@pytest.mark.slow
def test_runs_of_before_go_on(stopped):
    own, _, resume = stopped
    record = json.loads((own / "record.json").read_text())
    (own / "record.json").write_text(json.dumps({"starts": record["starts"]}))
    for name in ("last.ckpt", "best.ckpt"):
        _change(own / "checkpoints" / name, lambda checkpoint: checkpoint.pop("run"))
    outcome = resume()
    assert outcome.code == 0, outcome.err
    assert json.loads((own / "record.json").read_text())["run"]


@pytest.mark.slow
def test_a_lost_record_takes_the_checkpoints_id(stopped):
    own, _, resume = stopped
    before = json.loads((own / "record.json").read_text())["run"]
    (own / "record.json").unlink()
    assert resume().code == 0
    assert json.loads((own / "record.json").read_text())["run"] == before


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c: c["hyper_parameters"]["model"].update(norm_eps=0.5), "model.norm_eps: 0.5 in it"),
        (lambda c: c["hyper_parameters"]["training"]["optimizer"].update(lr=7.0), "optimizer.lr: 7.0 in it"),
        (
            lambda c: c["hyper_parameters"]["data"].update(crop_size=[32, 32]),
            "data.crop_size: [32, 32] in it",
        ),
    ],
)
def test_another_config_in_the_checkpoint_is_named(stopped, change, named):
    own, _, resume = stopped
    (own / "config.yaml").unlink()
    _change(own / "checkpoints/last.ckpt", change)
    outcome = resume()
    assert outcome.code == 2
    assert named in outcome.err


@pytest.mark.slow
def test_more_epochs_are_another_training_and_the_message_says_how(runs, module_doors):
    outcome = module_doors("train", *QUIET, "seed=1", "trainer.max_epochs=3", name="seed1")
    assert outcome.code == 2
    assert "trainer.max_epochs: 1 before, 3 now" in outcome.err
    advice = f"checkpoint={runs[0]}/checkpoints/best.ckpt name=longer trainer.max_epochs="
    assert advice in outcome.err
    longer = module_doors("train", *QUIET, f"checkpoint={runs[0]}/checkpoints/best.ckpt", name="longer")
    assert longer.code == 0, longer.err
