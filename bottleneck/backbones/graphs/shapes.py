"""Shapes of every value in an ONNX graph: inferred, and where that fails, seen in a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import InputError
from .batch import set_input
from .input import ImageInput

if TYPE_CHECKING:
    import onnx

# Weights above this many bytes are left out of inference, which would copy them; below it they may be
# shapes that it has to read.
_SMALL = 4096

Typed = tuple[tuple[int, ...], int]


def inferred(
    model: onnx.ModelProto, image: ImageInput, batch: int, size: tuple[int, int]
) -> dict[str, Typed]:
    """Shape and element type of each value for so many images, where they can be told."""
    import onnx

    skeleton = _without_weights(model)
    set_input(skeleton, image, image.shape(batch, size))
    try:
        skeleton = onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    except (onnx.shape_inference.InferenceError, RuntimeError):
        return {}
    graph = skeleton.graph
    found: dict[str, Typed] = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        sides = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim]
        if tensor.HasField("shape") and min(sides, default=0) >= 0:
            found[value.name] = (tuple(sides), tensor.elem_type)
    for weight in graph.initializer:
        found[weight.name] = (tuple(weight.dims), weight.data_type)
    return found


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose large constants are inputs: shapes without values."""
    import onnx

    copy = onnx.ModelProto(ir_version=max(model.ir_version, 4))
    copy.opset_import.extend(model.opset_import)
    graph, own = copy.graph, model.graph
    graph.name = own.name
    graph.node.extend(own.node)
    graph.output.extend(own.output)
    weights = {tensor.name for tensor in own.initializer}
    graph.input.extend(value for value in own.input if value.name not in weights)
    for tensor in own.initializer:
        if tensor.ByteSize() <= _SMALL:
            graph.initializer.append(tensor)
        else:
            graph.input.append(
                onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            )
    return copy


def seen(model: onnx.ModelProto, names: Sequence[str], feeds: dict[str, Any]) -> list[np.ndarray]:
    """Values of a graph for some inputs, by running it.

    Raises
    ------
    InputError
        In ONNX Runtime's words, if it cannot.
    """
    import onnx

    outputs = list(model.graph.output)
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    try:
        return run(model.SerializeToString(), names, feeds)
    finally:
        del model.graph.output[:]
        model.graph.output.extend(outputs)


def run(content: bytes | Path, names: Sequence[str], feeds: dict[str, Any]) -> list[np.ndarray]:
    """Outputs of a model on the CPU.

    Raises
    ------
    InputError
        In ONNX Runtime's words, if it cannot.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised
    options.intra_op_num_threads = min(4, os.cpu_count() or 1)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return session.run(list(names), feeds)
    except Exception as error:  # ONNX Runtime raises its own types, which have no common base
        words = next((line for line in str(error).splitlines() if line.strip()), "")
        raise InputError(
            f"ONNX Runtime cannot run the graph: {words}",
            expected="a graph that runs on the CPU",
            where="--backbone",
        ) from error
