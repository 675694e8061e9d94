"""Weights of a cut graph are numbers: NaN and infinity are found before an engine hides them.

The maximum with zero of a processor may be zero for NaN, so behind a ReLU a broken network gives
features that look like any others.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx

from ...errors import InputError
from .walk import all_nodes, subgraphs

# Their constants are weights. Elsewhere infinity has a meaning: what a mask adds, no bound of a Clip.
_WEIGHTED = frozenset(
    (
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "FusedConv",
        "FusedMatMul",
        "Gemm",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "MatMul",
        "PRelu",
    )
)
_TYPES = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


def require_numbers(path: Path, graph: onnx.GraphProto) -> None:
    """Raise an InputError for a constant with NaN, or a weight with infinity.

    Parameters
    ----------
    path : pathlib.Path
        For the message.
    graph : onnx.GraphProto
        The part that is run: what lies behind the cut may hold anything.
    """
    weights = {
        name for node in all_nodes(graph.node) if node.op_type in _WEIGHTED for name in node.input
    }
    kinds = {onnx.TensorProto.DataType.Value(kind) for kind in _TYPES}
    for name, tensor in _constants(graph):
        if tensor.data_type not in kinds:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        wrong = ~np.isfinite(values) if name in weights else np.isnan(values)
        if wrong.any():
            raise InputError(
                f"{path.name} holds NaN or infinity in {name}",
                expected="finite weights",
                where="--backbone",
                next="export it again, or from an earlier checkpoint: training may have diverged",
            )


def _constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Tensors in a graph and in its branches and bodies, by the names that nodes know them by."""
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    yield from ((sparse.values.name, sparse.values) for sparse in graph.sparse_initializer)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield node.output[0], attribute.t
            if attribute.HasField("sparse_tensor"):
                yield node.output[0], attribute.sparse_tensor.values
        for inner in subgraphs(node):
            yield from _constants(inner)
