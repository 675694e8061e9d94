"""Pooling as nodes of an ONNX graph: the same vectors as `cut.pool` makes in PyTorch."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING, Any

import numpy as np

from ..base import Output
from ..layers import GEM_POWER, Node, effective_pooling, grid_of

if TYPE_CHECKING:
    import onnx

# From this version of the operators on, the axes of a reduction are an input.
_AXES_ARE_INPUT = 18


class Stage:
    """Nodes to add to a graph, and the constants they need, under names that nothing else has.

    Parameters
    ----------
    stem : str
        Begins the names.
    opset : int
        Version of the operators.
    """

    def __init__(self, stem: str, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._stem = stem
        self.opset = opset

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """The name of a new constant."""
        import onnx

        name = f"{self._stem}/constant_{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, result: str = "", **attributes: Any) -> str:
        """The name of a new node's result."""
        import onnx

        name = result or f"{self._stem}/{kind}_{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def reduce(self, kind: str, value: str, axis: int) -> str:
        """``ReduceMean`` or ``ReduceMax`` over one axis, which goes."""
        if self.opset >= _AXES_ARE_INPUT:
            return self.add(kind, value, self.constant([axis], np.int64), keepdims=0)
        return self.add(kind, value, axes=[axis], keepdims=0)


def add_pooling(stage: Stage, value: str, node: Node, output: Output, result: str) -> None:
    """Make a vector (n, d) float32 of a node's value, called `result`.

    References
    ----------
    GeM: see `cut.pool`. Grids follow the bins of ``torch.nn.functional.adaptive_avg_pool2d``.
    """
    import onnx

    value = stage.add("Cast", value, to=onnx.TensorProto.FLOAT)  # float16 would round the sums
    stage.add("Identity", _pooled(stage, value, node, output), result=result)


def _pooled(stage: Stage, value: str, node: Node, output: Output) -> str:
    pooling = effective_pooling(node, output.pooling)
    if pooling in ("none", "flatten"):
        return stage.add("Flatten", value, axis=1)
    if pooling == "cls":
        return stage.add("Gather", value, stage.constant(0, np.int64), axis=1)
    places = _places(stage, value, node)
    if pooling in ("avg", "patches"):
        return stage.reduce("ReduceMean", places, 2)
    if pooling == "max":
        return stage.reduce("ReduceMax", places, 2)
    if pooling == "gem":
        positive = stage.add("Max", places, stage.constant(1e-6))
        powers = stage.add("Pow", positive, stage.constant(GEM_POWER))
        mean = stage.reduce("ReduceMean", powers, 2)
        return stage.add("Pow", mean, stage.constant(1 / GEM_POWER))
    rows, columns = (int(side) for side in pooling.split("x"))
    height, width = grid_of(node)
    grid = stage.add("Reshape", places, stage.constant([0, 0, height, width], np.int64))
    # Means of rows, then of columns: a bin is a rectangle.
    grid = stage.add("MatMul", stage.constant(_bins(height, rows)), grid)
    grid = stage.add("MatMul", grid, stage.constant(_bins(width, columns).T))
    return stage.add("Flatten", grid, axis=1)


def _places(stage: Stage, value: str, node: Node) -> str:
    """(n, c, places), whatever the layout; class and register tokens left out."""
    if node.layout == "tokens":
        if node.prefix:
            patches = np.arange(node.prefix, node.shape[0])
            value = stage.add("Gather", value, stage.constant(patches, np.int64), axis=1)
        return stage.add("Transpose", value, perm=[0, 2, 1])
    if node.layout == "map-last":
        value = stage.add("Transpose", value, perm=[0, 3, 1, 2])
    return stage.add("Reshape", value, stage.constant([0, 0, -1], np.int64))


def _bins(size: int, count: int) -> np.ndarray:
    """A matrix (count, size) whose rows average over torch's bins, which may overlap by one."""
    bins = np.zeros((count, size), np.float32)
    for i in range(count):
        start, end = floor(i * size / count), ceil((i + 1) * size / count)
        bins[i, start:end] = 1 / (end - start)
    return bins
