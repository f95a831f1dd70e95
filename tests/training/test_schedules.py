"""Learning rates of our schedules at all steps and for all groups, against their formulas in numpy."""

import numpy as np
import pytest
import torch
from torch import nn

from src.errors import UserError
from src.training.schedules import ConstantLR, PolyLR, WarmupCosine

STEPS = 40
FACTORS = 1.0, 10.0, 0.1


def optimizer(rate=1e-3, factors=FACTORS):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": rate * factor} for factor in factors]
    return torch.optim.SGD(groups, lr=rate)


def advance(schedule, steps=STEPS):
    """The rates of each step and after the last one: (steps + 1, groups)."""
    seen = [rates(schedule)]
    for _ in range(steps):
        schedule.optimizer.step()
        schedule.step()
        seen.append(rates(schedule))
    return np.array(seen)


def rates(schedule):
    return [group["lr"] for group in schedule.optimizer.param_groups]


def poly(lr, min_lr, power):
    return (lr - min_lr) * (1 - np.arange(STEPS + 1) / STEPS) ** power + min_lr


def warmup_cosine(lr, min_lr, rise):
    up = lr * np.linspace(1, rise + 1, rise + 1)[:-1] / (rise + 1)
    down = np.cos(np.linspace(0, np.pi, STEPS + 1 - rise)) * (lr - min_lr) / 2 + (lr + min_lr) / 2
    return np.concatenate([up, down])


def per_group(of_rate, lr, min_lr, *more):
    return np.stack([of_rate(lr * factor, min_lr * factor, *more) for factor in FACTORS], axis=1)


@pytest.mark.parametrize("min_lr", [0.0, 1e-4])
@pytest.mark.parametrize("power", [0.9, 2.0])
def test_poly_of_each_group(power, min_lr):
    found = advance(PolyLR(optimizer(), STEPS, power, min_lr))
    np.testing.assert_allclose(found, per_group(poly, 1e-3, min_lr, power), rtol=1e-9, atol=1e-18)


@pytest.mark.parametrize("min_lr", [0.0, 1e-4])
@pytest.mark.parametrize(("warmup", "rise"), [(0, 0), (7, 7), (0.25, 10), (0.0, 0)])
def test_warmup_cosine_of_each_group(warmup, rise, min_lr):
    found = advance(WarmupCosine(optimizer(), STEPS, warmup, min_lr))
    np.testing.assert_allclose(found, per_group(warmup_cosine, 1e-3, min_lr, rise), rtol=1e-9, atol=1e-18)


SCHEDULES = [
    lambda own: PolyLR(own, STEPS, min_lr=1e-4),
    lambda own: WarmupCosine(own, STEPS, warmup=10, min_lr=1e-4),
]


@pytest.mark.parametrize("make", SCHEDULES)
def test_no_group_rises_again(make):
    """A group whose rate is below min_lr has a floor of its own."""
    found = advance(make(optimizer(factors=(1.0, 0.01))))[10:]
    assert (np.diff(found, axis=0) < 0).all()
    np.testing.assert_allclose(found[-1], [1e-4, 1e-6])


@pytest.mark.parametrize("make", SCHEDULES)
def test_the_end_stays(make):
    schedule = make(optimizer())
    end = advance(schedule)[-1]
    np.testing.assert_allclose(end, [1e-4, 1e-3, 1e-5])
    np.testing.assert_allclose(advance(schedule, 5)[-1], end, rtol=1e-12)


@pytest.mark.parametrize("make", SCHEDULES)
def test_a_minimum_above_the_learning_rate_is_refused(make):
    with pytest.raises(UserError, match=r"schedule.min_lr=0.0001 is above optimizer.lr=1e-05"):
        make(optimizer(1e-5))


@pytest.mark.parametrize("make", SCHEDULES)
def test_a_schedule_goes_on_from_its_state(make, tmp_path):
    whole = make(optimizer())
    expected = advance(whole)
    stopped = make(optimizer())
    advance(stopped, 17)
    torch.save((stopped.optimizer.state_dict(), stopped.state_dict()), tmp_path / "state")
    of_optimizer, of_schedule = torch.load(tmp_path / "state", weights_only=True)  # plain data
    resumed = make(optimizer())
    resumed.optimizer.load_state_dict(of_optimizer)
    resumed.load_state_dict(of_schedule)
    assert (advance(resumed, STEPS - 17) == expected[17:]).all()


def test_poly_on_an_optimizer_that_has_moved_on():
    used = optimizer()
    advance(PolyLR(used, STEPS), STEPS // 2)
    assert rates(PolyLR(used, STEPS, min_lr=1e-4)) == pytest.approx([1e-3, 1e-2, 1e-4])


def test_a_warm_up_as_long_as_the_training_is_refused():
    with pytest.raises(UserError, match=r"schedule.warmup=40: the training has only 40 steps"):
        WarmupCosine(optimizer(), STEPS, warmup=40)


def test_constant():
    assert (advance(ConstantLR(optimizer(), STEPS)) == [1e-3, 1e-2, 1e-4]).all()
