r"""Compares our training steps and first weights with SSSegmentation's or mmsegmentation's, on equal crops.

    python -m scripts.training_steps --of sssegmentation --python /path/to/env/bin/python --root /path/to/data
    python -m scripts.training_steps --of mmsegmentation --python /path/to/env/bin/python --root /path/to/data

Each needs an environment of its own. mmsegmentation 1.1.2 is the last version with the loss of its published
weights. OneDL mmsegmentation 1.4.2, its continuation, has the later loss: to compare with it, add
loss.divide_by=weights:

    python -m venv mmseg-env
    mmseg-env/bin/pip install mmsegmentation==1.1.2 mmcv-lite==2.0.1 mmengine torch ftfy regex "numpy<2.3"
    python -m venv onedl-env
    onedl-env/bin/pip install --no-deps onedl-mmsegmentation==1.4.2 onedl-mmengine==0.10.12 mmcv-lite==2.1.0
    onedl-env/bin/pip install torch addict rich termcolor yapf opencv-python-headless matplotlib scipy \
        prettytable ftfy regex requests "numpy<2.3"
    python -m venv ssseg-env
    ssseg-env/bin/pip install --no-deps sssegmentation==1.7.0
    ssseg-env/bin/pip install torch torchvision opencv-python-headless pandas scipy pillow pycocotools \
        cityscapesscripts matplotlib tqdm dill timm fvcore iopath "numpy<2.3"

Theirs: network, loss, optimizer and schedule objects, as their configs build them (sssegmentation_steps.py
and mmsegmentation_steps.py). Ours: the experiment cityscapes_ssseg or cityscapes_mmseg in a real Trainer.
Both start with the weights that theirs draws, and take 20 steps on the same batches of 4 crops of 256x512
with ignored pixels, on the CPU in float32, or with --float64 in float64. Losses, learning rates and weights
are compared. Ours runs a second time with the samples of each batch in another order, which shows the
differences that rounding alone causes. Then the mean and rms of the first weights are compared for each kind
of layer, over 200 initialisations. --root: a dataset in Cityscapes' layout.

With OMP_NUM_THREADS=1 no sum depends on the number of threads.
"""

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from src.config import CONF_DIR, plain, register_resolvers
from src.data.datamodule import SegmentationDataModule
from src.data.samplers import TrainSampler
from src.network.segmenter import Segmenter
from src.training.module import SegmentationModule
from src.training.trainer import build_trainer
from src.weights.published_names import FAMILIES, layer_names
from src.weights.trained_network import restore

EXPERIMENTS = {"sssegmentation": "cityscapes_ssseg", "mmsegmentation": "cityscapes_mmseg"}
SIZE, BATCH = [256, 512], 4


def recipe(of: str, root: str, steps: int, float64: bool, overrides: list[str]) -> dict[str, Any]:
    register_resolvers()
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        keys = [
            f"experiment={EXPERIMENTS[of]}",
            "name=steps",
            f"data.root={root}",
            f"data.crop_size={SIZE}",
            f"data.batch_size={BATCH}",
            "trainer.max_epochs=-1",
            f"trainer.max_steps={steps}",
            "trainer.accelerator=cpu",
            "trainer.limit_val_batches=0",
            "trainer.val_check_interval=null",
            "trainer.check_val_every_n_epoch=1",
            "trainer.enable_progress_bar=false",
            "trainer.enable_checkpointing=false",
            f"trainer.precision={'64-true' if float64 else '32-true'}",
            *overrides,
        ]
        return plain(compose("train", keys))


def crops(config: Mapping[str, Any], steps: int) -> list[dict[str, Any]]:
    """The first batches of a training."""
    data = SegmentationDataModule(config["data"], config["augment"], config["seed"], config["cache_dir"])
    data.setup("fit")
    assert data.train_set is not None
    batches: list[dict[str, Any]] = []
    epoch = 0
    while len(batches) < steps:
        sampler = TrainSampler(len(data.train_set), BATCH, config["seed"], epoch=epoch)
        keys = list(sampler)
        for start in range(0, len(keys) - BATCH + 1, BATCH):
            batches.append(default_collate([data.train_set[key] for key in keys[start : start + BATCH]]))
        epoch += 1
    return batches[:steps]


class Record(pl.Callback):
    def __init__(self) -> None:
        self.losses: list[float] = []
        self.rates: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.losses.append(float(pl_module.step_loss))


def train(config: Mapping[str, Any], start: str, batches: list[dict[str, Any]]) -> tuple[Record, dict]:
    """Losses, learning rates and last weights of the experiment, from the weights of a file."""
    trained = restore(start)
    loss = config["loss"] | {"class_weights": config["data"]["class_weights"]}
    keys = ("optimizer", "schedule", "auxiliary_weight", "compile", "channels_last")
    module = SegmentationModule(
        model=config["model"],
        data=config["data"],
        classes=trained.classes or [],
        training={"loss": loss, **{key: config[key] for key in keys}},
    )
    module.segmenter.load_state_dict(trained.weights)
    record = Record()
    trainer = build_trainer(config["trainer"], [record])
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    return record, {name: value.detach().clone() for name, value in module.segmenter.named_parameters()}


