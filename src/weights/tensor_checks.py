"""Checks once, when weights are read, whether they can be a network's, whoever wrote the file."""

import torch
from torch import Tensor

_VARIANCES = ("running_var", "_variance")  # PyTorch's name, and PaddlePaddle's


def fault(name: str, tensor: Tensor, wanted: torch.dtype = torch.float32) -> str | None:
    """What is wrong with a tensor of that name, in a few words; None for one that a network can compute with.

    A network converts ordinary tensors of any floating-point type to its own type, `wanted`: all numbers have
    to be finite in that type, and variances not negative. For a counter, `wanted` is an integer type.
    """
    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_nested:
        return f"not an ordinary tensor, but a {'quantized' if tensor.is_quantized else 'sparse'} one"
    if tensor.device.type != "cpu":
        return f"no numbers, only a shape (on the device {tensor.device.type})"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "more numbers than its memory has"
    if any(step == 0 and length > 1 for step, length in zip(tensor.stride(), tensor.shape, strict=True)):
        return "one number at many places (a stride of 0)"
    if _kind(tensor.dtype) != _kind(wanted):
        return f"numbers of type {tensor.dtype}, expected {wanted}".replace("torch.", "")
    if not wanted.is_floating_point:
        return None
    numbers = tensor.detach().to(wanted)
    bad = numbers.numel() - int(numbers.isfinite().sum())
    if bad:
        return f"NaN or infinity, {bad:,} of {numbers.numel():,} numbers"
    if name.endswith(_VARIANCES) and (bad := int((numbers < 0).sum())):
        return f"negative variances, {bad:,} of {numbers.numel():,} numbers"
    return None


def _kind(dtype: torch.dtype) -> tuple[bool, bool, bool]:
    return dtype.is_floating_point, dtype.is_complex, dtype is torch.bool
