import shutil

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from src.config import CONF_DIR, explain, flatten, plain, register_resolvers
from src.errors import UserError
from src.objects import check_objects
from src.schema.chosen_keys import check_keys
from src.schema.roles import MAY_CHANGE, MAY_DIFFER


@pytest.fixture(autouse=True)
def no_other_hydra():
    register_resolvers()
    yield
    HydraConfig.instance().cfg = None


def check(*overrides, conf=CONF_DIR, name="train"):
    """What a front door does before its task, for a given command line."""
    with initialize_config_dir(str(conf), version_base="1.3"):
        config = compose(name, list(overrides), return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        with open_dict(config):
            del config["hydra"]
        check_keys(config, name)
        return config


def refusal(*overrides, name="train"):
    with (
        pytest.raises((HydraException, OmegaConfBaseException)) as error,
        initialize_config_dir(str(CONF_DIR), version_base="1.3"),
    ):
        plain(compose(name, list(overrides)))
    return explain(error.value, name)


EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_the_experiments_have_no_unknown_key(experiment):
    check(f"experiment={experiment}")


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "overrides",
    [(), ("data=street", "data.street.train=4"), ("callbacks=ema",), ("logger=wandb",), ("model=pixelwise",)],
    ids=str,
)
def test_choices_bring_their_own_keys(overrides):
    check(*overrides)


def test_two_files_of_loggers_are_refused():
    """Hydra would take the second, and switch the first one off."""
    with pytest.raises(UserError, match="choose one file of conf/logger"):
        check("logger=[wandb,tensorboard]")


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    "choice", ["schedule=one_cycle", "schedule=constant", "loss=dice", "model=pixelwise"]
)
def test_a_class_can_be_replaced_in_every_experiment(choice):
    """What the experiment sets for its own class is left out."""
    group = choice.partition("=")[0]
    for experiment in EXPERIMENTS:
        config = check(f"experiment={experiment}", choice, "data.root=x")
        if group != "model":  # whose class is found with its checks, in src/network
            check_objects(plain(config), (), (group,))


def test_what_is_typed_for_a_replaced_class_is_not_left_out():
    config = check("experiment=demo", "schedule=one_cycle", "schedule.min_lr=0")
    with pytest.raises(UserError, match=r"schedule\.min_lr: .*OneCycleLR has no such argument"):
        check_objects(plain(config), (), ("schedule",))


def test_evaluation_has_its_own_keys():
    check("checkpoint=x", "pictures=1", name="eval")
    with pytest.raises(UserError, match="Unknown config key: optimizer") as error:
        check("checkpoint=x", "+optimizer=adam", name="eval")
    assert len(error.value.text.splitlines()) == 1


def test_an_added_key_is_an_error():
    with pytest.raises(UserError) as error:
        check("+trainer.max_epoch=3", "+data.rot=/x")
    assert set(error.value.text.splitlines()) == {  # all at once
        f"Unknown config key: {unknown}. The nearest one is {nearest}; all keys are in conf/."
        for unknown, nearest in (("trainer.max_epoch", "trainer.max_epochs"), ("data.rot", "data.root"))
    }


def test_a_typo_in_an_experiment_file_is_an_error(tmp_path):
    conf = shutil.copytree(CONF_DIR, tmp_path / "conf")
    (conf / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: street\ntrainer:\n  max_epoch: 3\n"
        "data:\n  street:\n    trian: 3\n"
    )
    with pytest.raises(UserError) as error:
        check("experiment=mine", conf=conf)
    assert "Unknown config key: trainer.max_epoch. The nearest one is trainer.max_epochs" in error.value.text
    assert "Unknown config key: data.street.trian. The nearest one is data.street.train" in error.value.text


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("override", "unknown", "nearest"),
    [
        ("trainer.max_epoch=3", "trainer.max_epoch", "trainer.max_epochs"),
        ("modle=cgnet", "modle", "model"),
        ("max_epochs=3", "max_epochs", "trainer.max_epochs"),
        ("batch_size=3", "batch_size", "data.batch_size"),
        ("lr=0.1", "lr", "optimizer.lr"),
        ("data.lr=0.1", "data.lr", "optimizer.lr"),
    ],
)
def test_an_unknown_key_on_the_command_line(override, unknown, nearest):
    text = refusal(override)
    assert text.startswith(f"Unknown config key: {unknown}. ")
    assert nearest in text.partition("nearest")[2]
    assert "conf/" in text


@pytest.mark.parametrize(
    ("override", "nearest"),
    [("model=cgnett", "cgnet"), ("experiment=dmeo", "demo"), ("data=streets", "street")],
)
def test_an_unknown_choice(override, nearest):
    group = override.partition("=")[0]
    text = refusal(override)
    assert text.startswith(f"{override}: no such file in conf/{group}. Did you mean {nearest}?")
    for path in (CONF_DIR / group).glob("*.yaml"):
        assert path.stem in text


def test_a_missing_value():
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        config = compose("eval", [])
    with pytest.raises(OmegaConfBaseException) as error:
        _ = config.checkpoint
    assert explain(error.value, "eval") == "checkpoint=... is missing: conf/eval.yaml says what it is."


@pytest.mark.parametrize(
    "override", ["trainer.max_epochs=[1", "optimizer.lr=${nope}", "~data.rot", "no-value"]
)
def test_anything_else_is_said_in_hydra_s_words(override):
    text = refusal(override)
    assert text
    assert "Traceback" not in text


def test_the_stamp_is_one_for_a_command_and_its_children(monkeypatch):
    monkeypatch.setenv("CGNET_RUN_STAMP", "of-the-parent")
    assert OmegaConf.create({"name": "${run_stamp:}"}).name == "of-the-parent"
    monkeypatch.delenv("CGNET_RUN_STAMP")
    first = OmegaConf.create({"name": "${run_stamp:}"}).name
    monkeypatch.setattr("time.strftime", lambda _: "later")
    assert OmegaConf.create({"name": "${run_stamp:}"}).name == first


def test_flatten():
    config = {"a": 1, "b": {"c": [1, 2], "d": {"e": None}}, "f": {}}
    assert list(flatten(config)) == [("a", 1), ("b.c", [1, 2]), ("b.d.e", None), ("f", {})]


def test_plain_resolves():
    config = OmegaConf.create({"a": 1, "b": ["${a}"]})
    result = plain(config)
    assert result == {"a": 1, "b": [1]}
    assert type(result) is dict
    assert type(result["b"]) is list
    assert plain(3) == 3


def test_a_tilde_that_the_parser_refuses(doors):
    refused = doors("train", "teacher.checkpoint=~/best.ckpt")
    assert refused.code == 2
    assert "has to be quoted twice" in refused.err
    assert "$HOME" in refused.err
    assert "Traceback" not in refused.err


def test_every_role_is_that_of_a_key():
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        configs = [compose("train", ["data=street", "logger=wandb", "name=x"]), compose("predict")]
    keys = [key for config in configs for key, _ in flatten(OmegaConf.to_container(config))]
    for begins in (*MAY_CHANGE, *MAY_DIFFER):
        assert any(key.startswith(begins) for key in keys), begins


def test_an_argument_that_its_class_may_have_stays(tmp_path):
    """The experiment's own addition to a class that is typed, too."""
    conf = shutil.copytree(CONF_DIR, tmp_path / "conf")
    (conf / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: street\n  - override /optimizer: adamw\n"
        "optimizer:\n  foreach: true\n"
    )
    assert check("experiment=mine", "optimizer=adamw", conf=conf).optimizer.foreach is True