def turned(batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {key: batch[key].roll(1, 0) for key in ("image", "target")} | {"name": batch["name"]}
        for batch in batches
    ]


def apart(ours: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """The largest difference of a parameter, relative to the largest absolute value in its tensor."""
    return max(
        float((value - other[name]).abs().max() / value.abs().max().clamp(min=1e-12))
        for name, value in ours.items()
    )


def kind_of(layer: str) -> str:
    """The kind of a parameter of ours: those of one kind are initialised alike."""
    return layer.replace("_down", "").translate(str.maketrans("", "", "0123456789")).replace("..", ".")


def first_weights(config: Mapping[str, Any], draws: int) -> dict[str, tuple[float, float]]:
    sums: dict[str, Tensor] = {}
    for seed in range(draws):
        torch.manual_seed(seed)
        for name, parameter in Segmenter.from_config(config["model"]).network.named_parameters():
            value = parameter.detach().double()
            found = torch.stack([value.mean(), value.square().mean()]) / draws
            sums[name] = sums.get(name, torch.zeros(2)) + found
    return {name: (float(mean), float(square) ** 0.5) for name, (mean, square) in sums.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--of", required=True, choices=EXPERIMENTS)
    parser.add_argument("--python", required=True, help="Python of its environment")
    parser.add_argument("--root", required=True, help="folder of a dataset in Cityscapes' layout")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--float64", action="store_true", help="float64, to tell a difference from rounding")
    parser.add_argument("--draws", type=int, default=200, help="number of initialisations")
    parser.add_argument("overrides", nargs="*", help="overrides of our config, for other versions of theirs")
    arguments = parser.parse_args()
    config = recipe(arguments.of, arguments.root, arguments.steps, arguments.float64, arguments.overrides)
    batches = crops(config, arguments.steps)
    ignored = sum(int((batch["target"] == 255).sum()) for batch in batches)
    share = ignored / sum(batch["target"].numel() for batch in batches)
    print(
        f"{len(batches)} batches of {BATCH} crops of {SIZE[0]}x{SIZE[1]}, {share:.1%} of their pixels ignored"
    )
    with tempfile.TemporaryDirectory() as folder:
        torch.save([{key: b[key] for key in ("image", "target")} for b in batches], f"{folder}/batches.pt")
        order = {
            "folder": folder,
            "size": SIZE,
            "classes": config["data"]["num_classes"],
            # Rounded to float32, as in our loss: in float64 the difference would show.
            "class_weights": torch.tensor(config["data"]["class_weights"]).tolist(),
            "mean": config["data"]["mean"],
            "steps": arguments.steps,
            "draws": arguments.draws,
            "float64": arguments.float64,
        }
        script = Path(__file__).with_name(f"{arguments.of}_steps.py")
        done = subprocess.run(
            [arguments.python, str(script)],
            input=json.dumps(order) + "\n",
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{arguments.of}'s side ended: see its message above.")
        theirs = torch.load(f"{folder}/steps.pt", weights_only=True)
        drawn = torch.load(f"{folder}/draws.pt", weights_only=True)
        last = restore(f"{folder}/last.pth").weights
        record, weights = train(config, f"{folder}/initial.pth", batches)
        other, permuted = train(config, f"{folder}/initial.pth", turned(batches))
    print(f"theirs: {json.loads(done.stdout)}")
    relative = [abs(one / two - 1) for one, two in zip(record.losses, theirs["losses"], strict=True)]
    in_order = [abs(one / two - 1) for one, two in zip(record.losses, other.losses, strict=True)]
    rates = [abs(one / two - 1) for one, two in zip(record.rates, theirs["rates"], strict=True)]
    print(f"losses: {record.losses[0]:.4f} ... {record.losses[-1]:.4f}")
    print(f"  relative difference in each step: {' '.join(f'{value:.0e}' for value in relative)}")
    print(f"  largest relative difference: {max(relative):.1e}; ours in another order {max(in_order):.1e}")
    print(f"learning rates: largest relative difference {max(rates):.1e}")
    theirs_apart, permuted_apart = apart(weights, last), apart(weights, permuted)
    print(f"weights: relative difference {theirs_apart:.1e}; ours in another order {permuted_apart:.1e}")
    report_first_weights(config, drawn, arguments)


def report_first_weights(config: Mapping[str, Any], drawn: Mapping[str, Any], arguments: Any) -> None:
    family = next(f for f in FAMILIES if f.name.lower() == arguments.of)
    names = layer_names(family, config["model"]["num_blocks"], family.classifiers[0])
    ours = first_weights(config, arguments.draws)
    kinds: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    for name, found in ours.items():
        layer, _, parameter = name.rpartition(".")
        kinds[kind_of(name)].append((*found, *drawn[f"{names[layer]}.{parameter}"]))
    print(f"first weights, mean and rms over {arguments.draws} initialisations, ours | theirs:")
    for kind, rows in kinds.items():
        mean, rms, their_mean, their_rms = torch.tensor(rows, dtype=torch.float64).T
        print(
            f"  {kind}: {mean.mean():+.2e} {rms.square().mean().sqrt():.4f} | "
            f"{their_mean.mean():+.2e} {their_rms.square().mean().sqrt():.4f}"
        )


if __name__ == "__main__":
    main()
