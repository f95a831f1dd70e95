"""`python -m src.train checkpoint=...`: a new run that begins with weights of a file."""

import json

import pytest
import torch
import yaml
from front_doors import TINY
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from published_networks import AuthorsNetwork, MmsegNetwork, SssegNetwork, randomized
from spy import Crash

from src.config import CONF_DIR, register_resolvers
from src.training.fine_tuning import initial_weights
from src.weights.checkpoint_files import load_checkpoint

QUIET = (*TINY, "callbacks.summary=null", "callbacks.pictures=null")
STILL = (
    *QUIET,
    "optimizer.lr=1e-12",
    "schedule=constant",
    "trainer.max_epochs=1",
)  # weights stay what they were
CONV = "segmenter.network.stage2.0.project.conv.weight"
CLASSIFIER = "segmenter.network.classifier.weight"


def _weights(path, network):
    torch.save({"state_dict": network.state_dict()}, path)
    return path


def _last(outcome):
    return load_checkpoint(outcome.directory / "checkpoints/last.ckpt")


@pytest.fixture(scope="module")
def mmseg():
    return randomized(MmsegNetwork(m=2, n=2))


@pytest.fixture(scope="module")
def tuned(module_doors, mmseg):
    path = _weights(module_doors.folder / "mmseg.pth", mmseg)
    outcome = module_doors("train", *STILL, f"checkpoint={path}", name="tuned")
    assert outcome.code == 0, outcome.err
    return outcome


def test_a_run_begins_with_the_weights(tuned, mmseg):
    checkpoint = _last(tuned)
    own = mmseg.state_dict()
    torch.testing.assert_close(checkpoint["state_dict"][CONV], own["backbone.level1.1.conv1x1.conv.weight"])
    torch.testing.assert_close(checkpoint["state_dict"][CLASSIFIER], own["decode_head.conv_seg.weight"])
    assert checkpoint["epoch"] == 0
    assert "published by mmsegmentation" in tuned.out
    assert "classifier starts anew" not in tuned.out
    said = (tuned.directory / "train.log").read_text()
    assert "Beginning with the weights of checkpoint=" in said
    assert "WARNING: nobody recorded which images these weights were trained on" in said
    page = (tuned.directory / "report.html").read_text()
    assert "nobody recorded which images" in page
    assert "mmseg.pth</code> of mmsegmentation" in page
    assert tuned.metrics["began_from"]["family"] == "mmsegmentation"


def test_the_model_follows_the_file_and_the_digest_is_kept(tuned):
    kept = yaml.safe_load((tuned.directory / "config.yaml").read_text())
    recorded = _last(tuned)["hyper_parameters"]
    for model in (kept["model"], recorded["model"]):
        assert (model["norm_eps"], model["classifier_bias"]) == (1e-3, True)
        assert model["preprocessing"]["mean"] == pytest.approx([72.39239876, 82.90891754, 73.15835921])
    assert "model.norm_eps=0.001" in tuned.out
    assert "Set by the command line, not by the file: model.num_blocks=[2, 2]" in tuned.out
    assert recorded["began_from"]["sha256"] == kept["checkpoint_sha256"]
    assert recorded["began_from"]["trained_on"] is None
    assert kept["augment"] is not None


def test_an_evaluation_of_the_run_knows_that_it_may_have_seen_the_images(tuned, module_doors):
    judged = module_doors("eval", f"checkpoint={tuned.directory}/checkpoints/last.ckpt", name="judged")
    assert judged.code == 0, judged.err
    assert "nobody recorded which images these weights were trained on, before they were" in judged.out
    assert judged.metrics["trained_on"] is None


@pytest.mark.slow
def test_a_run_begins_with_another_run_s_best(tuned, module_doors):
    own = module_doors("train", *STILL, "optimizer.lr=0.01", name="own")
    first = f"checkpoint={own.directory}/checkpoints/best.ckpt"
    again = module_doors("train", *STILL, first, name="again")
    assert again.code == 0, again.err
    torch.testing.assert_close(_last(again)["state_dict"][CONV], _last(own)["state_dict"][CONV])
    last = f"checkpoint={again.directory}/checkpoints/last.ckpt"
    judged = module_doors("eval", last, name="judged_again")
    here = {"data": "street_tiny", "split": "train"}
    assert judged.metrics["trained_on"] == [here, here]
    assert "WARNING" not in judged.out
    judged = module_doors("eval", last, "data.split=train", name="judged_train")
    assert "trained on 'train', which has images of 'train'" in judged.out


