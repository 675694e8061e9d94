"""Tensors that an ONNX file keeps in files beside it: found, checked, and put into the model.

A file from anywhere could name any file of this machine, so only its own folder is read, links
followed before that is decided.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from ...errors import InputError
from ...regular import NotRegular, open_regular
from ..hashes import sha256_of
from .walk import all_nodes

if TYPE_CHECKING:
    import onnx

# What a protobuf message can hold; the cut network has to be one as well.
MOST_BYTES = 2**31 - 1


def unusable(path: Path, why: str) -> InputError:
    """The error for a file that is no ONNX model, or a damaged one."""
    return InputError(
        f"{path.name} is no usable ONNX file: {why}",
        expected="a model as torch.onnx, tf2onnx and others write it",
        where=str(path),
        next="export or download it again; docs/other-networks.md has the commands",
    )


def too_large(path: Path) -> InputError:
    """The error for a model that no single file can hold."""
    return InputError(
        f"{path.name} and its data hold more than 2 GiB",
        expected="at most 2 GiB, the most that one ONNX file can hold",
        where=str(path),
        next="export it in float16, or without the parts behind the layer you need",
    )


def first_line(error: Exception) -> str:
    """What an error of a library says, in one line."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def external_names(model: onnx.ModelProto, path: Path) -> list[str]:
    """Names of the files beside a model that hold tensors of it, each once, in order.

    Raises
    ------
    InputError
        If one is missing or does not lie in the model's own folder.
    """
    places = sorted({_location(tensor, path) for tensor in _tensors(model) if _is_external(tensor)})
    for place in places:
        inside(place, path)
    return places


def content_sha256(own: str, files: Iterable[Path]) -> str:
    """One hash of a model and its external data; the model's own where there is none.

    The model names its files itself, so their order says which is which.
    """
    digests = [sha256_of(file) for file in files]
    if not digests:
        return own
    return hashlib.sha256(" ".join([own, *digests]).encode()).hexdigest()


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        for node in all_nodes(function.node):
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        sparse = [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []
        for each in (*sparse, *attribute.sparse_tensors):
            yield from (each.values, each.indices)
        for graph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
            yield from _graph_tensors(graph)


def _is_external(tensor: onnx.TensorProto) -> bool:
    return tensor.data_location == tensor.EXTERNAL


def _keys(tensor: onnx.TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _location(tensor: onnx.TensorProto, path: Path) -> str:
    place = _keys(tensor).get("location", "")
    if not place:
        raise unusable(path, f"tensor {tensor.name} says that its data is elsewhere, not where")
    return place


def inside(place: str, path: Path) -> Path:
    """The file at `place`, which must lie below the model's folder, links followed."""
    windows = PureWindowsPath(place)
    outside = (
        PurePosixPath(place).is_absolute() or windows.drive or windows.root or ".." in windows.parts
    )
    folder = path.parent.resolve()
    if not outside:
        file = (folder / place).resolve()
        # A link lets a file of this folder be any file of the disk: a hard one, without a trace.
        if not file.is_relative_to(folder) or (folder / place).is_symlink():
            outside = True
        elif file.is_file():
            if file.stat().st_nlink > 1:
                raise _linked(path, place)
            return file
    if outside:
        raise InputError(
            f"{path.name} wants to read {place!r}, which is a link or lies outside its folder",
            expected="external data beside the file",
            where=str(path),
            next="do not use the file unless you know where it comes from",
        )
    raise InputError(
        f"{path.name} keeps its weights in {place}, which is missing",
        expected=f"{place} beside it",
        where=str(path),
        next="copy both files together",
    )


def _linked(path: Path, place: str) -> InputError:
    return InputError(
        f"{path.name} wants to read {place}, which has other names on this disk (hard links)",
        expected="external data that is a file of its own",
        where=str(path),
        next="where you know both files, copy the folder: a copy has no links",
    )


def load_external(model: onnx.ModelProto, path: Path) -> None:
    """Put external data into the model, after checking where it lies and how long it is.

    Raises
    ------
    InputError
        If it lies elsewhere than beside the file, or is not as long as its tensor.
    """
    import onnx

    total = 0
    for tensor in _tensors(model):
        if not _is_external(tensor):
            continue
        keys = _keys(tensor)
        file = inside(_location(tensor, path), path)
        size = _bytes_of(tensor, path)
        total += size
        if total > MOST_BYTES:
            raise too_large(path)
        offset, length = keys.get("offset", "0"), keys.get("length", str(size))
        if not (offset.isdecimal() and length.isdecimal() and int(length) == size):
            raise unusable(path, f"tensor {tensor.name} has {length} bytes at {offset}, not {size}")
        try:
            with open_regular(file) as stream:
                if os.fstat(stream.fileno()).st_nlink > 1:
                    raise _linked(path, file.name)
                stream.seek(int(offset))
                content = stream.read(size)
        except (OSError, NotRegular, OverflowError) as error:
            raise unusable(path, f"{file.name} cannot be read: {error}") from error
        if len(content) != size:
            raise unusable(path, f"{file.name} ends before tensor {tensor.name}: it was cut off")
        tensor.raw_data = content
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _bytes_of(tensor: onnx.TensorProto, path: Path) -> int:
    import onnx

    count = 1
    for side in tensor.dims:
        count *= side
    try:
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        bits = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}.get(name)
        bits = bits or 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (KeyError, ValueError, TypeError) as error:
        raise unusable(path, f"tensor {tensor.name} is of an unknown type") from error
    if min(tensor.dims, default=1) < 0 or name == "STRING":
        raise unusable(path, f"tensor {tensor.name} has impossible sides {list(tensor.dims)}")
    return (count * bits + 7) // 8
