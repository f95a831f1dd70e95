"""Parameter groups, frozen parameters, and what a schedule gets from the training."""

import numpy as np
import pytest
import torch
from front_doors import TINY
from torch import nn

from src.errors import UserError
from src.training.optimization import build_optimizer, build_schedule, freeze, steps_when
from src.weights.checkpoint_files import load_checkpoint

SGD = {"_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 1e-4, "momentum": 0.9}
TORCH = "torch.optim.lr_scheduler."


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.head = nn.Conv2d(4, 2, 1)


class Grouped(Net):
    """A network with groups of its own: a tenth of the rate in the encoder, no decay for its biases."""

    def param_groups(self, lr):
        weights, biases = ([p for p in self.encoder.parameters() if (p.ndim < 2) == few] for few in (0, 1))
        return [
            {"params": weights, "lr": lr / 10},
            {"params": biases, "lr": lr / 10, "weight_decay": 0.0},
            {"params": (p for p in self.head.parameters())},
        ]


def values(network, **changes):
    """{name: (lr, weight_decay)} of all that the optimizer trains; each parameter must be there once."""
    module = nn.ModuleDict({"network": network, "loss": nn.Linear(1, 1, bias=False)})
    freeze(network, SGD | changes)
    optimizer = build_optimizer(SGD | changes, module, network)
    names = {id(p): name.removeprefix("network.") for name, p in module.named_parameters()}
    found = [
        (names[id(p)], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for p in group["params"]
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def test_without_groups_all_is_one_group_in_the_module_s_own_order():
    module = nn.ModuleDict({"network": Net(), "loss": nn.Linear(1, 1)})
    (group,) = build_optimizer(SGD | {"groups": None}, module, module["network"]).param_groups
    assert all(a is b for a, b in zip(group["params"], module.parameters(), strict=True))
    assert "name" not in group


def test_the_first_pattern_that_matches_counts():
    groups = {"encoder.0.*": {"lr_factor": 0.5}, "*bias": {"weight_decay": 0.0, "lr_factor": 2}}
    assert values(Net(), groups=groups) == {
        "encoder.0.weight": (0.05, 1e-4),
        "encoder.0.bias": (0.05, 1e-4),
        "encoder.1.weight": (0.1, 1e-4),
        "encoder.1.bias": (0.2, 0.0),
        "head.weight": (0.1, 1e-4),
        "head.bias": (0.2, 0.0),
        "loss.weight": (0.1, 1e-4),
    }


def test_a_network_s_own_groups_and_the_config_s_together():
    own = {
        "encoder.0.weight": (0.01, 1e-4),
        "encoder.0.bias": (0.01, 0.0),
        "encoder.1.weight": (0.01, 0.0),
        "encoder.1.bias": (0.01, 0.0),
        "head.weight": (0.1, 1e-4),
        "head.bias": (0.1, 1e-4),
        "loss.weight": (0.1, 1e-4),
    }
    assert values(Grouped()) == own
    both = values(Grouped(), groups={"*.bias": {"lr_factor": 3}, "head.*": {"weight_decay": 0.5}})
    assert both == own | {
        "encoder.0.bias": (pytest.approx(0.3), 0.0),
        "encoder.1.bias": (pytest.approx(0.3), 0.0),
        "head.weight": (0.1, 0.5),
        "head.bias": (pytest.approx(0.3), 1e-4),
    }


def test_groups_have_different_names():
    """LearningRateMonitor refuses equal ones."""
    network = Grouped()
    table = {"*.bias": {"lr_factor": 3}}
    groups = build_optimizer(SGD | {"groups": table}, network, network).param_groups
    names = [group["name"] for group in groups if "name" in group]
    assert sorted(names) == ["*.bias in group 2", "*.bias in group 3"]


def missing(network):
    return network.param_groups(1)[:2]


def doubled(network):
    return [*network.param_groups(1), {"params": network.head.bias}]


def foreign(network):
    return [{"params": [*network.parameters(), nn.Parameter(torch.zeros(1))]}]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (missing, r"head.weight: in no group\n  head.bias: in no group"),
        (doubled, r"head.bias: in 2 groups"),
        (foreign, r"is not a parameter of the network"),
        (lambda _: [nn.Linear(1, 1)], r"is not a group. Expected a dict"),
        (lambda _: None, r"returns null: expected a list of dicts"),
    ],
)
def test_wrong_groups_of_a_network_are_named(returned, said):
    network = Grouped()
    wrong = returned(network)
    network.param_groups = lambda lr: wrong
    with pytest.raises(UserError, match=r"param_groups\(0.1\)(?s:.)*" + said):
        build_optimizer(SGD, network, network)


@pytest.mark.parametrize(
    ("groups", "said"),
    [
        ({"encodr.*": {"lr_factor": 0.1}}, r"encodr.\* matches no parameter(?s:.)*encoder.\*"),
        ({"*": {"lr_factor": 0.1}, "head*": {"lr_factor": 1}}, r"\* stands before head\* and takes all"),
        ({"*": {"lr_factor": 0}}, "freezes all parameters"),
    ],
)
def test_wrong_groups_of_a_config_are_named(groups, said):
    config, network = SGD | {"groups": groups}, Net()

    def train():
        freeze(network, config)
        build_optimizer(config, network, network)

    with pytest.raises(UserError, match=said):
        train()


def test_frozen_parameters_have_no_gradient_and_their_batchnorm_keeps_its_statistics():
    network = Net()
    found = values(network, groups={"encoder.*": {"lr_factor": 0}})
    assert set(found) == {"head.weight", "head.bias", "loss.weight"}
    network.head(network.encoder(torch.randn(2, 3, 8, 8) + 5)).sum().backward()
    assert all(p.grad is None for p in network.encoder.parameters())
    assert network.encoder[1].num_batches_tracked == 0
    assert not network.encoder[1].running_mean.any()
    assert network.encoder[2].training  # dropout is no statistic


def test_half_a_batchnorm_is_trained_on():
    network = Net()
    values(network, groups={"encoder.1.weight": {"lr_factor": 0}})
    network.encoder(torch.randn(2, 3, 8, 8))
    assert network.encoder[1].num_batches_tracked == 1


def rates(schedule, steps=20, epochs=4):
    network = Grouped()
    optimizer = build_optimizer(SGD, network, network)
    scheduler = build_schedule(schedule, optimizer, steps, epochs)
    seen = []
    for _ in range(epochs if schedule.get("interval") == "epoch" else steps):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return np.array(seen)


def cosine(start, end, share):
    return end + (start - end) * (1 + np.cos(np.pi * share)) / 2


@pytest.mark.parametrize(("interval", "length"), [("step", 20), ("epoch", 4)])
def test_cosine_annealing_ends_with_the_training(interval, length):
    found = rates({"_target_": f"{TORCH}CosineAnnealingLR", "interval": interval, "monitor": None})
    expected = np.outer(cosine(1, 0, np.arange(length) / length), [0.01, 0.01, 0.1])
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_what_the_config_sets_is_not_replaced():
    found = rates({"_target_": f"{TORCH}CosineAnnealingLR", "T_max": 40, "eta_min": 0.0})
    np.testing.assert_allclose(found[:, 2], cosine(0.1, 0, np.arange(20) / 40), rtol=1e-9)


def test_one_cycle_rises_to_each_group_s_own_rate():
    found = rates({"_target_": f"{TORCH}OneCycleLR", "pct_start": 0.25, "div_factor": 10.0})
    peak = np.array([0.01, 0.01, 0.1])
    up = [cosine(peak / 10, peak, step / 4) for step in range(4)]
    down = [cosine(peak, peak / 10 / 1e4, step / 15) for step in range(16)]
    np.testing.assert_allclose(found, up + down, rtol=1e-9)


def test_a_metric_s_schedule_needs_a_monitor_and_others_take_none():
    plateau = {"_target_": f"{TORCH}ReduceLROnPlateau"}
    with pytest.raises(UserError, match=r"schedule.monitor is missing"):
        rates(plateau)
    with pytest.raises(UserError, match=r"schedule.monitor=val/mIoU: CosineAnnealingLR reads no metric"):
        rates({"_target_": f"{TORCH}CosineAnnealingLR", "monitor": "val/mIoU"})
    optimizer = torch.optim.SGD(Net().parameters(), lr=0.1)
    scheduler = build_schedule(plateau | {"monitor": "val/mIoU"}, optimizer, 20, 4)
    assert steps_when({"monitor": "val/mIoU"}, scheduler)["frequency"] > 10**9  # never by Lightning


def test_gradients_are_clipped_after_they_are_rescaled(doors):
    """The norm of a first step of SGD is at most the limit times the learning rate, whatever the loss's
    divisor was before."""
    sgd = ("optimizer=sgd", "optimizer.weight_decay=0", "optimizer.lr=1.0", "schedule=constant")
    moved = {}
    for clip in ("null", "1e-3"):
        own = (f"trainer.gradient_clip_val={clip}", "trainer.max_epochs=1", "trainer.limit_train_batches=1")
        run = doors("train", *TINY, *sgd, *own, "+callbacks.norm={_target_: spy.FirstStep}", name=f"n{clip}")
        assert run.code == 0, run.err
        moved[clip] = float((run.directory / "first_step.txt").read_text())
    assert moved["null"] > 1e-2
    assert moved["1e-3"] == pytest.approx(1e-3, rel=1e-3)


def test_lightning_leaves_frozen_batchnorm_in_evaluation_mode(doors):
    frozen = "optimizer.groups={stage1.*: {lr_factor: 0}, classifier.*: {lr_factor: 2}}"
    run = doors("train", *TINY, frozen, "callbacks=ema", "+callbacks.spy={_target_: spy.FirstWeights}")
    assert run.code == 0, run.err
    first = torch.load(run.directory / "first_weights.pt", weights_only=True)
    last = load_checkpoint(run.directory / "checkpoints/last.ckpt")["state_dict"]
    same = {key for key in last if torch.equal(first[key], last[key])}
    stage1 = {key for key in last if ".stage1." in key}
    assert stage1 <= same
    assert not any(key.endswith(("weight", "running_mean")) for key in same - stage1)
    header = (run.directory / "metrics.csv").read_text().partition("\n")[0].split(",")
    assert {"lr-Adam/others", "lr-Adam/classifier.*"} <= set(header)