@pytest.mark.slow
def test_another_number_of_classes_starts_the_classifier_anew(doors, tmp_path):
    network = randomized(AuthorsNetwork(11, m=2, n=2))
    path = _weights(tmp_path / "camvid.pth", network)
    run = doors("train", *STILL, f"checkpoint={path}")
    assert run.code == 0, run.err
    assert "The classifier (network.classifier) starts anew, for 19 classes" in run.out
    state = _last(run)["state_dict"]
    torch.testing.assert_close(state[CONV], network.state_dict()["level2.0.conv1x1.conv.weight"])
    assert state[CLASSIFIER].shape == (19, 256, 1, 1)


@pytest.mark.slow
def test_the_command_line_goes_before_the_file(doors, tmp_path):
    path = _weights(tmp_path / "w", randomized(SssegNetwork(m=2, n=2)))
    run = doors("train", *STILL, f"checkpoint={path}", "model.norm_eps=0.02", "model.dropout=0.1")
    assert run.code == 0, run.err
    model = _last(run)["hyper_parameters"]["model"]
    assert (model["norm_eps"], model["dropout"]) == (0.02, 0.1)
    assert "model.norm_eps=0.02" in run.out
    other = doors("train", *STILL, f"checkpoint={path}", "model.num_blocks=[2,3]", name="other")
    assert other.code == 2
    assert "do not fit" in other.err
    assert "network.stage3.1.f_joi.act.weight: missing, expected (128,)" in other.err
    assert not other.directory.exists()


@pytest.mark.slow
def test_a_run_goes_on_without_the_file(doors, tmp_path, mmseg):
    """It was interrupted, and the file has gone; then the file comes back as another one."""
    (tmp_path / "callbacks").mkdir()
    (tmp_path / "callbacks/faulty.yaml").write_text(
        "defaults: [default, _self_]\nfault: {_target_: spy.Fault, orders: '${runs_dir}/fault.json'}\n"
    )
    path = _weights(tmp_path / "w", mmseg)
    command = (f"--config-dir={tmp_path}", *QUIET, "callbacks=faulty", f"checkpoint={path}")
    order = {"hook": "on_train_epoch_start", "at": 2, "what": "Crash", "rank": 0}
    (doors.folder / "fault.json").write_text(json.dumps(order))
    with pytest.raises(Crash):
        doors("train", *command)
    _weights(path, randomized(MmsegNetwork(m=2, n=2), seed=1))
    refused = doors("train", *command)
    assert refused.code == 2
    assert "checkpoint_sha256: " in refused.err
    path.unlink()
    run = doors("train", *command)
    assert run.code == 0, run.err
    assert "Resuming from" in run.out
    recorded = _last(run)
    assert recorded["epoch"] == 1
    assert recorded["hyper_parameters"]["began_from"]["family"] == "mmsegmentation"


@pytest.mark.slow
def test_a_repeated_run_begins_with_the_same_file(tuned, module_doors):
    again = module_doors("train", "--config-dir", str(tuned.directory), name="repeated")
    assert again.code == 0, again.err
    torch.testing.assert_close(_last(again)["state_dict"], _last(tuned)["state_dict"], rtol=0, atol=0)
    path = module_doors.folder / "mmseg.pth"
    before = path.read_bytes()
    _weights(path, randomized(MmsegNetwork(m=2, n=2), seed=2))
    other = module_doors("train", "--config-dir", str(tuned.directory), name="repeated_other")
    path.write_bytes(before)
    assert other.code == 2
    assert "not the file that this config began with" in other.err


@pytest.mark.slow
def test_the_doctor_looks_at_the_file_too(doors, tmp_path, mmseg):
    path = _weights(tmp_path / "w", mmseg)
    assert doors("doctor", *QUIET, f"checkpoint={path}").code == 0
    path.write_bytes(b"no checkpoint")
    outcome = doors("doctor", *QUIET, f"checkpoint={path}", name="second")
    assert outcome.code == 2
    assert f"checkpoint={path}" in outcome.out


def test_it_begins_from_a_notebook_too(tuned, tmp_path):
    """Where nobody has typed a command line."""
    register_resolvers()
    best = tuned.directory / "checkpoints/best.ckpt"
    keys = [*QUIET, f"checkpoint='{best}'", "name=notebook", f"runs_dir={tmp_path}"]
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("train", keys)
    found, initial = initial_weights(config)
    assert initial.record["checkpoint"] == "best.ckpt"
    assert config.checkpoint_sha256 is None, "the caller's own config stays as it was"
    assert found.checkpoint_sha256 == initial.record["sha256"]
    assert found.model == OmegaConf.create(_last(tuned)["hyper_parameters"]["model"])
