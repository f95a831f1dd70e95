"""conf/ and the code agree: every file composes, every key is used, every recipe is what it says."""

import re

import pytest
import yaml
from front_doors import REPOSITORY
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.config import CONF_DIR, flatten, plain, register_resolvers
from src.data.samplers import TrainSampler
from src.network.segmenter import Segmenter

EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
LABELS = (
    "Labels are resized to the nearest pixel centre; "
    "the original has OpenCV's INTER_NEAREST, which is shifted"
)
# What the header of a recipe must say of its source, beside its parts.
SAID = {
    "cityscapes_ssseg": (
        LABELS,
        "62,900 steps, as the original on one GPU; on several GPUs its sampler pads, and it takes 63,240",
        "The loss is one weighted mean over the whole batch; "
        "the original averages each GPU's own weighted mean",
        "cuDNN picks its kernels by rule",
        "0.95 GB a crop in float32",
        "a 16 GB card takes",
    ),
    "cityscapes_mmseg": (LABELS, "divided by all pixels, as up to 1.1.2", "0.95 GB a crop in float32"),
    "cityscapes_paper": (
        LABELS,
        "in the original each GPU's share (trainer.sync_batchnorm=false is closer)",
        "64.8% mIoU on the test server, reported by the authors, of a model of 350 epochs on train and val",
        "0.84 GB a crop in float32",
    ),
    "camvid": (
        "the mean of seed 1 (74.5) and seed 2 (73.8)",
        "Val is one sequence of the dataset: do not compare with test",
    ),
    "camvid_paper": (
        LABELS,
        "in the original each GPU's share (trainer.sync_batchnorm=false is closer)",
        "the paper's CamVid models are trained on train and val",
        "0.24 GB a crop in float32",
    ),
    "cityscapes_strong": (
        "not measured by anybody",
        "is a hope, which rests on other networks",
        "Against it",
        "0.95 GB a crop in bf16-mixed",
        "CGNet has none here",
    ),
}


@pytest.fixture(autouse=True)
def hydra():
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        yield


def _config(*overrides: str):
    return compose("train", [*overrides, "name=x"])


def _parameters(*overrides: str) -> int:
    return sum(p.numel() for p in Segmenter.from_config(plain(_config(*overrides).model)).parameters())


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_builds(experiment):
    config = plain(_config(f"experiment={experiment}"))
    Segmenter.from_config(config["model"])
    for step in config["augment"].values():
        if step is not None:
            instantiate(step)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_opens_with_its_contract(experiment):
    text = (CONF_DIR / f"experiment/{experiment}.yaml").read_text()
    head = text.split("defaults:")[0]
    for part in ("Command", f"experiment={experiment}", "Data", "Hardware", "Result"):
        assert part in head, f"{experiment}.yaml does not say its {part}"
    config = _config(f"experiment={experiment}")
    if config.data.street is None:  # after somebody's recipe
        said = " ".join(head.replace("#", " ").split())
        assert said.count("Differs ") >= 2
        for part in ("Schedule", "`last`", "`best.ckpt` is picked on val", *SAID[experiment]):
            assert part in said, (experiment, part)
        assert config.trainer.fp32_precision == "ieee"
        assert config.trainer.benchmark is None
    assert re.search(r"measured|reported|means nothing", text)


def test_plain_train_is_sssegmentation_s_recipe():
    preset = plain(_config("experiment=cityscapes_ssseg"))
    assert preset["trainer"].pop("check_val_every_n_epoch") == 10
    bare = plain(_config())
    assert bare["trainer"].pop("check_val_every_n_epoch") == 1
    assert bare == preset


def test_sssegmentation_s_recipe():
    config = plain(_config())
    assert _parameters() == 496_325
    assert config["model"]["norm_eps"] == 1e-5
    assert config["data"]["crop_size"] == [512, 1024]
    assert config["augment"]["crop"]["scale"] == [0.5, 2.0]
    assert config["augment"]["crop"]["max_category_ratio"] == 0.75
    assert (config["data"]["mean"], config["data"]["std"]) == (
        [72.39239876, 82.90891754, 73.15835921],
        [1.0] * 3,
    )
    assert config["optimizer"]["_target_"] == "torch.optim.Adam"
    adam = config["optimizer"]
    assert (adam["lr"], adam["eps"], adam["weight_decay"]) == (1e-3, 1e-8, 5e-4)
    assert (config["schedule"]["power"], config["schedule"]["min_lr"]) == (0.9, 1e-4)
    assert config["trainer"]["max_epochs"] == 340
    assert config["trainer"]["sync_batchnorm"] is True
    assert config["callbacks"]["ema"] is None
    for devices, accumulate in ((1, 1), (4, 1), (2, 4)):
        sampler = TrainSampler(2975, config["data"]["batch_size"], 0, 0, devices, accumulate)
        steps = len(sampler) // sampler.per_device // accumulate
        assert steps == 185
        assert steps * config["trainer"]["max_epochs"] == 62_900


