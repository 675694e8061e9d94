"""What the axes of an ONNX graph's values are: its operators say more than shapes do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..layers import Node
from ..layouts import Grids, map_layout, turned
from .input import ImageInput

if TYPE_CHECKING:
    import onnx

# ONNX defines these for channels first.
_CHANNELS_FIRST = {
    "Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool",
    "GlobalAveragePool", "GlobalMaxPool", "BatchNormalization", "InstanceNormalization",
    "GroupNormalization", "LRN", "DepthToSpace", "SpaceToDepth", "FusedConv",
}  # fmt: skip
# Their result's axes are new ones, or not what a shape would say.
_RESHAPING = {
    "Reshape", "Flatten", "Squeeze", "Unsqueeze", "MatMul", "Gemm", "Einsum", "Gather", "Expand",
    "Transpose", "Attention", "MultiHeadAttention",
}  # fmt: skip


def with_layouts(
    nodes: Sequence[Node], graph: onnx.GraphProto, image: ImageInput, size: tuple[int, int]
) -> list[Node]:
    """The same nodes, each told what its axes are.

    Parameters
    ----------
    nodes : sequence of Node
        In the order of the graph; `Node.module` is the tensor.
    graph : onnx.GraphProto
    image : ImageInput
    size : tuple of int
        Height and width of the input.
    """
    makers = {name: node for node in graph.node for name in node.output}
    known = {image.name: "map-last" if image.channels_last else "map"}
    ranks = {node.module: len(node.shape) for node in nodes} | {image.name: 3}
    grids = Grids(size)
    result = []
    for node in nodes:
        layout, prefix, grid = "other", 0, (0, 0)
        if len(node.shape) == 1:
            layout = "vector"
        elif len(node.shape) == 3:
            told = _told(makers[node.module], known, ranks)
            layout = told or map_layout(node.shape, size, image.channels_last)
            known[node.module] = layout
            grids.add(node.shape, layout)
        elif len(node.shape) == 2:
            layout, prefix, grid = grids.tokens(node.shape, None)
        result.append(replace(node, layout=layout, prefix=prefix, grid=grid))
    return result


def _told(node: onnx.NodeProto, known: dict[str, str], ranks: dict[str, int]) -> str:
    """The layout that an operator's definition gives its result; empty if it gives none."""
    if node.op_type in _CHANNELS_FIRST:
        return "map"
    inputs = [known[name] for name in node.input if ranks.get(name) == 3 and name in known]
    if node.op_type == "Transpose":
        order = next((list(each.ints) for each in node.attribute if each.name == "perm"), [])
        return turned(inputs[0], order) if inputs and len(order) == 4 else ""
    if node.op_type == "MatMul" and len([name for name in node.input if name in ranks]) == 2:
        return "other"  # attention: heads and tokens, no places
    if node.op_type == "MatMul" and inputs == ["map-last"]:
        return "map-last"  # a linear layer at every place
    return "" if node.op_type in _RESHAPING or not inputs else inputs[0]
