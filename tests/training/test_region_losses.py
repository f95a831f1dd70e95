"""OHEM, Dice, Lovász-Softmax and weighted sums against implementations that follow their definitions."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from src.labels import IGNORE
from src.training.losses import Dice, LovaszSoftmax, OhemCrossEntropy, WeightedCrossEntropy, WeightedSum
from src.training.losses.step_loss import StepLoss

CLASSES = 4


def example(seed=0, dtype=torch.float64):
    """Logits (2, 4, 5, 6) and a target in which class 3 and some labels are missing."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, CLASSES, 5, 6, generator=generator, dtype=dtype)
    target = torch.randint(CLASSES - 1, (2, 5, 6), generator=generator).to(torch.uint8)
    target[0, 0], target[1, :, 2] = IGNORE, IGNORE
    return logits, target


def pixels(logits, target):
    """(probabilities (N, C), classes (N)) of the labelled pixels, in numpy."""
    p = np.exp(logits.numpy())
    p = (p / p.sum(1, keepdims=True)).transpose(0, 2, 3, 1).reshape(-1, CLASSES)
    y = target.numpy().ravel().astype(int)
    return p[y != IGNORE], y[y != IGNORE]


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5, 3.0]])
@pytest.mark.parametrize(("threshold", "min_kept"), [(0.7, 0), (0.1, 0), (0.1, 0.4), (0.7, 1)])
def test_ohem_keeps_the_hardest_pixels(weights, threshold, min_kept):
    logits, target = example()
    total, weight = OhemCrossEntropy(threshold, min_kept, weights)(logits, target)
    p, y = pixels(logits, target)
    of_truth = p[np.arange(len(y)), y]
    hardest = set(np.argsort(of_truth)[: max(1, int(min_kept * len(y)))].tolist())
    kept = [i for i in range(len(y)) if of_truth[i] <= threshold or i in hardest]
    w = np.ones(CLASSES) if weights is None else np.array(weights)
    assert total.item() == pytest.approx(sum(-w[y[i]] * math.log(of_truth[i]) for i in kept), rel=1e-6)
    assert weight.item() == pytest.approx(sum(w[y[i]] for i in kept))
    assert 0 < len(kept) <= len(y)


def test_dice_is_its_formula():
    logits, target = example()
    p, y = pixels(logits, target)
    each = []
    for c in sorted(set(y)):
        truth = (y == c).astype(float)
        each.append(1 - (2 * (p[:, c] * truth).sum() + 1) / (p[:, c].sum() + truth.sum() + 1))
    assert len(each) == 3, "the class that does not occur is left out"
    assert Dice(smooth=1.0)(logits, target).item() == pytest.approx(np.mean(each))


def test_lovasz_is_the_extension_of_the_jaccard_loss():
    """By the definition: errors in descending order, each times the growth of 1 - IoU as its pixel joins the
    set of mispredicted ones."""
    logits, target = example()
    p, y = pixels(logits, target)
    each = []
    for c in sorted(set(y)):
        truth = y == c
        errors = np.where(truth, 1 - p[:, c], p[:, c])

        def jaccard_loss(wrong, truth=truth):
            predicted = truth ^ wrong
            return 1 - (truth & predicted).sum() / (truth | predicted).sum()

        wrong, before, value = np.zeros(len(y), bool), 0.0, 0.0
        for i in np.argsort(-errors):
            wrong[i] = True
            value += errors[i] * (jaccard_loss(wrong) - before)
            before = jaccard_loss(wrong)
        each.append(value)
    assert LovaszSoftmax()(logits, target).item() == pytest.approx(np.mean(each))


