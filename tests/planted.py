"""A network that is finite until a given call in training, and no longer from there on."""

import torch
import torch.nn.functional as F
from torch import nn


class Planted(nn.Module):
    """Args:
    at: number of the call, from 1.
    kind: where it is not finite, "forward" or "backward".
    """

    min_size = 16
    calls: torch.Tensor

    def __init__(self, num_classes, at, kind, dropout):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1, stride=4)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(dropout)
        self.planted = Root(kind)
        self.head = nn.Conv2d(8, num_classes, 1)
        self.at = at
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, image):
        x = self.dropout(F.relu(self.norm(self.first(image))))
        self.calls += self.training
        return self.head(self.planted(x) if self.training and self.calls == self.at else x)


class Root(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, x):
        if self.kind == "forward":
            return x + torch.sqrt(-1 - x)
        return x + torch.sqrt(0 * x)
