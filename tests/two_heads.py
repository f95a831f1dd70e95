"""CGNet with an auxiliary head, and a teacher of fixed random weights, for the tests of devices."""

import torch
from torch import Tensor, nn

from src.network.cgnet import CGNet
from src.network.segmenter import Segmenter
from src.training.distillation import Teacher


class TwoHeads(CGNet):
    def __init__(self, num_classes: int = 19, **arguments):
        super().__init__(num_classes, **arguments)
        self.side = nn.Conv2d(num_classes, num_classes, 1)

    def forward(self, image: Tensor) -> dict:
        logits = super().forward(image)
        return {"logits": logits, "auxiliary": {"side": self.side(logits)}}


def teacher(num_classes: int = 19) -> Teacher:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = CGNet(num_classes, num_blocks=[1, 1])
    # In float64: in float32 its logits depend on how many images are in a batch, by 1e-7.
    return Teacher(Segmenter(network, [70.0] * 3, [50.0] * 3).double(), temperature=2.0, weight=3.0)
