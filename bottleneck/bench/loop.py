"""The usual loop: what everybody writes for features of a folder, and what all else is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from ..backbones import network
from ..engines import devices
from .contestant import Spec, timed

BATCH_SIZE = 32


class UsualLoop:
    """ImageFolder, DataLoader with a worker for each core, eager float32, inference mode.

    The network is the backbone's own, in PyTorch as its library builds it, without its classifier; the
    transforms are torchvision's, as the weights were trained for.
    """

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._device = torch.device(spec.device)
        self._workers = devices.cores()

    def prepare(self) -> dict[str, Any]:
        """Load the network."""
        backbone = self._spec.resolve()
        p = backbone.preprocessing
        self._transform = transforms.Compose(
            [
                transforms.Resize(
                    p.resize if isinstance(p.resize, int) else list(p.resize),
                    transforms.InterpolationMode(p.interpolation),
                ),
                transforms.CenterCrop(p.crop),
                transforms.ToTensor(),
                transforms.Normalize(p.mean, p.std),
            ]
        )
        self._network = network.load(backbone)[0].eval().to(self._device)
        facts: dict[str, Any] = {"batch_size": BATCH_SIZE, "workers": self._workers}
        if self._device.type == "cuda":
            facts["device_name"] = torch.cuda.get_device_name(self._device)
        return facts

    def run(self, folder: str, save: str | None = None) -> dict[str, Any]:
        """Features of all images below a folder."""
        images = datasets.ImageFolder(folder, self._transform)
        loader = DataLoader(
            images,
            batch_size=BATCH_SIZE,
            num_workers=self._workers,
            pin_memory=self._device.type == "cuda",
        )
        return timed(lambda: self._features(loader), save)

    def _features(self, loader: DataLoader[Any]) -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for batch, _ in loader:
                batch = batch.to(self._device, non_blocking=True)
                rows.append(self._network(batch)[0].cpu().numpy())
        return np.concatenate(rows)
