"""Where an ONNX graph's classifier begins: the input of its last linear layer is penultimate.

Only what cannot be part of a feature may lie behind that layer: biases, scales, a softmax, changes of
shape. So a graph that was exported without its classifier keeps all of its layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .walk import constants, depending_on

if TYPE_CHECKING:
    import onnx

# They turn scores into probabilities.
_SOFTMAX = {"Softmax", "LogSoftmax"}
# They leave scores what they are.
_PLAIN = {
    "Identity", "Cast", "Dropout", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose",
    "QuantizeLinear", "DequantizeLinear", "Sigmoid",
}  # fmt: skip
# A bias or a temperature, where one side is constant.
_AFFINE = {"Add", "Sub", "Mul", "Div"}
# Between the classifier and the softmax of SqueezeNet: scores at every place, averaged.
_AVERAGE = {"GlobalAveragePool", "ReduceMean", "AveragePool", "Relu"}


@dataclass(frozen=True, slots=True)
class Penultimate:
    """Where the features lie.

    Attributes
    ----------
    tensor : str
    before : str
        The linear layer's result; empty where there is none and `tensor` is the graph's output.
    kind : str
        For `Node.kind`.
    """

    tensor: str
    before: str
    kind: str


def find_penultimate(
    graph: onnx.GraphProto, image: str, shapes: dict[str, tuple[int, ...]], outputs: Sequence[str]
) -> Penultimate | None:
    """The penultimate tensor of a graph: that of the first of its outputs.

    Parameters
    ----------
    graph : onnx.GraphProto
    image : str
        Name of the input.
    shapes : dict of str to tuple of int
        Of the values that can be features, without the batch.
    outputs : sequence of str
        Those that are floats and depend on the images alone.

    Returns
    -------
    Penultimate or None
        None if that output cannot be used. Another one is not taken for it: it may be anything.
    """
    moving = depending_on(graph, [image])
    makers = {name: node for node in graph.node for name in node.output}
    for output in outputs[:1]:
        node = _linear_before(output, makers, moving, shapes, constants(graph))
        if node is not None:
            tensor = next(name for name in node.input if name in moving)
            if tensor in shapes:
                return Penultimate(tensor, node.output[0], f"input of {node.name or node.op_type}")
        elif output in shapes:
            return Penultimate(output, "", "output")
    return None


def _linear_before(
    name: str,
    makers: dict[str, onnx.NodeProto],
    moving: set[str],
    shapes: dict[str, tuple[int, ...]],
    weights: dict[str, onnx.TensorProto],
) -> onnx.NodeProto | None:
    """The linear layer that a value is scores of, if it is."""
    softmax = averaged = False
    while (node := makers.get(name)) is not None:
        data = [each for each in node.input if each in moving]
        if len(data) != 1:
            return None
        if node.op_type in ("Gemm", "MatMul"):
            return node
        if node.op_type == "Conv":
            linear = _is_pointwise(node, shapes.get(data[0], ()), weights, anywhere=softmax)
            return node if linear else None
        softmax |= node.op_type in _SOFTMAX
        averaged |= node.op_type in _AVERAGE
        if not (node.op_type in _PLAIN | _SOFTMAX | _AFFINE or (averaged and softmax)):
            return None
        name = data[0]
    return None


def _is_pointwise(
    node: onnx.NodeProto,
    shape: tuple[int, ...],
    weights: dict[str, onnx.TensorProto],
    *,
    anywhere: bool,
) -> bool:
    """Whether a convolution is a linear layer on channels: 1x1, and one place unless `anywhere`."""
    attributes = {each.name: each for each in node.attribute}
    if "group" in attributes and attributes["group"].i != 1:
        return False
    if "kernel_shape" in attributes:
        kernel = list(attributes["kernel_shape"].ints)
    else:  # then it is that of the weights
        kernel = list(weights[node.input[1]].dims[2:]) if node.input[1] in weights else []
    one = len(shape) == 3 and shape[1:] == (1, 1)
    return kernel == [1, 1] and (one or anywhere)
