"""Batch normalisation over the samples of all ranks, on CPUs and GPUs, in eager mode and compiled."""

import logging

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn

log = logging.getLogger(__name__)


class _NormOverRanks(torch.autograd.Function):
    """Batch normalisation with the mean and variance of all ranks' samples.

    The forward and the backward pass have one all-reduce each. Nothing waits for the device, and
    torch.compile takes both into its graphs. (torch.nn.SyncBatchNorm refuses CPUs; on GPUs it waits for the
    device three times per layer, and breaks the graph there.)

    For float32 in NCHW on a CPU, results are rounded where torch's own kernel rounds, at the cost of one more
    all-reduce: each sample's result is bitwise that of one process with the whole batch. Otherwise a PReLU
    whose input is near zero would turn a different last bit into a gradient that is off by a hundredth, and
    no test could tell that from a mistake. (pytorch, aten/src/ATen/native/cpu/batch_norm_kernel.cpp)
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        mean, variance, count = (_exact_moments if _can_be_exact(x) else _moments)(x)
        mean, inverse = (t.to(weight.dtype) for t in (mean, 1 / (variance.double() + eps).sqrt()))
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        output = F.batch_norm(x, mean, torch.ones_like(mean), inverse * weight, bias, eps=0.0)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse, count = ctx.saved_tensors
        kind, channels = weight.dtype, (slice(None), None, None)
        x, gradient = input.to(kind), gradients[0].to(kind)
        sums = (_exact_products if _can_be_exact(input) else _products)(x, gradient, mean)
        dist.all_reduce(sums)
        slope = sums[0].to(kind) * inverse * inverse / count
        level = (sums[1] / count).to(kind)
        # addcmul: the kernel multiplies and adds without rounding in between.
        rest = torch.addcmul(gradient - level[channels], x - mean[channels], slope[channels], value=-1)
        of_x = rest * inverse[channels] * weight[channels]
        # Each rank takes an equal share of the summed gradients: those of the ranks' own samples may almost
        # cancel each other.
        of_weight, of_bias = sums / dist.get_world_size()
        return of_x.to(input.dtype), (of_weight * inverse).to(kind), of_bias.to(kind), None


def _moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(mean, variance, number) of all ranks' samples of each channel, float64."""
    own_variance, own_mean = (t.double() for t in torch.var_mean(x.to(_wide(x)), (0, 2, 3), correction=0))
    own_count = own_mean.new_full((1,), x.numel() / x.shape[1])
    # In float64, E[x^2] - E[x]^2 has no harmful cancellation.
    sums = torch.cat([own_mean, own_variance + own_mean.square(), own_count.new_ones(1)]) * own_count
    dist.all_reduce(sums)
    mean, square = (sums[:-1] / sums[-1]).view(2, -1)
    return mean, square - mean.square(), sums[-1]


def _products(x: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    """The sums of (x - mean) * gradient and of gradient for each channel: float64 (2, C)."""
    return torch.stack([_sum((x - mean[:, None, None]) * gradient), _sum(gradient)])


def _sum(x: Tensor) -> Tensor:
    """The sum over all dimensions except the channels, float64."""
    return x.sum((0, 2, 3), dtype=_wide(x)).double()


def _wide(x: Tensor) -> torch.dtype:
    """The dtype for sums of pixels. GPUs may be slow in float64; they sum in trees, precise in float32."""
    return torch.float64 if x.device.type == "cpu" or x.dtype == torch.float64 else torch.float32


def _can_be_exact(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype == torch.float32 and x.is_contiguous()


def _exact_moments(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    sums = torch.cat([_sum(x), torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64)])
    dist.all_reduce(sums)
    mean, count = sums[:-1] / sums[-1], sums[-1]
    squares = _sum((x - mean.to(x.dtype)[:, None, None]).square())
    dist.all_reduce(squares)
    return mean, squares.to(x.dtype) / count, count


def _exact_products(x: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    """torch's kernel sums each image's channel in its own way, and adds the images' sums in float64.

    To get the sums of each image, it is called with the channels of all images as separate channels: then
    they are its gradients of weight and bias.
    """
    batch, channels, height, width = x.shape
    x, gradient = (t.reshape(1, -1, height, width) for t in (x, gradient))
    mean, ones = mean.repeat(batch), mean.new_ones(batch * channels)
    _, *sums = torch.ops.aten.native_batch_norm_backward(
        gradient, x, ones, None, None, mean, ones, True, 0.0, [False, True, True]
    )
    return torch.stack(sums).view(2, batch, channels).sum(1, dtype=torch.float64)


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d over the samples of all ranks. Parameters, buffers and keys are BatchNorm2d's own."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        output, mean, variance, count = _NormOverRanks.apply(input, self.weight, self.bias, self.eps)
        self._track(mean, variance * (count / (count - 1)))
        return output

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), self.momentum)
        self.running_var.lerp_(unbiased_variance.to(self.running_var.dtype), self.momentum)
        self.num_batches_tracked.add_(1)


class SyncOverRanks(LayerSync):
    """What Trainer(sync_batchnorm=True) does, with SyncBatchNorm2d instead of torch.nn.SyncBatchNorm.

    Other layers of a user's own network keep the statistics of each device's samples: BatchNorm1d, and
    BatchNorm2d without weights, running statistics or a momentum.
    """

    def apply(self, model: nn.Module) -> nn.Module:
        others = []
        for name, layer in model.named_modules():
            if type(layer) is nn.BatchNorm2d and _has_all(layer):
                layer.__class__ = SyncBatchNorm2d  # the same tensors, so optimizer and EMA keep theirs
            elif isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.training:
                others += [] if isinstance(layer, SyncBatchNorm2d | nn.SyncBatchNorm) else [name]
        if others and dist.is_initialized() and dist.get_rank() == 0:
            log.warning(
                "trainer.sync_batchnorm does not reach these layers, whose statistics are those of each "
                "device's own samples: %s",
                ", ".join(others),
            )
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for layer in model.modules():
            if type(layer) is SyncBatchNorm2d:
                layer.__class__ = nn.BatchNorm2d  # type: ignore[assignment]
        return model


def _has_all(layer: nn.BatchNorm2d) -> bool:
    return layer.affine and layer.track_running_stats and layer.momentum is not None
