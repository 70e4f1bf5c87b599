"""A small convolutional network that teaches the image encoder to see.

A vision transformer of 1.5 million parameters learns slowly from five thousand drawings; a
convolutional network of the same size does not. So train.py first trains this one (about ten
minutes), and then lets the image encoder imitate its 7 x 7 feature map, patch by patch, and its
class probabilities. Nothing of it is shipped.
"""

from __future__ import annotations

import torch
from torch import nn


def conv(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            conv(inputs, outputs, 3, stride), nn.ReLU(), conv(outputs, outputs, 3)
        )
        same = inputs == outputs and stride == 1
        self.short = nn.Identity() if same else conv(inputs, outputs, 1, stride)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.short(x))


class Teacher(nn.Module):
    """Pixels (B, 3, 84, 84) -> features (B, 160, 7, 7) -> class scores."""

    width = 160

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv(3, 32, 5, 3),
            nn.ReLU(),
            Residual(32, 64, 2),
            Residual(64, 64),
            Residual(64, self.width, 2),
            Residual(self.width, self.width),
        )
        self.head = nn.Linear(self.width, classes)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.features(pixels.contiguous(memory_format=torch.channels_last))
        pooled = x.mean((2, 3))
        # (B, C, 7, 7) -> (B, 49, C): the order of the image encoder's patches
        return x.flatten(2).transpose(1, 2), self.head(
            nn.functional.dropout(pooled, 0.2, self.training)
        )
