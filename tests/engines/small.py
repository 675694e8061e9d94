"""A small network with every shape that lowering has to tell apart, and photographs for engines."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from bottleneck_probe.backbones import registry
from bottleneck_probe.backbones.base import Backbone
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import networks

CHANGES = {
    "resize": 36,
    "crop": (32, 32),
    "interpolation": "bilinear",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
}


class Small(nn.Module):
    """Some of its batch norms can be folded into a convolution, and some only look so."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 2, 1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16)
        self.read_twice = nn.Conv2d(16, 16, 3, 1, 1)
        self.read_twice_norm = nn.BatchNorm2d(16)
        self.same = nn.Conv2d(16, 16, 3, padding="same", groups=4)
        self.same_norm = nn.BatchNorm2d(16, affine=False)
        self.after_pooling = nn.BatchNorm2d(16)
        self.mix = nn.Linear(16, 24)
        self.fc = nn.Linear(24, 5)

    def forward(self, x):
        x = torch.relu_(self.stem_norm(self.stem(x)))
        both = self.read_twice(x)
        x = self.read_twice_norm(both) + 0.5 * both
        x = self.same_norm(self.same(x)).relu_()
        x = self.after_pooling(nn.functional.max_pool2d(x, 2))
        return self.fc(self.mix(x.mean((2, 3))).relu())


def small_backbone(seed: int = 0) -> Backbone:
    """The small network with weights that tell images apart."""
    batch = torch.from_numpy(photographs(8, 32).transpose(0, 3, 1, 2).copy()).float()
    module = networks.calibrate_(networks.he_(Small(), seed), batch / 127 - 1)
    return registry.resolve(module, changes=CHANGES)


def photographs(count: int, side: int) -> np.ndarray:
    """Parts of scikit-learn's two photographs, (count, side, side, 3) uint8."""
    from sklearn.datasets import load_sample_images

    rng = np.random.default_rng(0)
    sources = load_sample_images().images
    parts = []
    for i in range(count):
        image = sources[i % len(sources)]
        top = rng.integers(0, image.shape[0] - side)
        left = rng.integers(0, image.shape[1] - side)
        parts.append(image[top : top + side, left : left + side])
    return np.stack(parts)
