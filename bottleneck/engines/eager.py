"""PyTorch as it is: the reference that every other engine is compared with."""

from __future__ import annotations

import numpy as np
import torch

from ..backbones.base import Backbone
from ..errors import EngineError
from ..reporter import Reporter
from .base import Engine
from .network import load


class EagerEngine(Engine):
    """Runs the network module by module in float32.

    Parameters
    ----------
    backbone : Backbone
    device : str
        ``cpu`` or ``cuda:N``.
    batch_size : int
    reporter : Reporter

    Raises
    ------
    EngineError
        If the device cannot be used.
    """

    name = "eager"

    def __init__(
        self, backbone: Backbone, *, device: str, batch_size: int, reporter: Reporter
    ) -> None:
        network, feature_sizes = load(backbone, reporter)
        super().__init__(
            batch_size=batch_size,
            size=backbone.preprocessing.crop,
            feature_sizes=feature_sizes,
            device=device,
        )
        if device.startswith("cuda"):
            # TF32 keeps 10 bits of mantissa: not what `fp32` promises.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            # Otherwise the first batch picks the kernels, and with them the last bits.
            torch.backends.cudnn.benchmark = False
        try:
            self._network = network.to(device)
        except (RuntimeError, AssertionError) as error:  # torch's own words for no CUDA, no memory
            raise EngineError(
                f"PyTorch cannot use {device}: {error}",
                where="--device",
                next="give --device cpu, or install a driver that fits this PyTorch",
            ) from error

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of exactly `batch_size` images, an array for each output."""
        with torch.inference_mode():
            batch = torch.from_numpy(images).to(self.device)
            return [each.cpu().numpy() for each in self._network(batch)]
