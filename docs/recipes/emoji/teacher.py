"""A small convolutional network that teaches the image encoder to see.

A vision transformer of 1.5 million parameters learns slowly from five thousand drawings; a
convolutional network of the same size does not. So train.py first trains this one (about ten
minutes), and then lets the image encoder imitate two of its feature maps, patch by patch,
and its class probabilities. Nothing of it is shipped.
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
    hint_width = 4 * 64

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
        self.hint_after = 4  # modules of `features`, at (B, 64, 14, 14)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return early features (B, 49, 256), late ones (B, 49, 160) and class scores."""
        x = pixels.contiguous(memory_format=torch.channels_last)
        x = self.features[: self.hint_after](x)
        b = len(x)
        # each patch's 2 x 2 early features side by side
        hint = x.reshape(b, 64, 7, 2, 7, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, 49, 256)
        x = self.features[self.hint_after :](x)
        pooled = x.mean((2, 3))
        scores = self.head(nn.functional.dropout(pooled, 0.2, self.training))
        # (B, C, 7, 7) -> (B, 49, C): the order of the image encoder's patches
        return hint, x.flatten(2).transpose(1, 2), scores
