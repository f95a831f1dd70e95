"""Every key of every front door against every kind of wrong value: refused by name, or accepted."""

import random
import subprocess
import sys
from functools import cache

import pytest
from front_doors import REPOSITORY, TINY
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from src.config import CONF_DIR, flatten, plain, register_resolvers
from src.data.frame_cache.modes import MODES
from src.data.layouts import LAYOUTS, SPLITS
from src.errors import UserError
from src.label_tables import JOINED
from src.schema.check import check_values, kind_of
from src.schema.comments import comments, meaning
from src.schema.keys import KEYS, OPEN, TARGETS
from src.schema.kinds import ListOf, Null, Number, shown

DOORS = {
    "train": ("callbacks=ema", "logger=wandb", "data=street"),
    "benchmark": ("logger=tensorboard",),
    "doctor": ("optimizer=sgd", "model=pixelwise", "schedule=constant"),
    "eval": ("checkpoint=x.ckpt", "window=[64,64]"),
}
DELETED = "deleted"
VALUES = (
    None, True, 0, -1, 1, 2**32, 10**30, 0.5, -0.5, 1e300, float("nan"), float("inf"), "", "abc", "x" * 300,
    "\u00e4\u2603", "\udcff", "a\0b", [], [1], [0, 0], [float("nan")] * 3, ["a"], {}, {"a": 1}, DELETED,
)  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def resolvers():
    register_resolvers()


def composed(task):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(task, [*DOORS[task], "name=x"])


def keys_of(config) -> list[str]:
    """Of values and of groups."""
    values = [key for key, _ in flatten(OmegaConf.to_container(config))]
    groups = {".".join(key.split(".")[:depth]) for key in values for depth in range(1, key.count(".") + 1)}
    return [*values, *sorted(groups)]


@cache
def kinds_of(task):
    """What the table allows for each key; null alone for an entry that is switched off."""
    config = composed(task)
    values = dict(flatten(plain(config)))
    kinds = {key: kind_of(key, values, task) for key in keys_of(config)}
    return {key: kind or Null() for key, kind in kinds.items() if kind or key.rpartition(".")[0] in OPEN}


def try_value(task, config: DictConfig, key, value) -> tuple[str, bool]:
    """(what the front door's check says of the config with this value, whether the table allows it)"""
    config = config.copy()
    owner, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, owner) if owner else config
    with open_dict(config):
        if value is DELETED:
            del parent[name]
            value = None
        else:
            parent[name] = value
    allowed = kinds_of(task)[key].allows(value)
    try:
        check_values(config, task, needed=kinds_of(task))
    except UserError as error:
        return error.text, allowed
    return "", allowed


def judge(task, config, key, value):
    said, allowed = try_value(task, config, key, value)
    if allowed:
        # What is right by itself may not go with the rest, which a rule says.
        refusals = (f"{key}={shown(value)}: expected ", f"{key} is missing")
        assert not any(line.startswith(refusals) for line in said.splitlines()), (task, key, value, said)
    else:
        assert key in said, (task, key, value, said)
        assert said.isprintable() or "\n" in said


def cases(task):
    """All doors but the evaluation have the keys of the training, with others of their own."""
    known = set(kinds_of(task)) - (set(kinds_of("train")) if task in ("doctor", "benchmark") else set())
    return [(key, value) for key in sorted(known) for value in VALUES]


@pytest.mark.slow
@pytest.mark.parametrize("task", DOORS)
def test_every_key_refuses_every_wrong_value(task):
    config = composed(task)
    for key, value in cases(task):
        judge(task, config, key, value)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("task", DOORS)
def test_keys_refuse_wrong_values(task):
    config = composed(task)
    for key, value in random.Random(task).sample(cases(task), 40):
        judge(task, config, key, value)


