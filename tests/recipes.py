"""The first two steps of every network with every experiment, on the synthetic street.

`python tests/recipes.py` writes tests/recipes.json anew; do it where a recipe is meant to change.
"""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

from hydra import compose, initialize_config_dir  # noqa: E402

from src.config import CONF_DIR, plain, register_resolvers  # noqa: E402
from src.data.datamodule import SegmentationDataModule  # noqa: E402
from src.training.assemble import build_module  # noqa: E402
from src.training.trainer import build_trainer  # noqa: E402

KEPT = Path(__file__).with_suffix(".json")
NETWORKS = sorted(path.stem for path in (CONF_DIR / "model").glob("*.yaml"))
EXPERIMENTS = sorted(path.stem for path in (CONF_DIR / "experiment").glob("*.yaml"))
KEYS = (
    "data=street_tiny",
    "data.crop_size=[64,128]",
    "data.batch_size=4",
    "data.val_batch_size=4",
    "name=recipe",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=-1",
    "trainer.max_steps=2",
    "trainer.limit_val_batches=0",
    "trainer.val_check_interval=null",
    "trainer.check_val_every_n_epoch=1",
    "trainer.num_sanity_val_steps=0",
    "trainer.enable_checkpointing=false",
    "trainer.enable_progress_bar=false",
)


class Steps(pl.Callback):
    """Loss and gradient norm of each step."""

    def __init__(self) -> None:
        self.found: list[list[float]] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        norms = [p.grad.double().norm() for p in pl_module.parameters() if p.grad is not None]
        self.found.append([float(pl_module.step_loss), float(torch.stack(norms).norm())])


def first_steps(network: str, experiment: str, cache: Path) -> list[list[float]]:
    """[[loss, norm of the gradient], ...] of two steps at seed 42, with crops of 64x128.

    The images are the street's; mean, std and class weights are the recipe's own.
    """
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        choices = [f"experiment={experiment}", f"model={network}"]
        own = plain(compose("train", [*choices, "name=recipe"]))["data"]
        choices += [*KEYS, f"cache_dir={cache}", f"data.mean={own['mean']}", f"data.std={own['std']}"]
        if own["labels"] == "cityscapes":  # weights of 11 classes do not fit the street's 19
            choices.append(f"data.class_weights={own['class_weights']}")
        config = plain(compose("train", choices))
    pl.seed_everything(config["seed"], verbose=False)
    data = SegmentationDataModule(config["data"], config["augment"], config["seed"], config["cache_dir"])
    steps = Steps()
    trainer = build_trainer(config["trainer"], [steps])
    data.prepare_data()
    data.setup("fit")
    module = build_module(config, data, trainer)
    trainer.fit(module, datamodule=data)
    return steps.found


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as cache:
        found = {
            f"{network}, {experiment}": first_steps(network, experiment, Path(cache))
            for network in NETWORKS
            for experiment in EXPERIMENTS
        }
    lines = [f"{json.dumps(case)}: {json.dumps(steps)}" for case, steps in found.items()]
    KEPT.write_text("{\n" + ",\n".join(lines) + "\n}\n")
