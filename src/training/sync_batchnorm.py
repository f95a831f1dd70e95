"""Synchronised batch normalisation on the CPU, where torch.nn.SyncBatchNorm refuses to run."""

import torch
import torch.distributed as dist
from pytorch_lightning.plugins.layer_sync import LayerSync
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """all_reduce that carries gradients: each process's input affects the loss of all."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class CpuSyncBatchNorm(nn.BatchNorm2d):
    """BatchNorm2d over the samples of all processes. Parameters, buffers and keys are BatchNorm2d's own."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))  # 16 bits are too few for sums
        count = torch.tensor(float(x.numel() // x.shape[1]), dtype=torch.float64)
        dist.all_reduce(count)
        # Two passes, since E[x^2] - E[x]^2 cancels.
        mean = _SumOverProcesses.apply(x.sum((0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = _SumOverProcesses.apply(centred.square().sum((0, 2, 3))) / count
        self._track(mean.detach(), variance.detach() * count / (count - 1))
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)

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
