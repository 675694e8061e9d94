"""Networks with weights that tell images apart, for tests that compare features.

With a library's own random start many networks give every image nearly the same vector, and then any
mistake passes. Import it by adding the folder to the path::

    sys.path.insert(0, str(Path(__file__).parents[1]))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Something with edges, gradients and noise, (width, height): noise alone hides what resizing does."""
    rng = np.random.default_rng(seed)
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = np.zeros((height, width, 3))
    for _ in range(6):
        angle, period = rng.uniform(0, np.pi), rng.uniform(4, 80)
        wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / period)
        waves += wave[..., None] * rng.uniform(0, 40, 3)
    left, top = rng.integers(0, width // 2), rng.integers(0, height // 2)
    waves[top : top + height // 3, left : left + width // 3] += rng.uniform(-90, 90, 3)
    waves += 128 + rng.normal(0, 12, waves.shape)
    return Image.fromarray(waves.clip(0, 255).astype(np.uint8))


def he_(module: nn.Module, seed: int = 0) -> nn.Module:
    """Seeded weights in place: He's scale for convolutions and linear layers, the rest near 1 or 0.

    K. He et al., "Delving deep into rectifiers", ICCV 2015: standard deviation sqrt(2 / fan-in). Scales
    (norms, LayerScale) are drawn near 1 and biases near 0, so that none of them can be left out
    unseen; embeddings and tokens at a scale of 0.5. Returns the module.
    """
    generator = torch.Generator().manual_seed(seed)
    done: set[int] = set()

    def draw(tensor: torch.Tensor, mean: float, std: float) -> None:
        with torch.no_grad():
            tensor.copy_(mean + std * torch.randn(tensor.shape, generator=generator))
        done.add(id(tensor))

    for part in module.modules():
        weight = getattr(part, "weight", None)
        if not isinstance(weight, nn.Parameter):
            continue
        if isinstance(part, nn.Linear | nn.modules.conv._ConvNd):
            draw(weight, 0.0, (2 / weight[0].numel()) ** 0.5)
        elif weight.ndim == 1:  # a norm
            draw(weight, 1.0, 0.1)
    for name, parameter in module.named_parameters():
        if id(parameter) in done:
            continue
        last = name.rsplit(".", 1)[-1]
        if "bias" in last and parameter.ndim == 1:
            draw(parameter, 0.0, 0.05)
        elif last.startswith(("gamma", "lambda", "layer_scale", "ls", "weight", "scale")):
            draw(parameter, 1.0, 0.1)
        elif parameter.ndim >= 2:  # position embeddings, tokens, projections as bare parameters
            fused = last.endswith("proj_weight")
            draw(parameter, 0.0, (2 / parameter[0].numel()) ** 0.5 if fused else 0.5)
        else:
            draw(parameter, 0.0, 0.05)
    return module


def calibrate_(module: nn.Module, batch: torch.Tensor) -> nn.Module:
    """Batch-norm statistics from one pass over `batch`, then evaluation mode. Returns the module."""
    module.eval()
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the statistics of one pass, as they are
        norm.train()
    if norms:
        with torch.no_grad():
            module(batch)
    return module.eval()


def save(module: nn.Module, path: str | Path) -> Path:
    """The module's ``state_dict()`` in a file; its path."""
    torch.save(module.state_dict(), path)
    return Path(path)


def error(got: Any, wanted: Any) -> float:
    """Greatest ||a - b|| / ||b - mean of b over the images|| of two (n, d) arrays."""
    a, b = torch.as_tensor(got).double().cpu(), torch.as_tensor(wanted).double().cpu()
    a, b = a.flatten(1), b.flatten(1)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(((a - b).norm(dim=1) / (b - b.mean(0)).norm(dim=1)).max())


def spread(features: Any) -> float:
    """Least relative difference between two rows: at least 0.05 where a comparison means something."""
    b = torch.as_tensor(features).double().cpu().flatten(1)
    pairs = [
        (b[i] - b[j]).norm() / b[j].norm() for i in range(len(b)) for j in range(len(b)) if i != j
    ]
    return float(min(pairs))
