"""The whole way from pixels to class map as one graph, for runtimes other than PyTorch's eager mode."""

import copy
import logging
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from src.errors import UserError
from src.inference.engines.folding import fold_batchnorm
from src.inference.engines.split import SplitCGNet
from src.network.build import where_it_failed
from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter
from src.network.upsample import upsample

OUTPUTS = ("class_map", "logits")
"""Of an exported file."""
COARSE = "coarse_logits"
"""What an engine computes in its runtime: the logits before upsampling."""
_COMPARED = 40  # classes up to which the graph compares them one by one

Size = tuple[int, int]


class Deployed(nn.Module):
    """uint8 RGB (B, 3, H, W) -> uint8 (B, H, W), float32 logits (B, C, H, W), or those before upsampling."""

    def __init__(self, segmenter: Segmenter, output: str):
        super().__init__()
        self.segmenter = segmenter
        self.output = output

    def forward(self, image: Tensor) -> Tensor:
        coarse = self.segmenter.coarse_logits(image)
        if self.output == COARSE:
            return coarse
        logits = upsample(coarse, image.shape[-2:])
        return logits if self.output == "logits" else _first_of_the_highest(logits)


def _first_of_the_highest(logits: Tensor) -> Tensor:
    """argmax over the classes, uint8. As comparisons, class by class: OpenVINO's argmax takes a tenth of the
    whole time of CGNet, and PyTorch's a fifth."""
    if logits.shape[1] > _COMPARED:
        return logits.argmax(1).to(torch.uint8)
    highest = logits[:, 0]
    best = torch.zeros_like(highest)
    for number in range(1, logits.shape[1]):
        is_higher = logits[:, number] > highest
        highest = torch.where(is_higher, logits[:, number], highest)
        best = torch.where(is_higher, float(number), best)
    return best.to(torch.uint8)


def trace(segmenter: Segmenter, output: str = "class_map", size: Size | None = None) -> ExportedProgram:
    """The graph of a Segmenter in eval mode, on the CPU, with one input, "image". BatchNorm is folded.

    Args:
        output: one of OUTPUTS, or COARSE.
        size: (height, width) of all images, one at a time; None = any number of images of any size.

    Raises UserError for a network that torch.export cannot trace.
    """
    # Two images, and sides that differ: equal numbers would be taken for one.
    least = max(segmenter.min_size, 32)
    example = (1, 3, *size) if size else (2, 3, least + 3 * 32, least + 5 * 32)
    dynamic: Any = None if size else {"image": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    image = torch.zeros(example, dtype=torch.uint8)
    segmenter = copy.deepcopy(segmenter)
    try:
        fold_batchnorm(segmenter)
        if type(segmenter.network) is CGNet:
            segmenter.network = SplitCGNet(segmenter.network)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(
                Deployed(segmenter, output).eval(), (image,), dynamic_shapes=dynamic, strict=False
            )
    except Exception as error:  # of any type, from code of the user's own
        name = type(segmenter.network).__name__
        way = "" if size else " A fixed size may work: size=[512,1024]."
        raise UserError(f"{name} cannot be traced by torch.export: {where_it_failed(error)}.{way}") from error


def quiet(name: str) -> None:
    """Only the errors of a library's logger, such as that of torch.onnx on packages that nobody needs."""
    logging.getLogger(name).setLevel(logging.ERROR)