@pytest.mark.parametrize("task", DOORS)
def test_every_key_of_conf_is_in_the_table(task):
    config = composed(task)
    values = dict(flatten(plain(config)))
    for key in keys_of(config):
        owner = key.rpartition(".")[0]
        if not key.endswith("_target_") and owner not in OPEN:
            assert kind_of(key, values, task) is not None, key


@pytest.mark.parametrize("task", DOORS)
def test_the_values_of_conf_are_allowed(task):
    check_values(composed(task), task)


def test_the_table_has_no_key_that_conf_has_not():
    text = "\n".join(path.read_text() for path in CONF_DIR.rglob("*.yaml"))
    for key in KEYS:
        assert f"{key.rpartition('.')[2]}:" in text, key
    for target in TARGETS:
        assert target in text, target


def test_the_table_knows_the_names_that_the_code_has():
    for key, names in (
        ("data.layout", {*LAYOUTS, JOINED}),
        ("data.train_split", SPLITS),
        ("data.val_split", SPLITS),
        ("data.cache", MODES),
    ):
        assert set(KEYS[key].values) == set(names)


# Typed as a user would; each is refused before any file is read.
TYPED = """
    seed=abc seed=-1 seed=null seed=1.5 seed=nan seed=4294967296 trainer.val_check_interval=0
    trainer.val_check_interval=abc trainer.check_val_every_n_epoch=0 trainer.accumulate_grad_batches=0
    trainer.accelerator=tpu model.num_classes=5 data.class_weights=5
    schedule.power=-1 augment.crop.scale_step=0 augment.color.hue=abc callbacks.pictures.width=0
    ~optimizer ~trainer ~model.num_classes ~callbacks.best.mode data.class_weights=[0,0]
    schedule.min_lr=-1 callbacks.ema.decay=2 augment.color.brightness=nan augment.color.contrast=[-1,2]
    trainer.gradient_clip_val=-1 data.batch_size=true compile=abc optimizer.lr=0 data=[1]
    data.street.train=1000000000000 data.street.width=0 data.num_workers=5000
    model.num_blocks=[4096,4096] loss.class_weights=[nan] trainer.precision=8 data.mean=[1,2]
    augment.color.contrast=[2,1] callbacks.best.save_top_k=3 callbacks.last.path=/elsewhere/last.ckpt
    optimizer.lr=1e-5 data.num_classes=7 logger.wandb.id=a/b trainer.max_time=soon optimizer=5
""".split()  # noqa: SIM905


def refused(overrides: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "src.train", "data=street_tiny", "callbacks=ema", "logger=wandb", *overrides],
        cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2, (overrides, done)
    assert "Traceback" not in done.stdout + done.stderr, overrides
    assert not done.stdout, overrides
    return done.stderr


@pytest.mark.sampled(5)
@pytest.mark.parametrize("override", TYPED)
def test_a_wrong_value_on_the_command_line(doors, override):
    outcome = doors("train", *TINY, "callbacks=ema", "logger=wandb", override)
    assert outcome.code == 2
    assert override.lstrip("~").partition("=")[0] in outcome.err
    assert "Traceback" not in outcome.err
    assert not outcome.out  # no data has been touched
    assert not outcome.directory.exists()


@pytest.mark.slow
def test_names_and_places(doors):
    long = "x" * 256
    for overrides in (
        ["cache_dir=null"],
        [f"name={long}"],
        [f"runs_dir=a/{long}/b"],
        ["name=5"],
        ["run_dir="],
    ):
        said = refused(overrides)
        assert said.strip().startswith(overrides[0].partition("=")[0] + "="), said


@pytest.mark.slow
def test_random_wrong_values_in_the_real_command():
    config = composed("train")
    wrong = []
    for key, value in random.Random(11).sample(cases("train"), 300):
        said, allowed = try_value("train", config, key, value)
        texts = [*value] if isinstance(value, list) else [value]
        typed = not any(isinstance(text, str) and not text.isprintable() for text in texts)
        if not allowed and said and typed and not isinstance(value, dict) and not key.startswith("run_dir"):
            wrong.append(f"~{key}" if value is DELETED else f"{key}={typed_value(value)}")
    assert len(wrong) >= 60
    for override in wrong[:60]:
        key = override.lstrip("~").partition("=")[0]
        assert key in refused([override]), override


