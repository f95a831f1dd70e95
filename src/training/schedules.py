"""Learning-rate schedules, stepped once per optimizer step."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class PolyLR(LambdaLR):
    """(lr - min_lr) * (1 - step / total_steps) ** power + min_lr, per step.

    As in SSSegmentation and mmsegmentation, min_lr is added, and is not only a lower limit. The paper's
    schedule has min_lr = 0.
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, power: float = 0.9, min_lr: float = 0.0):
        def factor(base: float):
            if base == 0:  # these parameters are not to be trained
                return lambda step: 1.0
            floor = min_lr / base

            def at(step: int) -> float:
                left = max(0.0, 1 - step / total_steps)
                return (1 - floor) * left**power + floor

            return at

        super().__init__(
            optimizer, [factor(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups]
        )


class ConstantLR(LambdaLR):
    """The optimizer's own learning rate throughout."""

    def __init__(self, optimizer: Optimizer, total_steps: int):
        super().__init__(optimizer, lambda step: 1.0)
