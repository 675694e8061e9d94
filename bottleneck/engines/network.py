"""The cut network with its input stage: uint8 pixels in, features out, one graph for every engine."""

from __future__ import annotations

import torch

from ..backbones.base import Backbone
from ..backbones.weights import load_state_dict


class FeatureNetwork(torch.nn.Module):
    """A frozen network without its classifier, fed with pixels as they come from the decoder.

    The same operations, in the same order, as torchvision's ``ToTensor`` and ``Normalize``, so that
    float32 features are those of the source's own loop.

    Parameters
    ----------
    body : torch.nn.Module
        Takes normalised activations (n, 3, h, w) float32, returns features (n, d).
    mean, std : sequence of float
        Of the three channels, on the scale 0 to 1.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        body: torch.nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features (n, d) float32 of `images` (n, h, w, 3) uint8."""
        activations = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        return self.body((activations - self.mean) / self.std)


def load(backbone: Backbone) -> FeatureNetwork:
    """The backbone's network in memory, frozen: evaluation mode, no gradients.

    Raises
    ------
    WeightsError
        If the weights cannot be read or do not fit.
    """
    body = backbone.entry.build(load_state_dict(backbone.weights.file()))
    p = backbone.preprocessing
    network = FeatureNetwork(body, p.mean, p.std)
    # Batch norm and dropout in training mode would make a feature depend on its batch mates.
    return network.eval().requires_grad_(False)
