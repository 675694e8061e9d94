"""Layers of a network as plain data: names, shapes, poolings, and which of them a pattern means.

Nothing here imports torch; `trace` finds the nodes of a network in PyTorch, `graphs` of an ONNX file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

from ..errors import InputError
from .base import PENULTIMATE, Output

GEM_POWER = 3.0
POOLINGS = {
    "none": "a vector as it is",
    "avg": "mean over all places",
    "max": "largest over all places",
    "gem": f"generalised mean over all places, power {GEM_POWER:g}",
    "cls": "the class token",
    "patches": "mean of the patch tokens",
    "flatten": "all values, one after the other",
}
_GRID = re.compile(r"([1-9]\d?)x([1-9]\d?)")


@dataclass(frozen=True, slots=True)
class Node:
    """One value inside a network: what a module or a function returned.

    Attributes
    ----------
    name : str
        Dotted path of the module, ``_1``, ``_2`` appended where it is called again; a function's
        name behind the module it is called in.
    kind : str
        The module's class, the function, or the operator of ONNX.
    shape : tuple of int
        For one image.
    layout : {"vector", "map", "map-last", "tokens", "other"}
        ``(d)``, ``(c, h, w)``, ``(h, w, c)``, ``(t, c)``; anything else can only be flattened.
    prefix : int
        Of ``tokens``: class and register tokens before the patches.
    grid : tuple of int
        Of ``tokens``: height and width of the patches; (0, 0) where they form no grid.
    module, function : str
        Where it is computed; `function` is empty for a module's own result.
    call : int
        The how-manieth time in one forward pass, from 0.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: str
    prefix: int = 0
    module: str = ""
    function: str = ""
    call: int = 0
    grid: tuple[int, int] = (0, 0)

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a memo."""
        return asdict(self) | {"shape": list(self.shape), "grid": list(self.grid)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Node:
        """Read back what `to_json` gave."""
        sides = {name: tuple(int(side) for side in data[name]) for name in ("shape", "grid")}
        return cls(**{**data, **sides})


def default_pooling(node: Node) -> str:
    """How a node becomes a vector if nothing is said."""
    if node.name == PENULTIMATE.node or node.layout == "vector":
        return "none"
    if node.layout in ("map", "map-last"):
        return "avg"
    if node.layout == "tokens":
        return "cls" if node.prefix else "patches"
    return "flatten"


def effective_pooling(node: Node, pooling: str) -> str:
    """What is really computed: the penultimate node is pooled as its network would have it."""
    if node.name != PENULTIMATE.node or pooling != "none" or node.layout == "vector":
        return pooling
    return default_pooling(replace(node, name=""))


def pooled_size(node: Node, pooling: str) -> int:
    """Length of the vector.

    Raises
    ------
    InputError
        If the node has nothing to pool in that way; says what fits.

    Examples
    --------
    >>> pooled_size(Node("layer4", "Sequential", (2048, 7, 7), "map"), "2x2")
    8192
    """
    pooling = effective_pooling(node, pooling)
    if pooling == "flatten":
        return prod(node.shape)
    fitting = fitting_poolings(node)
    grid = _GRID.fullmatch(pooling)
    if pooling not in fitting and not (grid and "KxK" in fitting):
        raise InputError(
            f"pooling {pooling!r} does not fit {node.name}, which is {spelled(node)}",
            expected=", ".join(fitting),
            where="--pooling",
            next=f"--layer {node.name}:{default_pooling(node)}",
        )
    if pooling == "none":
        return node.shape[0]
    channels = node.shape[0] if node.layout == "map" else node.shape[-1]
    if grid is None:
        return channels
    rows, columns = int(grid[1]), int(grid[2])
    height, width = grid_of(node)
    if rows > height or columns > width:
        raise InputError(
            f"{node.name} has {height}x{width} places, fewer than {pooling}",
            expected=f"at most {height}x{width}",
            where="--pooling",
        )
    return channels * rows * columns


def grid_of(node: Node) -> tuple[int, int]:
    """Height and width of a node's places; (0, 0) where they form no grid."""
    if node.layout == "map":
        return node.shape[1], node.shape[2]
    if node.layout == "map-last":
        return node.shape[0], node.shape[1]
    return node.grid


