"""The baseline that sees the colour of each pixel and nothing around it."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from src.network import checks


class PixelwiseClassifier(nn.Module):
    """Normalised image, float (B, 3, H, W) -> logits (B, num_classes, H, W), by 1x1 convolutions alone.

    What a network scores above this baseline comes from shape, texture and context.
    Raises ValueError for num_classes outside 1 to 255 and for channels that are not positive integers.
    """

    def __init__(self, num_classes: int = 19, channels: Sequence[int] = (64, 64)):
        super().__init__()
        checks.integer("num_classes", num_classes, 1, 255)
        hidden = nn.Sequential()
        widths = (3, *checks.positive_integers("channels", channels))
        for inputs, outputs in pairwise(widths):
            hidden.extend((nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()))
        self.hidden = hidden
        self.classifier = nn.Conv2d(widths[-1], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.hidden(image))
