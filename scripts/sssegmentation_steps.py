"""SSSegmentation's side of training_steps.py, which starts it in SSSegmentation's environment.

Imports nothing of this repository. Reads one JSON object {"folder", "size", "classes", "class_weights",
"mean", "steps", "draws", "float64"} and trains on `batches.pt`, a list of {"image": uint8 (B, 3, H, W) RGB,
"target": uint8 (B, H, W)}, with SSSegmentation's own FCN, loss, optimizer and scheduler. Writes
`initial.pth` and `last.pth`, its first and last weights, `steps.pt` with losses and learning rates, and
`draws.pt`, mean and rms of each weight over several initialisations. Prints its versions as JSON.
"""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    say, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed must not be taken for an answer
    order = json.loads(sys.stdin.readline())
    warnings.filterwarnings("ignore")
    from importlib.metadata import version

    import torch

    folder = Path(order["folder"])
    torch.save(draws(build, order), folder / "draws.pt")
    torch.manual_seed(0)
    segmentor = build(order)
    if order["float64"]:
        segmentor.double()
    torch.save({"model": segmentor.state_dict()}, folder / "initial.pth")
    batches = torch.load(folder / "batches.pt", weights_only=True)
    losses, rates = train(segmentor, batches, order)
    torch.save({"losses": losses, "rates": rates}, folder / "steps.pt")
    torch.save({"model": segmentor.state_dict()}, folder / "last.pth")
    print(json.dumps({name: version(name) for name in ("sssegmentation", "torch")}), file=say, flush=True)


def build(order: dict[str, Any]) -> Any:
    """configs/cgnet/cgnet_cityscapes.py of its repository, with BatchNorm for one process."""
    from ssseg.modules.models.segmentors.fcn import FCN

    norm: dict[str, Any] = {"type": "BatchNorm2d"}
    loss = {"type": "CrossEntropyLoss", "scale_factor": 1.0, "reduction": "mean", "ignore_index": -100}
    config = {
        "type": "FCN",
        "num_classes": order["classes"],
        "align_corners": False,
        "norm_cfg": norm,
        "act_cfg": {"type": "ReLU", "inplace": True},
        "backbone": {
            "type": "CGNet",
            "structure_type": "cgnetm3n21",
            "pretrained": False,
            "selected_indices": (0, 1, 2),
            "norm_cfg": norm,
            "act_cfg": {"type": "PReLU"},
        },
        "head": {"in_channels": 256, "feats_channels": 256, "dropout": 0, "num_convs": 0},
        "auxiliary": None,
        "losses": {"loss_cls": loss | {"class_weight": order["class_weights"]}},
    }
    return FCN(config, mode="TRAIN").train()


def draws(build: Callable[[dict[str, Any]], Any], order: dict[str, Any]) -> dict[str, tuple[float, float]]:
    import torch

    sums: dict[str, Any] = {}
    for seed in range(order["draws"]):
        torch.manual_seed(seed)
        for name, value in build(order).named_parameters():
            value = value.detach().double()
            found = torch.stack([value.mean(), value.square().mean()])
            sums[name] = sums.get(name, 0) + found / order["draws"]
    return {name: (float(mean), float(square) ** 0.5) for name, (mean, square) in sums.items()}


def train(segmentor: Any, batches: list[dict[str, Any]], order: dict[str, Any]) -> tuple[Any, Any]:
    """The same steps as in Trainer.start of SSSegmentation's train.py."""
    import torch
    from ssseg.modules import BuildOptimizer, BuildScheduler
    from ssseg.modules.utils import SSSegInputStructure

    optimizer_config = {"type": "Adam", "lr": 0.001, "weight_decay": 5e-4, "params_rules": {}}
    optimizer = BuildOptimizer(segmentor, optimizer_config)
    scheduler = BuildScheduler(
        optimizer=optimizer,
        scheduler_cfg={
            "type": "PolyScheduler",
            "power": 0.9,
            "min_lr": 1e-4,
            "lr": 0.001,
            "max_epochs": 1,
            "iters_per_epoch": order["steps"],
            "params_rules": {},
            "optimizer": optimizer_config,
        },
    )
    kind = torch.float64 if order["float64"] else torch.float32
    mean = torch.tensor(order["mean"]).view(1, 3, 1, 1).to(kind)
    losses, rates = [], []
    for batch in batches:
        rates.append(scheduler.updatelr())
        target = batch["target"].long()
        target[target == 255] = -100
        data = SSSegInputStructure(mode="TRAIN", images=batch["image"].to(kind) - mean, seg_targets=target)
        optimizer.zero_grad()
        loss, _ = segmentor(data).getsetvariables().values()
        loss.backward()
        scheduler.step()
        losses.append(float(loss))
    return losses, rates


if __name__ == "__main__":
    main()