def fitting_poolings(node: Node) -> list[str]:
    """Poolings that a node can have, ``KxK`` standing for any grid."""
    if node.layout == "vector":
        return ["none", "flatten"]
    if node.layout in ("map", "map-last"):
        return ["avg", "max", "gem", "flatten", "KxK"]
    if node.layout == "tokens":
        grid = ["KxK"] if grid_of(node) != (0, 0) else []
        return [*(["cls"] if node.prefix else []), "patches", "max", "gem", "flatten", *grid]
    return ["flatten"]


def spelled(node: Node) -> str:
    """A node's shape in words."""
    shape = " x ".join(str(side) for side in node.shape)
    words = {
        "vector": "a vector",
        "map": "a map (channels, height, width)",
        "map-last": "a map (height, width, channels)",
        "tokens": "tokens (tokens, channels)",
    }
    return f"{words.get(node.layout, 'of another kind')} {shape}"


def parse(text: str) -> tuple[str, str | None]:
    """``NODE`` or ``NODE:POOLING`` in its two parts.

    Examples
    --------
    >>> parse("layer4.*:max"), parse("StatefulPartitionedCall/relu:0")
    (('layer4.*', 'max'), ('StatefulPartitionedCall/relu:0', None))
    """
    node, colon, last = text.rpartition(":")
    known = last in POOLINGS or _GRID.fullmatch(last) or last == "default"
    if colon and known:
        return node, None if last == "default" else last
    return text, None


def check_pooling(pooling: str, where: str = "--pooling") -> None:
    """Raise an InputError for a word that is no pooling."""
    if pooling not in POOLINGS and not _GRID.fullmatch(pooling):
        raise InputError(
            f"no pooling is called {pooling!r}",
            expected=f"{', '.join(POOLINGS)} or a grid such as 2x2",
            where=where,
        )


def select(
    nodes: Sequence[Node], patterns: Sequence[str], pooling: str | None = None
) -> tuple[Output, ...]:
    """The outputs that ``--layer`` and ``--pooling`` mean.

    Parameters
    ----------
    nodes : sequence of Node
        In forward order.
    patterns : sequence of str
        ``NODE[:POOLING]``; ``*`` and ``?`` stand for characters within one part between dots,
        ``**`` also for dots.
    pooling : str, optional
        For patterns without their own; by default what fits each node.

    Returns
    -------
    tuple of Output
        In the order of the patterns, and of the forward pass within one; each once.

    Raises
    ------
    InputError
        If a pattern fits no node, or a pooling does not fit.
    """
    if pooling is not None:
        check_pooling(pooling)
    found: dict[Output, None] = {}
    for text in patterns:
        pattern, own = parse(text)
        matches = _matcher(pattern)
        hits = [node for node in nodes if matches(node.name)]
        if not hits:
            raise _no_node(pattern, nodes)
        for node in hits:
            wanted = own or pooling or default_pooling(node)
            if wanted == "avg" and node.layout == "tokens":
                wanted = "patches"  # one name for one thing
            if node.name == PENULTIMATE.node and own is None:
                wanted = "none"
            pooled_size(node, wanted)
            found[Output(node.name, wanted)] = None
    return tuple(found)


def _matcher(pattern: str) -> Callable[[str], bool]:
    if not any(sign in pattern for sign in "*?"):
        return pattern.__eq__
    parts = (
        {"**": ".*", "*": "[^.]*", "?": "[^.]"}.get(part, re.escape(part))
        for part in re.split(r"(\*\*|\*|\?)", pattern)
    )
    compiled = re.compile("".join(parts), re.DOTALL)
    return lambda name: compiled.fullmatch(name) is not None


def _no_node(pattern: str, nodes: Sequence[Node]) -> InputError:
    names = [node.name for node in nodes]
    node, colon, pooling = pattern.rpartition(":")
    if colon and node in names:
        check_pooling(pooling, "--layer")
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
    below = [name for name in names if name.startswith(f"{pattern}.")][:3]
    hint = " or ".join(near or below)
    return InputError(
        f"the network has no node {pattern!r}",
        expected=f"one of the {len(names)} that `bottleneck layers` lists",
        where="--layer",
        next=f"did you mean {hint}?" if hint else "`bottleneck layers BACKBONE` lists them",
    )


def sizes(nodes: Sequence[Node], outputs: Sequence[Output]) -> list[int]:
    """Length of the vector of each output."""
    by_name = {node.name: node for node in nodes}
    missing = [output.node for output in outputs if output.node not in by_name]
    if missing:
        raise _no_node(missing[0], nodes)
    return [pooled_size(by_name[output.node], output.pooling) for output in outputs]
