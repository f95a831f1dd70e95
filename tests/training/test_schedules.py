import pytest
import torch
from torch import nn

from src.training.schedules import ConstantLR, PolyLR

STEPS = 40


def optimizer(*rates):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def advance(schedule, steps):
    for _ in range(steps):
        schedule.optimizer.step()
        schedule.step()


def rates(schedule):
    return [group["lr"] for group in schedule.optimizer.param_groups]


def poly(lr, min_lr, step, power=0.9):
    return (lr - min_lr) * (1 - step / STEPS) ** power + min_lr


@pytest.mark.parametrize("min_lr", [0.0, 1e-4])
@pytest.mark.parametrize("power", [0.9, 2.0])
@pytest.mark.parametrize("step", [0, 1, STEPS // 2, STEPS - 1, STEPS])
def test_poly_of_each_group(step, power, min_lr):
    schedule = PolyLR(optimizer(1e-3, 1e-2), STEPS, power, min_lr)
    advance(schedule, step)
    assert rates(schedule) == pytest.approx([poly(lr, min_lr, step, power) for lr in (1e-3, 1e-2)], rel=1e-9)


def test_poly_ends_at_its_minimum_and_stays_there():
    for min_lr in (0.0, 1e-4):
        schedule = PolyLR(optimizer(1e-3), STEPS, min_lr=min_lr)
        advance(schedule, STEPS)
        assert rates(schedule) == pytest.approx([min_lr], rel=1e-9, abs=0)
        advance(schedule, 5)
        assert rates(schedule) == pytest.approx([min_lr], rel=1e-9, abs=0)


def test_poly_goes_on_from_its_state():
    whole = PolyLR(optimizer(1e-3, 1e-2), STEPS, min_lr=1e-4)
    advance(whole, 17)
    resumed = PolyLR(optimizer(1e-3, 1e-2), STEPS, min_lr=1e-4)
    resumed.optimizer.load_state_dict(whole.optimizer.state_dict())
    resumed.load_state_dict(whole.state_dict())
    for _ in range(STEPS - 17):
        assert rates(resumed) == rates(whole)
        advance(whole, 1)
        advance(resumed, 1)
    assert rates(resumed) == pytest.approx([1e-4, 1e-4])


def test_poly_on_an_optimizer_that_has_moved_on():
    used = optimizer(1e-3)
    advance(PolyLR(used, STEPS), STEPS // 2)
    assert rates(PolyLR(used, STEPS, min_lr=1e-4)) == pytest.approx([1e-3])


def test_state_is_plain_data(tmp_path):
    torch.save(PolyLR(optimizer(1e-3), STEPS).state_dict(), tmp_path / "state")
    torch.load(tmp_path / "state", weights_only=True)


def test_constant():
    schedule = ConstantLR(optimizer(1e-3, 1e-2), STEPS)
    advance(schedule, STEPS)
    assert rates(schedule) == [1e-3, 1e-2]
