"""One ONNX file of an input stage, the part of a graph that is wanted, and poolings; and its proof."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from ...errors import InputError
from ...images.preprocess import Preprocessing
from ..base import Output
from ..layers import Node, pooled_size
from ..proof import pictures, relative_error
from .batch import BATCH
from .input import ImageInput, inputs_of
from .metadata import RAW_MEAN, RAW_STD
from .pooling import Stage, add_pooling
from .reading import opset
from .shapes import run
from .walk import all_nodes, needed_for, rename

IMAGES = "images"
# Largest ||a - b|| / ||b|| between an image's features alone and in a batch: rounding only, in float32
# and in float16.
_TOLERANCE, _HALF_TOLERANCE = 1e-3, 2e-2
_PICTURES = 3

Wanted = Sequence[tuple[Node, Output]]


def composed(
    model: onnx.ModelProto,
    image: ImageInput,
    p: Preprocessing,
    wanted: Wanted,
    bgr: bool,
    batch: int | None,
) -> bytes:
    """The file, for any number of images or for `batch` of them; `model` is left as it is."""
    version = opset(model)
    names = [f"features_{i}" for i in range(len(wanted))]
    body, prefix = _body(model, [node.module for node, _ in wanted], image)
    # The ends get their names whatever the graph calls its own values.
    moved = {name: f"{prefix}{name}" for name in (IMAGES, *names)}
    rename(body.graph, moved)
    before = Stage(f"{prefix}input", version)
    _add_input(before, p, image, moved.get(image.name, image.name), bgr)
    after = Stage(f"{prefix}pooling", version)
    for (node, output), name in zip(wanted, names, strict=True):
        add_pooling(after, moved.get(node.module, node.module), node, output, name)
    number: int | str = batch or BATCH
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [*before.nodes, *body.graph.node, *after.nodes],
        "features",
        [make(IMAGES, onnx.TensorProto.UINT8, [number, *p.crop, 3])],
        [
            make(name, onnx.TensorProto.FLOAT, [number, pooled_size(node, output.pooling)])
            for name, (node, output) in zip(names, wanted, strict=True)
        ],
        [*before.constants, *body.graph.initializer, *after.constants],
    )
    graph.sparse_initializer.extend(body.graph.sparse_initializer)
    # Before IR version 4 a constant had to be an input as well.
    whole = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4)
    )
    whole.producer_name = ""
    return whole.SerializeToString(deterministic=True)


def _body(
    model: onnx.ModelProto, tensors: list[str], image: ImageInput
) -> tuple[onnx.ModelProto, str]:
    """The nodes and weights that lead to these tensors, and a beginning that no name has."""
    graph = model.graph
    kept, used = needed_for(graph, tensors)
    others = {value.name for value in inputs_of(graph)} & used - {image.name}
    if others:
        raise InputError(
            f"{', '.join(tensors)} needs {', '.join(sorted(others))} besides the images",
            expected="a layer that depends on the images alone",
            where="--layer",
            next="`bottleneck layers` lists those that do",
        )
    body = onnx.ModelProto()
    body.graph.node.extend(kept)
    body.graph.initializer.extend(each for each in graph.initializer if each.name in used)
    body.graph.sparse_initializer.extend(
        each for each in graph.sparse_initializer if each.values.name in used
    )
    for node in body.graph.node:
        node.name = node.doc_string = ""  # names must differ from those that are added
        del node.metadata_props[:]
    names = {name for node in all_nodes(kept) for name in (*node.input, *node.output)}
    prefix = "bottleneck/"
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return body, prefix


def _add_input(stage: Stage, p: Preprocessing, image: ImageInput, result: str, bgr: bool) -> None:
    """Pixels (n, h, w, 3) uint8 made into what the graph takes, in float32 and in torch's order."""
    value = stage.add("Cast", IMAGES, to=onnx.TensorProto.FLOAT)
    raw = (*RAW_MEAN, *RAW_STD)
    # Dividing by 255 and by 1/255 would leave 0..255 nearly, not exactly, what it was.
    if not np.allclose((*p.mean, *p.std), raw, rtol=0, atol=1e-8):
        value = stage.add("Div", value, stage.constant(255))
        value = stage.add("Sub", value, stage.constant(p.mean))
        value = stage.add("Div", value, stage.constant(p.std))
    if bgr:
        value = stage.add("Gather", value, stage.constant([2, 1, 0], np.int64), axis=3)
    if not image.channels_last:
        value = stage.add("Transpose", value, perm=[0, 3, 1, 2])
    stage.add("Cast", value, result=result, to=image.elem_type)


def check_rows(
    path: Path,
    content: bytes,
    size: tuple[int, int],
    wanted: Wanted,
    original: bytes | None,
    batch: int | None,
) -> None:
    """Raise an InputError unless each image's features are its own, whatever else is in its batch.

    Parameters
    ----------
    path : pathlib.Path
        For the message.
    content : bytes
        The file for any number of images.
    size : tuple of int
    wanted : sequence of (Node, Output)
    original : bytes or None
        The file for `batch` images as its author wrote it, where that number was fixed.
    batch : int or None
    """
    images = pictures(_PICTURES, size)
    names = [f"features_{i}" for i in range(len(wanted))]
    half = any(
        tensor.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
        for tensor in onnx.load_model_from_string(content).graph.initializer
    )
    tolerance = _HALF_TOLERANCE if half else _TOLERANCE
    try:
        together = run(content, names, {IMAGES: images})
        if original is None or batch is None:
            rows = [run(content, names, {IMAGES: images[i : i + 1]}) for i in range(_PICTURES)]
            alone = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        else:
            fed = [np.repeat(images[i : i + 1], batch, axis=0) for i in range(_PICTURES)]
            rows = [run(original, names, {IMAGES: each}) for each in fed]
            alone = [
                np.concatenate([part[:1] for part in parts]) for parts in zip(*rows, strict=True)
            ]
    except InputError as error:
        raise not_free(path, error.what, batch) from error
    for (node, output), a, b in zip(wanted, together, alone, strict=True):
        if a.shape != (_PICTURES, pooled_size(node, output.pooling)) or a.shape != b.shape:
            raise not_free(path, f"{output.id} comes out as {a.shape} for 3 images", batch)
        gap = float(relative_error(a, b).max())
        if not gap <= tolerance:
            raise not_free(
                path,
                f"{output.id} of an image changes by {gap:.2g} of its length with its batch",
                batch,
            )


def not_free(path: Path, why: str, batch: int | None) -> InputError:
    """The error for a graph that cannot be run on batches of any length."""
    fixed = (
        "" if batch is None else f", and was exported for {batch} image{'s'[: batch != 1]} a call"
    )
    return InputError(
        f"{path.name} cannot be run on batches of images: {why}{fixed}",
        expected="a graph that treats each image by itself, for any number of them",
        where="--backbone",
        next=(
            "export it with a dynamic batch: torch.onnx.export(..., dynamic_shapes={'INPUT': {0: "
            "torch.export.Dim('n')}}), or tf2onnx with a first dimension of -1"
        ),
    )