def typed_value(value) -> str:
    if isinstance(value, list):
        return f"[{','.join(typed_value(item) for item in value)}]"
    return f"'{value}'" if isinstance(value, str) else shown(value, 10**6)


def test_all_problems_are_said_at_once(doors):
    said = doors("train", "seed=abc", "data.batch_size=0", "optimizer.lr=-1").err
    assert [line.partition("=")[0] for line in said.strip().splitlines()] == [
        "data.batch_size", "optimizer.lr", "seed",
    ]  # fmt: skip


def test_a_value_that_follows_is_not_named(doors):
    said = doors("train", "data.mean=[1,2]").err
    assert said.strip().startswith("data.mean=[1, 2]: expected a list of 3 values")
    assert "model.preprocessing" not in said


def test_the_meaning_of_a_key_is_conf_s_comment(tmp_path):
    assert meaning("seed") == "of initialisation, order of samples and augmentation"
    assert meaning("precision", "predict") != meaning("precision", "export"), "each command's own"
    (tmp_path / "group.yaml").write_text(
        "# @package _global_\n# The file.\na: 'x # y'  # beside\n"
        "#       not below\nb:\n  # above\n  c: [1,  # no\n    2]\n  d: 1              # beside\n"
        "                    # and below\n"
    )
    found = comments(tmp_path / "group.yaml")
    assert (found[""], found["a"], found["b.d"]) == ("The file.", "beside", "beside and below")


def test_expected_values_in_words():
    weights = KEYS["data.class_weights"]
    assert weights.expected == (
        "labels, null or a list of one or more values, each a number from 0 to 1e+06, not all 0"
    )
    assert ListOf(Number(0, 1, above=True), 2).expected == "a list of 2 values, each a number above 0 to 1"


def test_configs_that_do_not_resolve(doors):
    for override, message in (
        ("trainer.max_epochs=${nope}", "trainer.max_epochs follows from nope"),
        (
            "data.root=${oc.env:CGNET_NO_SUCH}",
            "data.root: the environment variable CGNET_NO_SUCH is not set.",
        ),
        ("data.labels=nope", "data.labels=nope: unknown, choose one of cityscapes, camvid, "),
    ):
        outcome = doors("train", override)
        assert (outcome.code, outcome.err.strip().startswith(message)) == (2, True), outcome.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n  b: }", "A file of the config is not valid YAML: "),
        ("defaults:\n  - /experiment: mine\n", "in a circle"),
        ("# @package _global_\nseed: \xff\n", "not UTF-8"),
        ("# @package _global_\nseed: 1\nseed: 2\n", "seed"),
        ("- 1\n", "experiment"),
    ],
)
def test_a_broken_experiment(doors, tmp_path, text, message):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text(text, encoding="latin1")
    outcome = doors("train", f"--config-dir={tmp_path}", "experiment=mine")
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_flag_among_the_keys(doors, tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\nseed: abc\n")
    outcome = doors("train", "experiment=mine", "--config-dir", str(tmp_path), "trainer.max_epochs=1")
    assert outcome.err.strip().startswith("seed=abc: expected")


def test_the_settings_of_a_sweep(doors):
    search = ("-m", "experiment=debug", "hydra/sweeper=optuna", "optimizer.lr=interval(1e-4,1e-2)")
    for key, value in (("n_trials", "0"), ("n_trials", "abc"), ("direction", "up"), ("n_jobs", "0")):
        outcome = doors("train", *search, f"hydra.sweeper.{key}={value}")
        assert outcome.code == 2
        assert outcome.err.strip().startswith(f"hydra.sweeper.{key}={value}: expected "), outcome.err
