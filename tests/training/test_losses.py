from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from src.labels import IGNORE
from src.training.losses import WeightedCrossEntropy
from src.training.losses.step_loss import StepLoss
from src.training.module import SegmentationModule
from src.training.reliability.lightning_internals import scale_left

CLASSES = 4
WEIGHTS = [2.5, 1.0, 0.25, 9.0]


def logits_and_target(ignored=0.3, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(batch, CLASSES, 5, 6, generator=generator)
    target = torch.randint(0, CLASSES, (batch, 5, 6), generator=generator, dtype=torch.uint8)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


def torch_mean(logits, target, weights, smoothing):
    weight = None if weights is None else torch.tensor(weights)
    return F.cross_entropy(
        logits, target.long(), weight, ignore_index=IGNORE, reduction="mean", label_smoothing=smoothing
    )


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ignored", [0.0, 0.3])
def test_the_quotient_is_the_weighted_mean(weights, smoothing, ignored):
    logits, target = logits_and_target(ignored)
    total, weight = WeightedCrossEntropy(weights, smoothing)(logits, target)
    torch.testing.assert_close(total / weight, torch_mean(logits, target, weights, smoothing))


def test_by_hand():
    # Two pixels of three count. -log softmax of the target: log 2 with weight 2, log 4 with weight 5.
    logits = torch.tensor([[0.0, 0.0, 7.0], [0.0, 3.0, 9.0]]).log().nan_to_num(neginf=0.0).view(1, 2, 1, 3)
    logits[0, :, 0, 0] = 0.0
    logits[0, :, 0, 1] = torch.tensor([1.0, 3.0]).log()
    target = torch.tensor([[[1, 0, IGNORE]]], dtype=torch.uint8)
    total, weight = WeightedCrossEntropy([5.0, 2.0])(logits, target)
    torch.testing.assert_close(total, 2 * torch.tensor(2.0).log() + 5 * torch.tensor(4.0).log())
    assert weight == 7


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_divided_by_all_pixels(weights):
    """mmsegmentation 1.1.2: losses of ignored pixels are 0, and the mean is over all of them."""
    logits, target = logits_and_target()
    weight = None if weights is None else torch.tensor(weights)
    expected = F.cross_entropy(logits, target.long(), weight, ignore_index=IGNORE, reduction="none").mean()
    total, pixels = WeightedCrossEntropy(weights, divide_by="pixels")(logits, target)
    torch.testing.assert_close(total / pixels, expected)
    assert pixels == target.numel()


def test_divided_by_what_is_refused():
    with pytest.raises(ValueError, match="divide_by=labels"):
        WeightedCrossEntropy(divide_by="labels")


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_halves_of_a_batch_add_up(weights):
    logits, target = logits_and_target(batch=4)
    target[:2, 2:] = IGNORE  # so that the mean of the halves' means is something else
    loss = WeightedCrossEntropy(weights)
    sums = [loss(logits[half], target[half]) for half in (slice(0, 2), slice(2, 4))]
    total, weight = (torch.stack(parts).sum() for parts in zip(*sums, strict=True))
    whole = torch_mean(logits, target, weights, 0.0)
    torch.testing.assert_close(total / weight, whole)
    assert not torch.isclose(torch.stack([t / w for t, w in sums]).mean(), whole, rtol=1e-3)


class Whole(WeightedCrossEntropy):
    by_image = False


class LargestTensor(TorchDispatchMode):
    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        if isinstance(output, torch.Tensor):
            self.numbers = max(self.numbers, output.numel())
        return output


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("divide_by", ["weights", "pixels"])
@pytest.mark.parametrize("format", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
def test_image_by_image_is_the_whole_batch(weights, divide_by, format):
    coarse, _ = logits_and_target(batch=3)
    coarse = coarse.double().contiguous(memory_format=format)
    target = torch.randint(0, CLASSES, (3, 41, 47), dtype=torch.uint8)
    target[0], target[1, :9] = IGNORE, IGNORE  # the first image has nothing to learn from
    found = []
    for kind in (WeightedCrossEntropy, Whole):
        loss = kind(weights, label_smoothing=0.1, divide_by=divide_by).double()
        logits = coarse.clone().requires_grad_()
        with LargestTensor() as largest:
            sums = StepLoss(loss)({"logits": logits}, {"target": target})
            total, weight = sums.total, sums.weight
            (3 * total / weight).backward()
        assert not weight.requires_grad
        found.append((total.detach(), weight, logits.grad, largest.numbers))
    for one, other in zip(*(f[:3] for f in found), strict=True):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=1e-12, atol=1e-12)
    one_image = CLASSES * 41 * 47
    assert [f[3] for f in found] == [one_image, 3 * one_image]


def test_class_weights_are_no_part_of_a_checkpoint():
    loss = WeightedCrossEntropy(WEIGHTS)
    assert not loss.state_dict()
    assert loss.to("meta").weight.is_meta  # yet they follow the module to its device


def module_with(weights, smoothing=0.0):
    module = SegmentationModule(
        model={
            "_target_": "src.network.pixelwise.PixelwiseClassifier",
            "num_classes": CLASSES,
            "channels": [4],
            "preprocessing": {"mean": [100.0] * 3, "std": [50.0] * 3},
        },
        data={"crop_size": [64, 64]},
        classes=[f"class {i}" for i in range(CLASSES)],
        training={
            "loss": {
                "_target_": "src.training.losses.WeightedCrossEntropy",
                "class_weights": weights,
                "label_smoothing": smoothing,
            },
            "optimizer": {},
            "schedule": {},
            "compile": False,
            "channels_last": False,
            "auxiliary_weight": 0.4,
        },
    )
    module._trainer = SimpleNamespace(world_size=1, accumulate_grad_batches=1)
    module.logged = {}
    module.log_dict = module.logged.update
    return module


def step(module, target):
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (len(target), 3, 32, 32), dtype=torch.uint8, generator=generator)
    module.training_step({"image": image, "target": target}, 0).backward()
    module.on_before_optimizer_step(torch.optim.SGD(module.parameters()))
    return image, module.logged["train/loss_step"]


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_batch_without_labels_trains_nothing(weights, smoothing):
    module = module_with(weights, smoothing)
    _, loss = step(module, torch.full((2, 32, 32), IGNORE, dtype=torch.uint8))
    assert loss == 0
    gradients = [p.grad for p in module.parameters()]
    assert gradients
    assert all(g is not None and (g == 0).all() for g in gradients)  # NaN would not be 0


def test_a_training_step_is_the_weighted_mean():
    module = module_with(WEIGHTS)
    generator = torch.Generator().manual_seed(2)
    target = torch.randint(0, CLASSES, (2, 32, 32), dtype=torch.uint8, generator=generator)
    target[0, :20] = IGNORE
    image, loss = step(module, target)
    expected = torch_mean(module(image), target, WEIGHTS, 0.0)
    torch.testing.assert_close(loss, expected.detach())
    of_expected = torch.autograd.grad(expected, list(module.parameters()))
    for parameter, gradient in zip(module.parameters(), of_expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


@pytest.mark.parametrize("value", [-0.1, 1, 3])
def test_label_smoothing_out_of_range(value):
    with pytest.raises(ValueError, match=f"label_smoothing={value}"):
        WeightedCrossEntropy(None, value)


def test_a_fused_optimizer_takes_the_scale_out_of_the_gradients_itself():
    trainer = SimpleNamespace(
        precision_plugin=SimpleNamespace(scaler=SimpleNamespace(_scale=torch.tensor(4)))
    )
    assert scale_left(trainer, SimpleNamespace(_step_supports_amp_scaling=True)) == 4
    assert scale_left(trainer, SimpleNamespace()) == 1
