"""The cut network with its input stage: uint8 pixels in, features out, one graph for every engine."""

from __future__ import annotations

import torch

from ..backbones import network
from ..backbones.base import Backbone
from ..backbones.layers import sizes
from ..backbones.proof import pictures, relative_error
from ..errors import WeightsError
from ..reporter import Reporter

# Libraries whose networks treat every image by itself; anyone's code may not.
_WELL_KNOWN = ("torchvision", "timm")
# Kernels may differ in the last bits between batches of other content, not more.
_SAME = 1e-4


class FeatureNetwork(torch.nn.Module):
    """A frozen network without its classifier, fed with pixels as they come from the decoder.

    The same operations, in the same order, as torchvision's ``ToTensor`` and ``Normalize``, so that
    float32 features are those of the source's own loop.

    Parameters
    ----------
    body : torch.nn.Module
        Takes normalised activations (n, 3, h, w) float32, returns a tuple of features (n, d).
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

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features (n, d) float32 of `images` (n, h, w, 3) uint8, a tensor for each output."""
        activations = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        return self.body((activations - self.mean) / self.std)


def load(backbone: Backbone, reporter: Reporter) -> tuple[FeatureNetwork, list[int]]:
    """The backbone's network in memory, frozen, and the length of each of its vectors.

    Raises
    ------
    WeightsError
        If the weights cannot be read or do not fit.
    """
    body, nodes, unused = network.load(backbone, reporter.note)
    # Of the weights a name stands for it is known what they are; of a file of the user's it is not.
    if unused and backbone.weights.origin.startswith("file "):
        reporter.note(
            f"{unused} tensors of {backbone.weights.origin} lie behind the cut and are not used"
        )
    p = backbone.preprocessing
    # Batch norm and dropout in training mode would make a feature depend on its batch mates.
    cut = FeatureNetwork(body, p.mean, p.std).eval().requires_grad_(False)
    if backbone.entry.source not in _WELL_KNOWN:
        _require_own_rows(cut, backbone)
    return cut, sizes(nodes, backbone.outputs)


def _require_own_rows(network: FeatureNetwork, backbone: Backbone) -> None:
    """Raise a WeightsError where a feature depends on the other images of its batch.

    So it is with a batch norm that keeps no statistics, or an attention along the batch.
    """
    images = torch.from_numpy(pictures(3, backbone.preprocessing.crop))
    with torch.inference_mode():
        one, other = (network(images[pair]) for pair in ([0, 1], [0, 2]))
    for output, a, b in zip(backbone.outputs, one, other, strict=True):
        gap = float(relative_error(a[:1].numpy(), b[:1].numpy())[0])
        if not gap <= _SAME:
            raise WeightsError(
                f"{output.id} of {backbone.entry.name} depends on the other images of its batch: "
                f"the same image in other company differs by {gap:.2g} of its length",
                expected=f"at most {_SAME:g}",
                where="--backbone",
                next="give its batch norm fixed statistics (track_running_stats=True, and train it so), "
                "or cut before that layer with --layer",
            )