@pytest.mark.parametrize("loss", [Dice(), LovaszSoftmax(), OhemCrossEntropy(0.5, 0.1)], ids=str)
class TestEach:
    def test_gradient(self, loss):
        logits, target = example(seed=1)
        result = lambda x: loss(x, target)  # noqa: E731
        alone = (lambda x: result(x)[0]) if isinstance(loss, OhemCrossEntropy) else result
        assert torch.autograd.gradcheck(alone, logits.requires_grad_())

    def test_mixed_precision_does_not_change_it(self, loss):
        logits, target = (tensor.float() if tensor.is_floating_point() else tensor for tensor in example())
        found = []
        for enabled in (False, True):
            given = logits.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                total = StepLoss(loss)({"logits": given}, {"target": target}).total
            total.backward()
            found.append((total.detach(), given.grad))
        torch.testing.assert_close(found[1], found[0])

    def test_nothing_labelled(self, loss):
        logits, target = example()
        sums = StepLoss(loss)(
            {"logits": logits.requires_grad_()}, {"target": torch.full_like(target, IGNORE)}
        )
        assert sums.total.item() == 0
        sums.total.backward()
        assert not logits.grad.any()

    def test_no_value_is_read_by_the_host(self, loss):
        """On the device `meta`, whose tensors have no values."""
        with torch.device("meta"):
            logits = torch.zeros(2, CLASSES, 5, 6, requires_grad=True)
            target = torch.zeros(2, 40, 48, dtype=torch.uint8)
            StepLoss(loss)({"logits": logits}, {"target": target}).total.backward()
        assert logits.grad.is_meta


class Mean(nn.Module):
    """A loss of somebody else, which returns a mean."""

    def forward(self, logits, target):
        return nn.functional.cross_entropy(logits, target.long(), ignore_index=IGNORE)


def test_a_weighted_sum_and_its_parts():
    logits, target = example()
    parts = {
        "entropy": {"weight": 1.0, "loss": WeightedCrossEntropy([1.0, 2.0, 0.5, 3.0]).double()},
        "dice": {"weight": 0.5, "loss": Dice()},
        "mine": {"weight": 2.0, "loss": Mean()},
    }
    loss = WeightedSum(parts)
    total, weight = parts["entropy"]["loss"](logits, target)
    values = [(total / weight).item(), Dice()(logits, target).item(), Mean()(logits, target).item()]
    expected = values[0] + 0.5 * values[1] + 2 * values[2]
    assert loss(logits, target).item() == pytest.approx(expected)
    step = StepLoss(loss)
    sums = step({"logits": logits}, {"target": target})
    assert (sums.total / sums.weight).item() == pytest.approx(expected)
    assert step.part_names == ["entropy", "dice", "mine"]
    found = sums.detached()[1:]
    torch.testing.assert_close((found[:, 0] / found[:, 1]).tolist(), values)
    value, images = step.in_validation(logits, target)
    assert value.item() == pytest.approx(expected)
    assert images == 2


def test_the_weight_of_a_part_counts_where_it_is_the_only_one():
    logits, target = example()
    sums = StepLoss(WeightedSum({"dice": {"weight": 0.5, "loss": Dice()}}))(
        {"logits": logits}, {"target": target}
    )
    assert (sums.total / sums.weight).item() == pytest.approx(0.5 * Dice()(logits, target).item())


@pytest.mark.parametrize("loss", [WeightedCrossEntropy([1.0, 2.0, 0.5, 3.0]), Dice()], ids=str)
def test_auxiliary_heads_have_the_same_loss_with_a_factor(loss):
    loss = loss.double()
    logits, target = example()
    side, deep = example(seed=2)[0], example(seed=3)[0]
    outputs = {"logits": logits.requires_grad_(), "side": side, "deep": deep}
    step = StepLoss(loss, {"side": 0.4, "deep": 0.1})
    sums = step(outputs, {"target": target})

    def alone(x):
        result = loss(x, target)
        return result[0] / result[1] if isinstance(result, tuple) else result

    expected = alone(logits) + 0.4 * alone(side) + 0.1 * alone(deep)
    assert (sums.total / sums.weight).item() == pytest.approx(expected.item())
    assert step.part_names == ["main", "side", "deep"]
    (gradient,) = torch.autograd.grad(expected, logits)
    (found,) = torch.autograd.grad(sums.total / sums.weight, logits)
    torch.testing.assert_close(found, gradient)
