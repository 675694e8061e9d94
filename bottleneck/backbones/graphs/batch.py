"""Free the batch of an ONNX graph: one exported for a fixed number of images, made to take any.

What is rewritten here is a guess about constants that happen to be the batch. Whoever runs the result
compares it with the file as it was (`onnx_check`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .input import ImageInput
from .walk import constants, depending_on, subgraphs

if TYPE_CHECKING:
    import onnx

BATCH = "n"


def set_input(model: onnx.ModelProto, image: ImageInput, shape: list[int | str]) -> None:
    """Give the input other dimensions, and forget every shape that followed from the old ones."""
    import onnx

    graph = model.graph
    for value in graph.input:
        if value.name == image.name:
            value.CopyFrom(onnx.helper.make_tensor_value_info(image.name, image.elem_type, shape))
    _forget_shapes(graph)


def _forget_shapes(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    for node in graph.node:
        for inner in subgraphs(node):
            _forget_shapes(inner)


def free_batch(model: onnx.ModelProto, image: ImageInput, size: tuple[int, int]) -> bool:
    """Rewrite, in place, constants that stand for the batch; whether there were any.

    Reshape to a constant shape that begins with the batch keeps the first axis, or computes it.
    Concat of something computed with a constant, as of patches with a class token, repeats the
    constant for every image.

    Parameters
    ----------
    model : onnx.ModelProto
        Its input's batch is left as it is.
    image : ImageInput
    size : tuple of int
        Height and width of the images.
    """
    if image.batch is None:
        return False
    from .shapes import inferred

    graph, batch = model.graph, image.batch
    shapes = {name: shape for name, (shape, _) in inferred(model, image, batch, size).items()}
    moving = depending_on(graph, [image.name])
    known = constants(graph)
    changed = False
    for node in list(graph.node):
        if node.op_type == "Reshape" and node.input[0] in moving and node.input[1] in known:
            changed |= _free_reshape(model, node, known[node.input[1]], shapes, batch)
        elif node.op_type == "Concat" and batch == 1 and not moving.isdisjoint(node.input):
            changed |= _repeat_constants(model, node, moving, shapes, image)
    return changed


def _free_reshape(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    shape: onnx.TensorProto,
    shapes: dict[str, tuple[int, ...]],
    batch: int,
) -> bool:
    import onnx

    sides = onnx.numpy_helper.to_array(shape).astype(np.int64).tolist()
    zero_is_zero = [each for each in node.attribute if each.name == "allowzero" and each.i]
    before = shapes.get(node.input[0], ())
    if not sides or sides[0] < 1 or (zero_is_zero and 0 in sides):
        return False
    if sides[0] == batch and before[:1] == (batch,):
        sides[0] = 0  # as long as it was
        for attribute in zero_is_zero:
            node.attribute.remove(attribute)
    elif -1 not in sides:
        sides[0] = -1  # whatever is left
    else:
        return False
    name = f"{node.output[0]}/free_shape"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(sides), name))
    node.input[1] = name
    return True


def _repeat_constants(
    model: onnx.ModelProto,
    node: onnx.NodeProto,
    moving: set[str],
    shapes: dict[str, tuple[int, ...]],
    image: ImageInput,
) -> bool:
    import onnx

    graph = model.graph
    rank = max((len(shapes.get(name, ())) for name in node.input), default=0)
    axis = next(each.i for each in node.attribute if each.name == "axis")
    fixed = [name for name in node.input if name not in moving]
    if not fixed or axis in (0, -rank) or any(shapes.get(name, ())[:1] != (1,) for name in fixed):
        return False
    stem = f"{node.output[0]}/repeated"
    ones = np.ones(rank - 1, np.int64)
    graph.initializer.append(onnx.numpy_helper.from_array(ones, f"{stem}/ones"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(1, np.int64), f"{stem}/first"))
    make = onnx.helper.make_node
    added = [
        make("Shape", [image.name], [f"{stem}/sides"]),
        make("Gather", [f"{stem}/sides", f"{stem}/first"], [f"{stem}/count"]),
        make("Concat", [f"{stem}/count", f"{stem}/ones"], [f"{stem}/shape"], axis=0),
    ]
    for name in dict.fromkeys(fixed):
        added.append(make("Expand", [name, f"{stem}/shape"], [f"{stem}/{name}"]))
    for i, name in enumerate(node.input):
        if name not in moving:
            node.input[i] = f"{stem}/{name}"
    at = next(i for i, each in enumerate(graph.node) if each.output[0] == node.output[0])
    for new in reversed(added):
        graph.node.insert(at, new)
    return True
