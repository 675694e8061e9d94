"""Which values of an ONNX graph lead where: small walks that every step over a graph needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The branches and loop bodies that a node holds."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Nodes, and those inside their branches and bodies."""
    for node in nodes:
        yield node
        for graph in subgraphs(node):
            yield from all_nodes(graph.node)


def uses(node: onnx.NodeProto) -> set[str]:
    """Values a node needs: its inputs, and what its branches and bodies take from outside."""
    names = set(node.input)
    for graph in subgraphs(node):
        for inner in graph.node:
            names |= uses(inner)
        names.update(value.name for value in graph.output)
        names.difference_update(value.name for value in graph.input)
        names.difference_update(tensor.name for tensor in graph.initializer)
        names.difference_update(name for inner in graph.node for name in inner.output)
    names.discard("")  # an optional input that was left out
    return names


def depending_on(graph: onnx.GraphProto, names: Iterable[str]) -> set[str]:
    """Every value that changes with one of these, themselves included."""
    found = set(names)
    for node in graph.node:  # ONNX keeps nodes in topological order
        if not found.isdisjoint(uses(node)):
            found.update(node.output)
    found.discard("")
    return found


def needed_for(
    graph: onnx.GraphProto, names: Iterable[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """The nodes without which these values cannot be computed, in order, and all they use."""
    wanted, kept = set(names), []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output):
            kept.append(node)
            wanted |= uses(node)
    return kept[::-1], wanted


def constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """Values that stand in the file as they are, by name."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    found[node.output[0]] = attribute.t
    return found


def rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Give values other names, wherever they are used, also inside branches and bodies."""
    for node in all_nodes(graph.node):
        for words in (node.input, node.output):
            for i, word in enumerate(words):
                if word in names:
                    words[i] = names[word]
        for inner in subgraphs(node):
            _rename_ends(inner, names)
    _rename_ends(graph, names)


def _rename_ends(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for each in (*graph.input, *graph.output, *graph.initializer):
        if each.name in names:
            each.name = names[each.name]