def test_other_published_recipes():
    mmseg = plain(_config("experiment=cityscapes_mmseg"))
    assert mmseg["data"]["batch_size"] == 32
    assert (mmseg["trainer"]["max_steps"], mmseg["model"]["norm_eps"]) == (60_000, 1e-3)
    paper = plain(_config("experiment=cityscapes_paper"))
    assert paper["augment"]["crop"]["size"] == [680, 680]
    assert paper["augment"]["color"] is None
    assert (paper["schedule"]["min_lr"], paper["trainer"]["max_epochs"]) == (0.0, 300)
    assert _parameters("experiment=cityscapes_paper") == 496_306
    camvid = plain(_config("experiment=camvid_paper"))
    assert (camvid["data"]["crop_size"], camvid["data"]["batch_size"]) == ([360, 360], 8)
    assert camvid["trainer"]["max_epochs"] == 800
    assert _parameters("experiment=camvid_paper") == 494_258


def test_the_strong_recipe_is_what_its_header_says():
    strong = plain(_config("experiment=cityscapes_strong"))
    trainer, schedule = strong["trainer"], strong["schedule"]
    assert strong["augment"]["crop"]["size"] == [1024, 1024]
    epochs = trainer["max_epochs"]
    assert (epochs, round(schedule["warmup"] * epochs, 6), schedule["min_lr"]) == (800, 3, 0)
    assert len(TrainSampler(2975, strong["data"]["batch_size"], 0, 0, 1, 1)) // 16 * epochs == 148_000
    adam = strong["optimizer"]
    assert (adam["_target_"], adam["lr"], adam["weight_decay"]) == ("torch.optim.Adam", 1e-3, 5e-4)
    assert strong["loss"]["_target_"].endswith("WeightedCrossEntropy")
    assert strong["loss"]["class_weights"] == strong["data"]["class_weights"]
    assert strong["callbacks"]["ema"] is not None
    assert (trainer["precision"], trainer["check_val_every_n_epoch"]) == ("bf16-mixed", 20)
    assert strong["channels_last"] is True


def test_a_choice_on_the_command_line_wins_over_the_experiment():
    config = _config("experiment=camvid_paper", "optimizer=adamw", "model=pixelwise")
    assert config.optimizer._target_ == "torch.optim.AdamW"
    assert config.model._target_.endswith("PixelwiseClassifier")


def test_every_key_is_read_by_the_code():
    """Others are arguments of a `_target_`, or of the Trainer and the loggers, which refuse what they do not
    know. The table of keys in src/schema has all keys, and so shows nothing."""
    files = [path for path in (REPOSITORY / "src").rglob("*.py") if "schema" not in path.parts]
    code = "\n".join(path.read_text() for path in files)
    conf = "\n".join(path.read_text() for path in CONF_DIR.rglob("*.yaml"))
    for task in ("train", "eval", "doctor", "benchmark"):
        config = OmegaConf.to_container(compose(task, ["name=x"]))
        passed_on = (
            "trainer.",
            "logger.",
            "callbacks.",
            "model.",
            "augment.",
            "loss.",
            "optimizer.",
            "schedule.",
        )
        for key, _ in flatten(config):
            if key.startswith(passed_on):
                continue
            leaf = key.rpartition(".")[2]
            used = f'"{leaf}"' in code or f"config.{leaf}" in code or f"${{{key}}}" in conf
            assert used, f"{key} of conf/{task}.yaml is not used anywhere"


@pytest.mark.parametrize("task", ["train", "eval"])
def test_groups_named_in_the_comments_are_there(task):
    text = (CONF_DIR / f"{task}.yaml").read_text()
    defaults = yaml.safe_load(text)["defaults"]
    for group in (next(iter(entry)) for entry in defaults if isinstance(entry, dict)):
        line = re.search(rf"- {group}: .*# (.*)", text)
        if line and "|" in line.group(1):
            named = {name.strip() for name in line.group(1).split(";")[0].split("|")}
            there = {path.stem for path in (CONF_DIR / group).glob("*.yaml")}
            assert named == there, group


@pytest.mark.parametrize("path", sorted((CONF_DIR / "data").glob("*.yaml")), ids=lambda path: path.stem)
def test_data_groups_are_named_after_their_files(path):
    """A checkpoint records the name, and evaluation composes the group from it."""
    assert _config(f"data={path.stem}").data.name == path.stem
