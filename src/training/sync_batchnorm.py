"""Synchronised batch normalisation on the CPU, where torch.nn.SyncBatchNorm refuses to run."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn


class _NormOverProcesses(torch.autograd.Function):
    """Batch normalisation with the mean and variance of all processes' samples.

    Rounds where torch's own kernel for the CPU does, so that each sample is treated to the same bit as in one
    process with all of them. Otherwise a PReLU whose input is near zero turns the last bit into a gradient
    that is off by a hundredth, and nothing could be said about float32.
    (pytorch, aten/src/ATen/native/cpu/batch_norm_kernel.cpp)
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, ...]:
        kind, channels = weight.dtype, (slice(None), None, None)
        sums = torch.cat([_sum(x), torch.tensor([x.numel() / x.shape[1]], dtype=torch.float64)])
        dist.all_reduce(sums)
        count = sums[-1]
        mean = (sums[:-1] / count).to(kind)
        squares = _sum((x.to(kind) - mean[channels]).square())  # E[x^2] - E[x]^2 would cancel
        dist.all_reduce(squares)
        variance = squares.to(kind) / count
        inverse = (1 / (variance.double() + eps).sqrt()).to(kind)
        ctx.save_for_backward(x, weight, mean, inverse, count)
        ctx.mark_non_differentiable(mean, variance, count)
        output = F.batch_norm(x, mean, torch.ones_like(mean), inverse * weight, bias, eps=0.0)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        input, weight, mean, inverse, count = ctx.saved_tensors
        kind, channels = weight.dtype, (slice(None), None, None)
        x, gradient = input.to(kind), gradients[0].to(kind)
        sums = _sums_of_products(x, gradient, mean)
        dist.all_reduce(sums)
        slope = sums[0].to(kind) * inverse * inverse / count
        level = (sums[1] / count).to(kind)
        # addcmul: the kernel multiplies and adds without rounding in between.
        rest = torch.addcmul(gradient - level[channels], x - mean[channels], slope[channels], value=-1)
        of_x = rest * inverse[channels] * weight[channels]
        # Equal shares of the parameters' gradients: those of the processes' own samples may all but cancel.
        of_weight, of_bias = sums / dist.get_world_size()
        return of_x.to(input.dtype), (of_weight * inverse).to(kind), of_bias.to(kind), None


def _sum(x: Tensor) -> Tensor:
    """Over all dimensions but the channels', float64."""
    return x.sum((0, 2, 3), dtype=torch.float64)


def _sums_of_products(x: Tensor, gradient: Tensor, mean: Tensor) -> Tensor:
    """Per channel the sums of (x - mean) * gradient and of gradient: float64 (2, C).

    The kernel sums each picture's channel in its own way and these sums in float64. It is asked for them with
    every picture's channel as a channel: as gradients of weight and bias.
    """
    batch, channels, height, width = x.shape
    x, gradient = (t.reshape(1, -1, height, width) for t in (x, gradient))
    mean, ones = mean.repeat(batch), mean.new_ones(batch * channels)
    _, *sums = torch.ops.aten.native_batch_norm_backward(
        gradient, x, ones, None, None, mean, ones, True, 0.0, [False, True, True]
    )
    return torch.stack(sums).view(2, batch, channels).sum(1, dtype=torch.float64)


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d over the samples of all processes. Parameters, buffers and keys are BatchNorm2d's own."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        output, mean, variance, count = _NormOverProcesses.apply(input, self.weight, self.bias, self.eps)
        self._track(mean, variance * count / (count - 1))
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


class CpuLayerSync(LayerSync):
    """What Trainer(sync_batchnorm=True) does on GPUs, for processes on CPUs."""

    def apply(self, model: nn.Module) -> nn.Module:
        return _change_class(model, nn.BatchNorm2d, CpuSyncBatchNorm)

    def revert(self, model: nn.Module) -> nn.Module:
        return _change_class(model, CpuSyncBatchNorm, nn.BatchNorm2d)


def _change_class(model: nn.Module, old: type, new: type) -> nn.Module:
    for layer in model.modules():
        if type(layer) is old:
            layer.__class__ = new  # same parameters and buffers, so optimizer and EMA keep theirs
    return model
