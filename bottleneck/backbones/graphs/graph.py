"""Networks in ONNX files: where they can be cut, and the cut network as one file for every engine.

A node's name and `Node.module` are the tensor's name in the file; ``penultimate`` has the tensor in
`Node.module` alone, and its kind says what it is the input of.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...errors import InputError
from ...images.preprocess import Preprocessing
from ..base import PENULTIMATE, Output
from ..layers import Node
from .batch import free_batch, set_input
from .classifier import find_penultimate
from .compose import check_rows, composed, not_free
from .input import ImageInput, find_input, inputs_of
from .layouts import with_layouts
from .metadata import RAW_MEAN, RAW_STD, read_metadata
from .numbers import require_numbers
from .reading import read
from .shapes import inferred, seen
from .walk import depending_on

if TYPE_CHECKING:
    import onnx

# Images of the pass whose shapes are looked at: a number that is rarely a count of anything else.
_BATCH = 5
_FLOATS = ("FLOAT", "FLOAT16", "DOUBLE", "BFLOAT16")


def nodes(path: Path, size: tuple[int, int]) -> list[Node]:
    """All values of floats in a graph that have a row per image, in the order of the file.

    Parameters
    ----------
    path : pathlib.Path
        Of an ONNX file.
    size : tuple of int
        Height and width of the images.

    Returns
    -------
    list of Node
        ``penultimate`` among them, before the classifier.

    Raises
    ------
    InputError
        If the file cannot be used, or takes images of another size only.
    """
    model = read(path)
    image = find_input(model.graph, read_metadata(model).layout)
    image.check_size(size)
    free_batch(model, image, size)
    names = _candidates(model.graph, image)
    floats = _floats(path, model, image, names, size)
    shapes = {
        name: shape[1:]
        for name, shape in floats.items()
        if len(shape) >= 2 and shape[0] == _BATCH and min(shape) > 0
    }
    found = [
        Node(_spelled(name), node.op_type, shapes[name], "", module=name)
        for node in model.graph.node
        for name in node.output
        if name in shapes
    ]
    ends = [value.name for value in model.graph.output if value.name in floats]
    last = find_penultimate(model.graph, image.name, shapes, ends)
    if last is None:
        others = ", ".join(v.name for v in inputs_of(model.graph) if v.name != image.name)
        also = f"; besides the images it takes {others}" if others else ""
        raise InputError(
            f"{path.name} gives no row of numbers for each image{also}",
            expected="a first output (n, ...) of floats that depends on the images alone",
            where="--backbone",
            next="export the image network alone, with a dynamic batch",
        )
    node = Node(PENULTIMATE.node, last.kind, shapes[last.tensor], "", module=last.tensor)
    at = next((i for i, each in enumerate(found) if each.module == last.before), len(found))
    found.insert(at, node)
    return with_layouts(found, model.graph, image, size)


def _spelled(name: str) -> str:
    return f"{name}_" if name == PENULTIMATE.node else name


def _candidates(graph: onnx.GraphProto, image: ImageInput) -> list[str]:
    """Values that change with the images and with no other input."""
    others = [value.name for value in inputs_of(graph) if value.name != image.name]
    moving = depending_on(graph, [image.name]) - depending_on(graph, others)
    return [name for node in graph.node for name in node.output if name in moving]


def _floats(
    path: Path,
    model: onnx.ModelProto,
    image: ImageInput,
    names: list[str],
    size: tuple[int, int],
) -> dict[str, tuple[int, ...]]:
    """Shapes of those that are floats, for `_BATCH` images."""
    import onnx

    told = inferred(model, image, _BATCH, size)
    missing = [name for name in names if name not in told]
    if missing:
        set_input(model, image, image.shape(_BATCH, size))
        zeros = np.zeros([int(side) for side in image.shape(_BATCH, size)], _dtype(image))
        try:
            values = seen(model, missing, {image.name: zeros})
        except InputError as error:
            raise not_free(path, error.what, image.batch) from error
        for name, value in zip(missing, values, strict=True):
            if isinstance(value, np.ndarray):  # and no sequence of tensors
                told[name] = (value.shape, onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
    kinds = {onnx.TensorProto.DataType.Value(kind) for kind in _FLOATS}
    return {name: told[name][0] for name in names if name in told and told[name][1] in kinds}


def compose(
    path: Path, preprocessing: Preprocessing, nodes: Sequence[Node], outputs: Sequence[Output]
) -> bytes:
    """The cut network with its input stage, in one file.

    Parameters
    ----------
    path : pathlib.Path
        Of an ONNX file.
    preprocessing : Preprocessing
        Its `crop`, `mean` and `std` are built in.
    nodes : sequence of Node
        As `nodes` found them for the same crop.
    outputs : sequence of Output

    Returns
    -------
    bytes
        Input ``images`` (n, h, w, 3) uint8, n free; outputs ``features_0``, ``features_1``, ...
        (n, d) float32, one per output. Nothing in it that does not lead to one of them.

    Raises
    ------
    InputError
        If the file cannot be used, has weights that are no numbers, or an image's features depend
        on the others in its batch.
    """
    import onnx

    model = read(path)
    metadata = read_metadata(model)
    image = find_input(model.graph, metadata.layout)
    image.check_size(preprocessing.crop)
    if np.dtype(np.uint8) == _dtype(image) and not _is_raw(preprocessing):
        raise InputError(
            f"{path.name} takes pixels of 0 to 255 as they are",
            expected="mean 0, and std 1/255",
            where="--mean and --std",
            next="give --mean 0,0,0 --std 0.00392156862745098,0.00392156862745098,0.00392156862745098",
        )
    by_name = {node.name: node for node in nodes}
    wanted = [(by_name[output.node], output) for output in outputs]
    original = None
    if image.batch is not None:
        original = composed(model, image, preprocessing, wanted, metadata.bgr, image.batch)
        free_batch(model, image, preprocessing.crop)
    free = composed(model, image, preprocessing, wanted, metadata.bgr, None)
    require_numbers(path, onnx.load_model_from_string(free).graph)
    check_rows(path, free, preprocessing.crop, wanted, original, image.batch)
    return free


def _dtype(image: ImageInput) -> np.dtype:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(image.elem_type)


def _is_raw(p: Preprocessing) -> bool:
    return bool(np.allclose((*p.mean, *p.std), (*RAW_MEAN, *RAW_STD), rtol=0, atol=1e-7))
