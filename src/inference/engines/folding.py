"""BatchNorm folded into the convolutions before them: the same up to rounding, in less time."""

import torch
from torch import Tensor, nn

from src.network.segmenter import Segmenter

_SIDE = 64  # pixels of the image on which the layers are followed
_LARGEST = 1e-3  # difference of logits, relative to their largest, up to which it is rounding


def fold_batchnorm(segmenter: Segmenter) -> int:
    """Folds, in place, each BatchNorm2d that sees the output of one convolution, or of several that are
    concatenated, into these. Returns how many; 0 where the logits would differ by more than rounding, as in
    a network that also uses a convolution's output in another way, and for a network that cannot see a small
    square image.

    Args:
        segmenter: in eval mode, in float32, on the CPU.
    """
    side = max(_SIDE, segmenter.min_size)
    image = torch.randint(
        256, (1, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.inference_mode(False), torch.no_grad():
        try:
            before = segmenter.coarse_logits(image)
        except Exception:  # of any type, in a network of the user's own that is for images of one size
            return 0
        found = _follow(segmenter, image)
        parents = {
            child: (parent, name) for parent in segmenter.modules() for name, child in parent.named_children()
        }
        originals = [(m, *parents[m]) for norm, convolutions in found for m in (norm, *convolutions)]
        for norm, convolutions in found:
            start = 0
            for convolution in convolutions:
                channels = slice(start, start := start + convolution.out_channels)
                parent, name = parents[convolution]
                setattr(parent, name, _folded(convolution, norm, channels))
            parent, name = parents[norm]
            setattr(parent, name, nn.Identity())
        difference = (segmenter.coarse_logits(image) - before).abs().max()
        if difference <= _LARGEST * before.abs().max():
            return len(found)
        for module, parent, name in originals:
            setattr(parent, name, module)
        return 0


def _follow(segmenter: Segmenter, image: Tensor) -> list[tuple[nn.BatchNorm2d, list[nn.Conv2d]]]:
    """The BatchNorm layers that can be folded, with their convolutions."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    found: list[tuple[nn.BatchNorm2d, list[nn.Conv2d]]] = []
    calls: dict[nn.Module, int] = {}

    def after_convolution(module: nn.Conv2d, _: tuple, output: Tensor) -> None:
        calls[module] = calls.get(module, 0) + 1
        outputs.append((module, output))

    def before_norm(module: nn.BatchNorm2d, inputs: tuple) -> None:
        calls[module] = calls.get(module, 0) + 1
        for count in range(1, len(outputs) + 1):
            last = outputs[-count:]
            channels = sum(output.shape[1] for _, output in last)
            if channels > module.num_features or last[0][1].shape[2:] != inputs[0].shape[2:]:
                break
            if channels == module.num_features and torch.equal(torch.cat([o for _, o in last], 1), inputs[0]):
                found.append((module, [convolution for convolution, _ in last]))
                break

    hooks = []
    for module in segmenter.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(after_convolution))
        elif type(module) is nn.BatchNorm2d and module.running_var is not None:
            hooks.append(module.register_forward_pre_hook(before_norm))
    segmenter.coarse_logits(image)
    for hook in hooks:
        hook.remove()
    return [(norm, convs) for norm, convs in found if all(calls[m] == 1 for m in (norm, *convs))]


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d, channels: slice) -> nn.Conv2d:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    weight = torch.ones(norm.num_features) if norm.weight is None else norm.weight
    shift = torch.zeros(norm.num_features) if norm.bias is None else norm.bias
    scale = (weight.double() / (norm.running_var.double() + norm.eps).sqrt())[channels]
    folded = nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        convolution.dilation,  # type: ignore[arg-type]
        convolution.groups,
        padding_mode=convolution.padding_mode,
    )
    bias = 0 if convolution.bias is None else convolution.bias.double()
    assert folded.bias is not None
    folded.weight.copy_(convolution.weight.double() * scale[:, None, None, None])
    folded.bias.copy_(shift[channels].double() + (bias - norm.running_mean[channels].double()) * scale)
    return folded.eval()
