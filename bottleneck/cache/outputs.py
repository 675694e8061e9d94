"""The outputs of one pass over the images: what each is called, and how a user chooses one.

The first output of a recipe is the dataset ``features``, any other one a dataset in ``layers/``.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import CacheError
from ..recipe import fingerprint
from .layout import Header, decode_name, encode_name

SEPARATOR = "::"


@dataclass(frozen=True)
class Layer:
    """A further output of the recipe, to be written beside ``features``.

    Parameters
    ----------
    output : dict
        As in the recipe: ``{"node": ..., "pooling": ...}``.
    fingerprint : str
        Of the recipe with this output.
    blocks : iterable of ndarray of shape (m, d), float32
        In the order of the rows, in pieces of any m; d is the layer's own.
    """

    output: dict[str, Any]
    fingerprint: str
    blocks: Iterable[np.ndarray]


def output_id(output: dict[str, Any]) -> str:
    """What an output is called where a user chooses it.

    Examples
    --------
    >>> output_id({"node": "layer3", "pooling": "avg"})
    'layer3:avg'
    """
    return f"{output.get('node', 'features')}:{output.get('pooling', 'none')}"


def output_ids(header: Header) -> list[str]:
    """The ids of a recipe's outputs; the first is the dataset ``features``."""
    return [output_id(output) for output in header.recipe["outputs"]]


def dataset_of(chosen: str) -> str:
    """The dataset of a further output, by its id; a link in ``layers`` as of a meta column.

    Examples
    --------
    >>> dataset_of("/stem/Relu:0:avg")
    'layers/%2Fstem%2FRelu:0:avg'
    """
    return f"layers/{encode_name(chosen)}"


def id_of(dataset: str) -> str:
    """The id that `dataset_of` was given."""
    return decode_name(dataset.removeprefix("layers/"))


def require_outputs(header: Header, where: str) -> None:
    """Raise a CacheError if further outputs lack node or pooling, or two have one id."""
    outputs = header.recipe["outputs"]
    for output in outputs[1:]:
        if not isinstance(output, dict) or not all(
            isinstance(output.get(name), str) for name in ("node", "pooling")
        ):
            raise CacheError(
                f"{output!r} is no output", expected="an object with node and pooling", where=where
            )
    twice = [name for name, count in Counter(output_ids(header)).items() if count > 1]
    if twice:
        raise CacheError(
            f"two outputs of the recipe are called {twice[0]}", expected="one", where=where
        )


def require_layers(header: Header, layers: Sequence[Layer], where: str) -> None:
    """Raise a CacheError if `layers` are not the recipe's further outputs, in its order."""
    wanted, found = output_ids(header)[1:], [output_id(layer.output) for layer in layers]
    if found != wanted or [layer.output for layer in layers] != header.recipe["outputs"][1:]:
        raise CacheError(
            f"the layers are {', '.join(found) or 'none'}",
            expected=f"those of the recipe after the first: {', '.join(wanted) or 'none'}",
            where=where,
        )
    for name, layer in zip(wanted, layers, strict=True):
        require_fingerprint(header, layer.output, layer.fingerprint, f"{where}, {name}")


def require_fingerprint(
    header: Header, output: dict[str, Any], found: str | None, where: str
) -> None:
    """Raise a CacheError if `found` is not the fingerprint of the recipe with `output`."""
    right = fingerprint(header.recipe, output)
    if found != right:
        raise CacheError(
            f"the fingerprint {str(found)[:12]}... of {output_id(output)} does not belong to the "
            "recipe",
            expected=f"{right[:12]}...",
            where=where,
            next="extract again: it cannot be said what these features are",
        )


def alone(header: Header, position: int) -> Header:
    """The header of one output of a recipe as if it were the only one.

    Parameters
    ----------
    header : Header
    position : int
        In the recipe's ``outputs``.
    """
    output = header.recipe["outputs"][position]
    recipe = {**header.recipe, "outputs": [output]}
    return replace(header, recipe=recipe, fingerprint=fingerprint(recipe, output))


def choose(outputs: Sequence[dict[str, Any]], wanted: str, where: str) -> int:
    """The position of the output that a user means.

    Parameters
    ----------
    outputs : sequence of dict
        Those that there are.
    wanted : str
        An id, plain or percent-encoded as in the file, or a node that only one output has.
    where : str
        File, for the message; empty if they are in memory.

    Raises
    ------
    CacheError
        If it is none of them, or the node of several; lists their ids, and names the nearest.
    """
    ids = [output_id(output) for output in outputs]
    nodes = [str(output.get("node", "")) for output in outputs]
    for names in (ids, nodes, [encode_name(name) for name in ids]):
        found = [i for i, name in enumerate(names) if name == wanted]
        if len(found) == 1:
            return found[0]
        if found:
            raise CacheError(
                f"{len(found)} outputs have the node {wanted}",
                expected=" or ".join(ids[i] for i in found),
                where=where,
                next=f"{_chosen(where, ids[found[0]])} chooses one",
            )
    near = difflib.get_close_matches(wanted, [*ids, *nodes], n=1, cutoff=0.5)
    raise CacheError(
        f"no output is called {wanted!r}",
        expected=f"one of {', '.join(ids)}",
        where=where,
        next=f"did you mean {_chosen(where, near[0])}?"
        if near
        else "`bottleneck extract --layer NODE` adds an output to a file",
    )


def _chosen(file: str, name: str) -> str:
    """How a user writes that he means this output."""
    return f"{file}{SEPARATOR}{name}" if file else f".output({name!r})"
