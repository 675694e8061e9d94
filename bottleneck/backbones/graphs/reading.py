"""ONNX files from anywhere, read without trusting them: a path in, a checked model in memory out.

Reading runs no code. External data must lie in the file's own folder; operators must be ONNX's own or
ONNX Runtime's, so that no library of somebody's is ever loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import InputError
from ...regular import NotRegular, open_regular
from .converting import CannotConvert, converted
from .external import MOST_BYTES, first_line, load_external, too_large, unusable
from .walk import all_nodes

if TYPE_CHECKING:
    import onnx

_OWN_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
# ONNX Runtime's own operators, which files that it has optimised contain.
_RUNTIME_DOMAIN = "com.microsoft"
# The oldest operators that take what `compose` gives them (Max that broadcasts).
_LEAST_OPSET = 8
_NOT_ONNX = {
    b"version https://git-lfs": "a git-lfs pointer: the file itself was not downloaded",
    b"<": "a web page: the download did not reach the file",
    b"PK\x03\x04": "a zip archive, as PyTorch and Keras write them",
    b"\x89HDF": "an HDF5 file, as Keras writes them",
}


def read(path: Path) -> onnx.ModelProto:
    """A model with all its tensors in memory, functions written out, checked.

    Parameters
    ----------
    path : pathlib.Path

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    InputError
        If it is no ONNX file, damaged, too large, reaches outside its folder, or needs operators
        that neither ONNX nor ONNX Runtime has.
    """
    import onnx
    import onnx.inliner

    model = parse(path)
    load_external(model, path)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    _check_operators(model, path)
    model = _recent(model, path)
    # Exporters leave it out where they do not know it, the checker insists, and nobody needs it.
    unknown = [v for v in model.graph.output if not v.type.tensor_type.HasField("shape")]
    for value in unknown:
        value.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise unusable(path, first_line(error)) from error
    for value in unknown:
        value.type.tensor_type.ClearField("shape")
    return model


def parse(path: Path) -> onnx.ModelProto:
    """A model as it stands in the file, external data left outside.

    Raises
    ------
    InputError
        If it is no ONNX file.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if path.stat().st_size > MOST_BYTES:
            raise too_large(path)
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, NotRegular) as error:
        reason = (
            f"is {error}" if isinstance(error, NotRegular) else f"cannot be read: {error.strerror}"
        )
        raise InputError(
            f"{path} {reason}",
            expected="an ONNX file",
            where="--backbone",
            next="check the path",
        ) from error
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise unusable(path, _looks_like(content)) from error
    if not model.graph.node or not model.graph.output or model.ir_version < 1:
        raise unusable(path, _looks_like(content))
    return model


def _looks_like(content: bytes) -> str:
    if not content:
        return "it is empty"
    start = content[:64].lstrip()
    for magic, words in _NOT_ONNX.items():
        if start.startswith(magic):
            return f"it is {words}"
    return "it is no ONNX model, or was cut off"


def opset(model: onnx.ModelProto) -> int:
    """Version of ONNX's own operators that a model is written in."""
    return max(
        (each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=1
    )


def _check_operators(model: onnx.ModelProto, path: Path) -> None:
    import onnx

    version = opset(model)
    foreign: set[str] = set()
    unknown: set[str] = set()
    for node in all_nodes(model.graph.node):
        if node.domain in ("", "ai.onnx"):
            try:
                onnx.defs.get_schema(node.op_type, version, "")
            except onnx.defs.SchemaError:
                unknown.add(node.op_type)
        elif node.domain not in (*_OWN_DOMAINS, _RUNTIME_DOMAIN):
            foreign.add(f"{node.domain}:{node.op_type}")
    if unknown or foreign:
        names = ", ".join(sorted(unknown | foreign))
        raise InputError(
            f"{path.name} uses operators that ONNX does not have: {names}",
            expected="operators of ONNX or ONNX Runtime; libraries of others are never loaded",
            where=str(path),
            next="export it again without custom operators, or with a newer exporter",
        )


def _recent(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """The model in operators that can be added to; nearly always itself."""
    import onnx
    from google.protobuf.message import Error

    if opset(model) >= _LEAST_OPSET:
        return model
    try:
        content = converted(model.SerializeToString(), _LEAST_OPSET)
        return onnx.load_model_from_string(content)
    except (CannotConvert, ValueError, Error) as error:  # over 2 GiB a model is no message
        raise InputError(
            f"{path.name} is written in operators of version {opset(model)}",
            expected=f"{_LEAST_OPSET} or later; converting it failed: {first_line(error)}",
            where=str(path),
            next="export it again with opset 18",
        ) from error
