"""`--config-dir <run>` repeats a run from its own record."""

import hashlib
import json
import shutil

import pytest
import torch
from front_doors import TINY
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from src.config import CONF_DIR, flatten, plain, register_resolvers
from src.errors import UserError
from src.runs.repeat import recorded_config
from src.schema.chosen_keys import check_keys
from src.weights.checkpoint_files import load_checkpoint

# More than values: an experiment, other groups, a deleted and an added entry, one of conf/ switched off.
OVERRIDES = (*TINY, "callbacks=ema", "optimizer=adamw", "seed=7", "~augment.color", "callbacks.lr=null",
             "+callbacks.timer._target_=pytorch_lightning.callbacks.Timer")  # fmt: skip


@pytest.fixture(scope="module")
def first(module_doors):
    outcome = module_doors("train", *OVERRIDES, name="first")
    assert outcome.code == 0, outcome.err
    return outcome.directory


@pytest.fixture
def copy(first, tmp_path):
    """Of the run's record, to be changed."""
    shutil.copytree(first, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def composed(monkeypatch):
    """What a front door's task gets for `--config-dir <run> overrides...`, checked."""

    def composed(directory, *overrides, task="train", flag="--config-dir={}", more=()):
        register_resolvers()
        monkeypatch.setattr("sys.argv", ["src/train.py", *flag.format(directory).split(), *more, *overrides])
        primary = recorded_config(task)
        assert primary is not None
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            config = compose(primary, list(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(config)
            OmegaConf.set_struct(config, False)
            del config["hydra"]
            check_keys(config, task)
        return config

    yield composed
    HydraConfig.instance().cfg = None


def values(config):
    return dict(flatten(plain(config)))


def choices(directory):
    return json.loads((directory / "record.json").read_text())["starts"][-1]["choices"]


def change(directory, edit):
    kept = OmegaConf.load(directory / "config.yaml")
    edit(kept)
    OmegaConf.save(kept, directory / "config.yaml")
    record = json.loads((directory / "record.json").read_text())
    digest = hashlib.sha256((directory / "config.yaml").read_bytes())
    record["starts"][-1]["config_sha256"] = digest.hexdigest()
    (directory / "record.json").write_text(json.dumps(record))


def test_the_same_weights_to_the_bit(first, module_doors):
    again = module_doors("train", f"--config-dir={first}", name="again")
    assert again.code == 0, again.err
    (start,) = json.loads((again.directory / "record.json").read_text())["starts"]
    assert start["repeats"] == str(first)
    assert "Results may differ" not in (again.directory / "train.log").read_text()
    for name in ("best.ckpt", "last.ckpt"):
        one, other = (load_checkpoint(d / "checkpoints" / name) for d in (first, again.directory))
        for key, tensor in one["state_dict"].items():
            assert torch.equal(tensor, other["state_dict"][key]), key
        assert one["hyper_parameters"] == other["hyper_parameters"]
    metrics = json.loads((first / "metrics.json").read_text())
    assert again.metrics["confusion_matrix"] == metrics["confusion_matrix"]
    before, now = (values(OmegaConf.load(d / "config.yaml")) for d in (first, again.directory))
    assert {key: str(value).replace(str(first), str(again.directory)) for key, value in before.items()} == {
        key: str(value) for key, value in (now | {"name": "first"}).items()
    }


@pytest.mark.slow
def test_a_repetition_can_be_repeated(first, module_doors, composed):
    second = module_doors("train", f"--config-dir={first}", "trainer.fast_dev_run=true", name="second")
    assert choices(second.directory) == choices(first) | {"experiment": None}
    again = values(composed(second.directory, "name=first", "trainer.fast_dev_run=false"))
    assert again == values(composed(first))


@pytest.mark.slow
def test_without_a_name_it_is_the_run_itself(first, module_doors):
    before = (first / "checkpoints/last.ckpt").stat().st_mtime_ns
    again = module_doors("train", f"--config-dir={first}", name="first")
    assert again.code == 0
    assert "finished" in again.out
    assert (first / "checkpoints/last.ckpt").stat().st_mtime_ns == before


@pytest.mark.sampled(2)
@pytest.mark.parametrize("flag", ["--config-dir={}", "--config-dir {}", "-cd {}", "-cd={}"])
def test_the_values_of_the_run(first, composed, flag):
    kept = values(OmegaConf.load(first / "config.yaml"))
    assert values(composed(first, flag=flag)) == kept
    assert kept["augment.color"] is None  # deleted
    assert kept["callbacks.timer._target_"]


def test_overrides_go_before_the_record_and_what_follows_from_them_follows(first, composed):
    config = composed(
        first, "name=b", "data.crop_size=[32,32]", "optimizer=sgd", "optimizer.lr=0.5", "seed=8"
    )
    assert (config.seed, config.optimizer._target_, config.optimizer.lr) == (8, "torch.optim.SGD", 0.5)
    assert "betas" not in config.optimizer
    assert config.augment.crop.size == [32, 32]
    assert config.augment.pad.min_width == 32
    others = {key for key, value in values(config).items() if str(first) in str(value)}
    assert others == set()


def test_an_experiment_goes_before_the_record(first, composed):
    config = composed(first, "experiment=cityscapes_paper")
    assert config.trainer.max_epochs == 300
    assert config.data.name == "cityscapes"
    assert config.seed == 7


@pytest.mark.slow
def test_keys_that_are_younger_than_the_run(copy, composed):
    def edit(kept):
        del kept.trainer.benchmark
        del kept.logger.tensorboard
        del kept.compile
        del kept.optimizer.weight_decay
        del kept.callbacks.pictures
        del kept.augment.flip

    change(copy, edit)
    config = composed(copy)
    assert (config.trainer.benchmark, config.logger.tensorboard, config.compile) == (None, None, False)
    assert "weight_decay" not in config.optimizer  # the run had torch's own
    assert "pictures" not in config.callbacks
    assert "flip" not in config.augment


def test_what_conf_has_become_since_does_not_matter(copy, composed):
    """As if every value of conf/ had been another one when the run was made."""

    def edit(kept):
        kept.optimizer.lr = 0.125
        kept.data.mean = [1.0, 2.0, 3.0]
        kept.augment.crop.size = [16, 48]  # and an expression, ${data.crop_size}

    change(copy, edit)
    config = composed(copy)
    assert values(config) == values(OmegaConf.load(copy / "config.yaml"))
    assert composed(copy, "data.crop_size=[8,8]").augment.crop.size == [16, 48]


@pytest.mark.slow
def test_a_run_of_before_there_were_records(copy, composed):
    kept = values(OmegaConf.load(copy / "config.yaml"))
    (copy / "record.json").unlink()
    assert values(composed(copy)) == kept
    assert composed(copy, "optimizer=sgd", "name=b").callbacks.best.dirpath.endswith("train/b/checkpoints")


@pytest.mark.sampled(1)
@pytest.mark.parametrize("key", ["trainer.max_epoch", "callbacks.pictures.counts"])
def test_an_unknown_key_is_an_error(first, composed, key):
    with pytest.raises(UserError, match=f"Unknown config key: {key}"):
        composed(first, f"+{key}=3")


def test_an_unknown_key_in_the_record_is_an_error(copy, composed):
    change(copy, lambda kept: kept.trainer.update(max_epoch=3))
    with pytest.raises(UserError, match=r"Unknown config key: trainer.max_epoch\. "):
        composed(copy)


@pytest.mark.slow
def test_files_of_the_user_s_own_are_not_needed_again(doors, tmp_path, composed):
    own = tmp_path / "own"
    (own / "callbacks").mkdir(parents=True)
    (own / "callbacks/mine.yaml").write_text(
        "defaults: [default, _self_]\nspy: {_target_: spy.RankSpy, folder: '${run_dir}'}\n"
    )
    run = doors("train", f"--config-dir={own}", *TINY, "callbacks=mine", "trainer.fast_dev_run=true")
    shutil.rmtree(own)
    config = composed(run.directory, "name=b")
    assert config.callbacks.spy.folder == f"{doors.folder}/train/b"
    assert config.callbacks.best.dirpath == f"{doors.folder}/train/b/checkpoints"
    assert str(run.directory) not in str(values(config))


@pytest.mark.parametrize("keep", [0.97, 0.5, 0.02, 0])
@pytest.mark.parametrize("record", [True, False])
def test_a_config_that_is_cut_off_is_an_error(copy, composed, keep, record):
    whole = (copy / "config.yaml").read_bytes()
    (copy / "config.yaml").write_bytes(whole[: int(keep * len(whole))])
    if not record:
        (copy / "record.json").unlink()
    if record or keep < 0.9:
        with pytest.raises(UserError, match=r"config\.yaml: "):
            composed(copy)


def test_a_secret_has_to_be_given_again(copy, composed):
    change(copy, lambda kept: kept.callbacks.update(chat={"_target_": "spy.Chat", "chat_token": "???"}))
    assert OmegaConf.is_missing(composed(copy).callbacks.chat, "chat_token")
    assert composed(copy, "callbacks.chat.chat_token=a").callbacks.chat.chat_token == "a"


@pytest.mark.slow
def test_jobs_of_a_sweep_do_not_lie_in_the_run(first, composed):
    assert composed(first).name == "first"
    assert composed(first, more=["-m"]).name != "first"


def test_a_run_of_another_task(first, doors):
    outcome = doors("benchmark", f"--config-dir={first}")
    assert outcome.code == 2
    said = f"{first}/config.yaml: recorded by src.train; python -m src.benchmark cannot repeat it."
    assert outcome.err.strip() == said


def test_a_damaged_record(copy, doors):
    (copy / "config.yaml").write_text("a: [")
    outcome = doors("train", f"--config-dir={copy}")
    assert outcome.code == 2
    assert f"{copy}/config.yaml: cannot be read" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("content", ["seed: 3\n", "", "- a\n"])
def test_a_folder_of_the_user_s_own(tmp_path, monkeypatch, content):
    (tmp_path / "config.yaml").write_text(content)
    monkeypatch.setattr("sys.argv", ["src/train.py", f"--config-dir={tmp_path}"])
    assert recorded_config("train") is None


@pytest.mark.slow
def test_an_evaluation(first, module_doors):
    checkpoint = f"checkpoint={first}/checkpoints/best.ckpt"
    how = ("data.split=train", "data.val_batch_size=2", "trainer.accelerator=cpu", "latency=0")
    one = module_doors("eval", checkpoint, *how)
    other = module_doors("eval", f"--config-dir={one.directory}", name="other")
    assert other.code == 0, other.err
    assert other.metrics == one.metrics
    assert other.metrics["num_images"] == 16


@pytest.mark.slow
def test_a_sweep_over_a_run(first, module_doors):
    keys = ("-m", f"--config-dir={first}", "seed=7,8", "trainer.max_epochs=1")
    swept = module_doors("train", *keys, name="swept", own_process=True)
    assert swept.code == 0, swept.err
    kept = [OmegaConf.load(swept.directory / number / "config.yaml") for number in "01"]
    assert [config.seed for config in kept] == [7, 8]
    assert {config.optimizer._target_ for config in kept} == {"torch.optim.AdamW"}
    assert kept[0].augment.color is None


def test_the_config_that_would_run_is_shown(first, doors):
    shown = doors("train", f"--config-dir={first}", "--cfg=job", own_process=True)
    assert shown.code == 0, shown.err
    config = OmegaConf.create(shown.out)
    assert config.optimizer._target_ == "torch.optim.AdamW"
    assert OmegaConf.to_container(config)["callbacks"]["best"]["dirpath"] == "${run_dir}/checkpoints"


@pytest.mark.slow
def test_other_code_than_the_run_s_is_said(copy, module_doors):
    record = json.loads((copy / "record.json").read_text())
    record["starts"][-1]["packages"]["torch"] = "1.0"
    (copy / "record.json").write_text(json.dumps(record))
    again = module_doors("train", f"--config-dir={copy}", "trainer.limit_train_batches=1", name="elsewhere")
    assert again.code == 0, again.err
    said = (again.directory / "train.log").read_text()
    assert f"Results may differ from those of {copy}, because of changes: torch (1.0 before," in said
