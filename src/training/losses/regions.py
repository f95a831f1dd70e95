"""Losses of whole regions: Dice and Lovász-Softmax, which follow the overlap that IoU measures.

Both are means, not sums: over several devices, and over accumulated batches, the loss is the mean of theirs.
"""

import torch
from torch import Tensor, nn

from src.labels import IGNORE


class Dice(nn.Module):
    """1 - 2 |P and T| / (|P| + |T|), with probabilities for P, averaged over the classes in the target.

    Each class is counted over the whole batch, without ignored pixels. https://arxiv.org/abs/1606.04797

    Args:
        smooth: a number of pixels that is added above and below the line, so that a class of a few pixels
            cannot dominate.
    """

    def __init__(self, smooth: float = 1.0):
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean, a scalar; 0 without labelled pixels.

        Args:
            logits: float32 (B, C, H, W).
            target: uint8 (B, H, W), IGNORE = not counted.
        """
        valid = target != IGNORE
        losses, present = [], []
        for number, probability in enumerate(logits.softmax(1).unbind(1)):
            truth = target == number
            overlap = (probability * truth).sum()
            both = (probability * valid).sum() + truth.sum()
            losses.append(1 - (2 * overlap + self.smooth) / (both + self.smooth))
            present.append(truth.any())
        return _mean_of_present(torch.stack(losses), torch.stack(present))


class LovaszSoftmax(nn.Module):
    """The Lovász extension of 1 - IoU, averaged over the classes in the target, over the whole batch.

    https://arxiv.org/abs/1705.08790, equation 8 and algorithm 1.
    """

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """The mean, a scalar; 0 without labelled pixels.

        Args:
            logits: float32 (B, C, H, W).
            target: uint8 (B, H, W), IGNORE = not counted.
        """
        valid = (target != IGNORE).flatten()
        losses, present = [], []
        for number, probability in enumerate(logits.softmax(1).unbind(1)):
            truth = (target == number).flatten()
            # An ignored pixel has no error. It is sorted behind all others, where it adds nothing.
            error = (truth.to(probability.dtype) - probability.flatten()).abs() * valid
            error, order = error.sort(descending=True)
            # No matrix product, which autocast would compute in half precision.
            losses.append((error * _jaccard_gradient(truth[order]).to(error.dtype)).sum())
            present.append(truth.any())
        return _mean_of_present(torch.stack(losses), torch.stack(present))


def _jaccard_gradient(truth: Tensor) -> Tensor:
    """By how much 1 - IoU grows as the pixels become wrong, one after the other.

    Args:
        truth: bool (N), whether each pixel belongs to the class, in the order of their errors.
    """
    # Integers, since the cumulative sum of floats is not deterministic on CUDA; float64, since neighbours
    # differ by less than float32 can hold.
    found = truth.cumsum(0)
    total = found[-1]
    missed = total - found
    union = total + (~truth).cumsum(0)
    loss = 1 - missed.double() / union.clamp(min=1)
    return torch.diff(loss, prepend=loss.new_zeros(1))


def _mean_of_present(losses: Tensor, present: Tensor) -> Tensor:
    return (losses * present).sum() / present.sum().clamp(min=1)
