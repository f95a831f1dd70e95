"""Learning-rate schedules, stepped once per optimizer step."""

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from src.errors import UserError


class PolyLR(LambdaLR):
    """(lr - min_lr) * (1 - step / total_steps) ** power + min_lr, per step.

    As in SSSegmentation and mmsegmentation, min_lr is added, and is not only a lower limit. The paper's
    schedule has min_lr = 0. min_lr belongs to the optimizer's own learning rate: a parameter group with f
    times that rate ends at f * min_lr.

    Raises UserError if min_lr is above the optimizer's own learning rate.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, power: float = 0.9, min_lr: float = 0.0):
        def falling(step: int) -> float:
            return max(0.0, 1 - step / total_steps) ** power

        super().__init__(optimizer, _above(_floor(optimizer, min_lr), falling))


class WarmupCosine(LambdaLR):
    """A linear rise to the optimizer's own learning rate, then half a cosine down to min_lr, per step.

    With W warm-up steps and N steps in all, the rate is lr * (step + 1) / (W + 1) up to step W, and
    min_lr + (lr - min_lr) * (1 + cos(pi * (step - W) / (N - W))) / 2 from there on.

    Args:
        warmup: optimizer steps (an int), or a share of the training (a float below 1).
        min_lr: that of the optimizer's own learning rate; a parameter group with f times that rate ends at
            f * min_lr.

    Raises UserError if the warm-up is not shorter than the training, and if min_lr is above the optimizer's
    own learning rate.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.05, min_lr: float = 0.0):
        risen = warmup if isinstance(warmup, int) else round(warmup * total_steps)
        if risen >= total_steps:
            raise UserError(
                f"schedule.warmup={warmup:g}: the training has only {total_steps} steps. Give fewer, or a "
                f"share of the training, such as 0.05."
            )
        above_floor = _above(
            _floor(optimizer, min_lr),
            lambda step: (1 + math.cos(math.pi * min(1.0, (step - risen) / (total_steps - risen)))) / 2,
        )

        super().__init__(optimizer, lambda s: (s + 1) / (risen + 1) if s < risen else above_floor(s))


class ConstantLR(LambdaLR):
    """The optimizer's own learning rate throughout."""

    def __init__(self, optimizer: Optimizer, total_steps: int):
        super().__init__(optimizer, lambda step: 1.0)


def _floor(optimizer: Optimizer, min_lr: float) -> float:
    """min_lr as a share of the optimizer's own learning rate."""
    own = float(optimizer.defaults.get("lr") or max(group["lr"] for group in optimizer.param_groups))
    if min_lr > own:
        raise UserError(
            f"schedule.min_lr={min_lr:g} is above optimizer.lr={own:g}, so that the learning rate would rise."
        )
    return min_lr / own if own else 0.0


def _above(floor: float, share: Callable[[int], float]) -> Callable[[int], float]:
    return lambda step: (1 - floor) * share(step) + floor
