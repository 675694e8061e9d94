"""The input of an ONNX graph that takes the images: its name, type, layout and size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import InputError

if TYPE_CHECKING:
    import onnx

# What may lie between an input and the operator that shows which of its axes are the channels.
_KEEP_AXES = {
    "Cast",
    "Identity",
    "Sub",
    "Add",
    "Mul",
    "Div",
    "Clip",
    "Pad",
    "Resize",
    "QuantizeLinear",
}
_TO_CHANNELS_FIRST = [0, 3, 1, 2]
_METADATA = (
    'set {"layout": "nchw"} or {"layout": "nhwc"} in the file\'s metadata bottleneck.preprocessing'
)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Where images go in.

    Attributes
    ----------
    name : str
    elem_type : int
        Of ``onnx.TensorProto``.
    channels_last : bool
        (n, h, w, 3) rather than (n, 3, h, w).
    batch : int or None
        Images of one call where the file fixes it.
    size : tuple of int or None
        Height and width; None where the file leaves a side open.
    """

    name: str
    elem_type: int
    channels_last: bool
    batch: int | None
    size: tuple[int, int] | None

    def shape(self, batch: int | str, size: tuple[int, int]) -> list[int | str]:
        """Its dimensions for images of a size."""
        return [batch, *size, 3] if self.channels_last else [batch, 3, *size]

    def check_size(self, size: tuple[int, int]) -> None:
        """Raise an InputError if the graph takes another size only."""
        if self.size is not None and self.size != size:
            raise InputError(
                f"the crop is {size[0]}x{size[1]}",
                expected=f"{self.size[0]}x{self.size[1]}, the only size this ONNX file takes",
                where="--crop",
                next="leave --crop out, or export the file with free height and width",
            )


def inputs_of(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """What a graph is given; before IR version 4 weights were listed there as well."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def find_input(graph: onnx.GraphProto, layout: str | None = None) -> ImageInput:
    """The input that takes images.

    Parameters
    ----------
    graph : onnx.GraphProto
    layout : {"nchw", "nhwc"}, optional
        As the file's metadata say.

    Raises
    ------
    InputError
        If there is none, or its axes cannot be told.
    """
    import onnx

    pixels = (
        onnx.TensorProto.FLOAT,
        onnx.TensorProto.FLOAT16,
        onnx.TensorProto.DOUBLE,
        onnx.TensorProto.BFLOAT16,
        onnx.TensorProto.UINT8,
    )
    found = []
    for value in inputs_of(graph):
        tensor = value.type.tensor_type
        if tensor.elem_type in pixels and len(tensor.shape.dim) == 4:
            found.append(value)
    coloured = [value for value in found if 3 in _sides(value)[1:]]
    if len(coloured or found) != 1:
        names = ", ".join(f"{v.name} {_spelled(v)}" for v in inputs_of(graph)) or "no input"
        raise InputError(
            f"the ONNX graph takes {names}",
            expected="one input of images, (n, 3, h, w) or (n, h, w, 3), of floats or uint8",
            where="--backbone",
            next="export the image network alone",
        )
    value = (coloured or found)[0]
    last = _channels_last(graph, value, layout)
    batch, *rest = _sides(value)
    height, width = rest[:2] if last else rest[1:]
    size = (height, width) if height and width else None
    return ImageInput(value.name, value.type.tensor_type.elem_type, last, batch, size)


def _sides(value: onnx.ValueInfoProto) -> list[int | None]:
    """Dimensions, None for what is open; some exporters write 0 or -1 for that."""
    dims = value.type.tensor_type.shape.dim
    return [dim.dim_value if dim.dim_value > 0 else None for dim in dims]


def _spelled(value: onnx.ValueInfoProto) -> str:
    return f"({', '.join(str(side or '?') for side in _sides(value))})"


def _channels_last(graph: onnx.GraphProto, value: onnx.ValueInfoProto, layout: str | None) -> bool:
    _, first, _, last = _sides(value)
    possible = [
        word
        for word, channels in (("nchw", first), ("nhwc", last))
        if channels in (3, None) and layout in (word, None)
    ]
    if first in (3, None) and last in (3, None) and len(possible) == 2:
        if (first, last) == (3, None):
            possible = ["nchw"]
        elif (first, last) == (None, 3):
            possible = ["nhwc"]
        else:
            possible = _as_used(graph, value.name) or possible
    if len(possible) == 1:
        return possible == ["nhwc"]
    raise InputError(
        f"the ONNX graph's input {value.name} is {_spelled(value)}",
        expected="(n, 3, h, w) or (n, h, w, 3): colour images, the axis of the channels known",
        where="--backbone",
        next=_METADATA if possible else "export a network for colour images",
    )


def _as_used(graph: onnx.GraphProto, name: str) -> list[str]:
    """The layout that the first convolutions show: they take channels first."""
    same, words = {name}, set()
    for node in graph.node:
        if same.isdisjoint(node.input):
            continue
        if node.op_type == "Conv":
            words.add("nchw")
        elif node.op_type == "Transpose":
            order = [list(each.ints) for each in node.attribute if each.name == "perm"]
            words.add("nhwc" if order == [_TO_CHANNELS_FIRST] else "")
        elif node.op_type in _KEEP_AXES:
            same.update(node.output)
    return list(words) if len(words) == 1 and "" not in words else []
