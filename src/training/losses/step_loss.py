"""The loss of a training step: of the prediction, of auxiliary heads and of a teacher, over all devices."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from src.network.upsample import upsample
from src.training.losses.terms import Term, ratio, terms_of

Outputs = Mapping[str, Tensor]
"""float32 logits (B, C, h, w) of each head; those of the prediction are named "logits"."""


@dataclass(frozen=True)
class Sums:
    """Of one batch. The loss of a step is sum(total) / sum(weight) over its devices and accumulated batches;
    the value of each part is the same of its own sums."""

    total: Tensor
    weight: Tensor
    parts: list[Term]  # empty where the loss has only one

    def detached(self) -> Tensor:
        """(1 + parts, 2): total and weight, of the loss and then of each part."""
        rows = [(self.total, self.weight), *((term.total, term.weight) for term in self.parts)]
        return torch.stack([torch.stack(row) for row in rows]).detach()


class StepLoss(nn.Module):
    """Applies a loss of conf/loss to the outputs of a network.

    If the loss is a sum over pixels with a weight that follows from the target (`by_image`), the loss of
    several devices and accumulated batches is exactly that of one large batch, auxiliary heads included. If
    its terms have different weights, it is exact over devices, and accumulated batches count equally.

    Args:
        loss: (logits, target) -> (sum, weight), or a mean.
        auxiliary_weight: the factor of each auxiliary head's loss, or a factor by the head's name.

    more_terms: functions of (outputs, batch) that add terms, such as those of a teacher.
    part_names: the names of the parts, known after the first batch; empty where the loss has only one.
    """

    def __init__(self, loss: nn.Module, auxiliary_weight: float | Mapping[str, float] = 0.4):
        super().__init__()
        self.loss = loss
        self.auxiliary_weight = auxiliary_weight
        self.more_terms: list[Callable[[Outputs, Mapping[str, Any]], list[Term]]] = []
        self.part_names: list[str] = []

    def forward(self, outputs: Outputs, batch: Mapping[str, Any]) -> Sums:
        """The sums of a batch of this device, with "image" and "target"; all devices call it together."""
        target = batch["target"]
        terms = [
            term.scaled(self._factor(name)).named("" if name == "logits" else name)
            for name, logits in outputs.items()
            for term in _upsampled_terms(self.loss, logits, target)
        ]
        more = [term for function in self.more_terms for term in function(outputs, batch)]
        parts = terms + more
        if len(parts) == 1:
            return Sums(parts[0].factor * parts[0].total, parts[0].weight, [])
        self.part_names = [term.name or "main" for term in parts]
        if getattr(self.loss, "by_image", False) and not more:
            total = torch.stack([term.factor * term.total for term in terms]).sum()
            return Sums(total, terms[0].weight, parts)
        weights, world = torch.stack([term.weight for term in parts]), 1
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(weights)
            world = dist.get_world_size()
        pixels = weights.new_full((), float(target.numel()))
        values = [term.factor * ratio(term.total, w) for term, w in zip(parts, weights, strict=True)]
        return Sums(torch.stack(values).sum() * pixels * world, pixels, parts)

    def in_validation(self, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(value, weight) of the prediction alone, of which an epoch's mean is made.

        Args:
            logits: float32 (B, C, H, W).
            target: uint8 (B, H, W).
        """
        terms = terms_of(self.loss, logits, target)
        weight = terms[0].weight if len(terms) == 1 else logits.new_full((), float(len(target)))
        return torch.stack([term.value for term in terms]).sum(), weight

    def _factor(self, head: str) -> float:
        if head == "logits":
            return 1.0
        if isinstance(self.auxiliary_weight, Mapping):
            return self.auxiliary_weight[head]
        return self.auxiliary_weight


def _upsampled_terms(loss: nn.Module, logits: Tensor, target: Tensor) -> list[Term]:
    """The terms of a loss whose logits are first upsampled to the size of the target.

    Logits at full size are the largest tensors of a step, and the loss makes two more of that size. For a
    loss with `by_image`, only one image's logits are in memory at full size at a time: their gradient is
    computed at once, and kept for the backward pass at the size of the network's output.
    """
    if getattr(loss, "by_image", False) and logits.requires_grad:
        return [Term(*_LossByImage.apply(logits, target, loss))]
    return terms_of(loss, upsample(logits, target.shape[-2:]), target)


class _LossByImage(torch.autograd.Function):
    @staticmethod
    # Without autocast, as a backward pass is: it would round the gradient of the deterministic upsampling.
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)
    def forward(ctx, logits: Tensor, target: Tensor, loss: nn.Module) -> tuple[Tensor, Tensor]:
        totals, weights, gradients = [], [], []
        for image, of_one in zip(logits.detach().split(1), target.split(1), strict=True):
            one = image.contiguous().requires_grad_()
            with torch.enable_grad():
                total, weight = loss(upsample(one, target.shape[-2:]), of_one)
            gradients.append(torch.autograd.grad(total, one)[0])
            totals.append(total.detach())
            weights.append(weight)
        ctx.save_for_backward(torch.cat(gradients))
        weight = torch.stack(weights).sum()
        ctx.mark_non_differentiable(weight)
        return torch.stack(totals).sum(), weight

    @staticmethod
    def backward(ctx, of_total: Tensor, of_weight: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_total, None, None
