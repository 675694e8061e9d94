"""Which backbones can be named, with the facts needed to choose one. Imports no library of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from . import catalogue
from .sources import sources
from .spelling import squeezed


def list_backbones() -> list[dict[str, Any]]:
    """Every backbone with a plain name, and the facts needed to choose one.

    Returns
    -------
    list of dict
        Keys ``name, aliases, full_name, source`` and those of `base.Facts` (input as height and
        width, parameters without the classifier, multiply-adds in 1e9, top-1 in per cent as
        published by ``top1_source``), of the default weights ``weights, licence, here`` (true if
        they are on this machine) and ``packaged`` (the package that brings them along, or None).

    Examples
    --------
    >>> [b["feature_size"] for b in list_backbones() if b["name"] == "resnet50"]
    [2048]
    """
    return [
        {
            "name": line.name,
            "aliases": list(line.aliases),
            "full_name": line.spec,
            "source": line.spec.partition("/")[0],
            **{field.name: getattr(line.facts, field.name) for field in fields(line.facts)},
            "input_size": [line.facts.input_size] * 2,
            "weights": line.weights.label,
            "licence": line.weights.licence,
            "here": line.weights.here(),
            "packaged": getattr(line.weights, "distribution", None),
        }
        for line in catalogue.LINES
    ]


def list_sources() -> list[dict[str, str]]:
    """What else can be named: prefix and a line about each source."""
    return [{"prefix": prefix, "summary": source.summary} for prefix, source in sources().items()]


def matches(backbone: Mapping[str, Any], words: Sequence[str]) -> bool:
    """Whether every word stands in some field of a backbone; case never matters.

    Examples
    --------
    >>> matches({"name": "resnet50", "licence": "BSD-3-Clause"}, ["ResNet-50", "bsd"])
    True
    """
    fields_ = [str(value).lower() for value in backbone.values()]
    name = squeezed(str(backbone["name"]))
    return all(
        any(word.lower() in field for field in fields_)
        or (squeezed(word) and squeezed(word) in name)
        for word in words
    )
