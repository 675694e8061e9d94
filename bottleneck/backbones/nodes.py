"""Where a backbone can be cut, and how long its vectors are; kept, so that the next run need not ask.

Asking takes importing PyTorch, which takes seconds; a run in which nothing is missing shall not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InputError
from ..images.preprocess import Preprocessing
from . import layers
from .base import Backbone, Weights
from .layers import Node, default_pooling, fitting_poolings, pooled_size, sizes
from .memo import kept

# Raise it when nodes get other names, shapes or layouts.
_NODES_VERSION = 2


def nodes_of(backbone: Backbone) -> list[Node]:
    """All nodes of a backbone's network in forward order, ``penultimate`` among them."""
    entry = backbone.entry
    if not entry.stable:
        return _found(backbone)
    # An ONNX file's architecture is in the file; another one's is in the library.
    content = backbone.weights.sha256 if entry.graph is not None else ""
    height, width = backbone.preprocessing.crop
    subject = f"nodes {_NODES_VERSION} of {entry.name} {height}x{width} {content}"
    found = kept(
        subject, entry.libraries, lambda: {"nodes": [n.to_json() for n in _found(backbone)]}
    )
    return [Node.from_json(each) for each in found["nodes"]]


def _found(backbone: Backbone) -> list[Node]:
    entry, size = backbone.entry, backbone.preprocessing.crop
    if entry.graph is not None:
        from .graphs.graph import nodes

        return nodes(entry.graph(), size)
    from .network import trace_shapes

    return trace_shapes(entry, size).nodes


def sizes_of(backbone: Backbone) -> list[int]:
    """Length of the vector of each of a backbone's outputs."""
    return sizes(nodes_of(backbone), backbone.outputs)


@dataclass(frozen=True, slots=True)
class Network:
    """What can be said of a backbone without its weights.

    Attributes
    ----------
    name : str
    input_size : tuple of int
        Height and width.
    nodes : list of Node
    """

    name: str
    input_size: tuple[int, int]
    nodes: list[Node]


def nodes_by_name(name: Any, changes: dict[str, Any]) -> Network:
    """The nodes of a backbone whose weights need not be on this machine.

    Parameters
    ----------
    name : str or torch.nn.Module
    changes : dict
        Fields of its `Preprocessing` to change; only the input's size matters here.
    """
    from .registry import find_entry

    entry = find_entry(name)
    try:
        preprocessing = replace(entry.preprocessing(), **changes)
    except InputError:
        # A source without a configuration of its own: the size is all that is needed.
        changes = {**entry.known(), **changes}
        if "crop" not in changes:
            raise
        preprocessing = Preprocessing(
            **{
                "resize": changes["crop"][0],
                "interpolation": "bicubic",
                "mean": (0.0, 0.0, 0.0),
                "std": (1.0, 1.0, 1.0),
                **changes,
            }
        )
    unknown = Weights(None, "", "not needed")
    if entry.graph is not None:
        unknown = entry.weights.find() or unknown if entry.weights is not None else unknown
    backbone = Backbone(entry, unknown, preprocessing)
    return Network(entry.name, preprocessing.crop, nodes_of(backbone))


def describe_nodes(
    nodes: Sequence[Node], patterns: Sequence[str] = (), *, functions: bool = True
) -> list[dict[str, Any]]:
    """Nodes as plain data: ``name, kind, shape, layout, pooling, feature_size, poolings``.

    Parameters
    ----------
    nodes : sequence of Node
    patterns : sequence of str
        Only what these mean; all of them if there is none.
    functions : bool, default True
        Also those that functions returned.
    """
    if patterns:
        wanted = {output.node for output in layers.select(nodes, patterns)}
        nodes = [node for node in nodes if node.name in wanted]
    return [
        {
            "name": node.name,
            "kind": node.kind,
            "shape": list(node.shape),
            "layout": node.layout,
            "pooling": default_pooling(node),
            "feature_size": pooled_size(node, default_pooling(node)),
            "poolings": fitting_poolings(node),
        }
        for node in nodes
        if functions or not node.function
    ]
