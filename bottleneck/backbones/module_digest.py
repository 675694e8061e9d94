"""A hash of a module in memory: of its tensors, its structure and its code, as far as it can be seen.

Code is taken as Python has it loaded, not from files: a file may have been edited since, and a notebook
has none. So another version of Python makes another hash, and comments do not.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import re
import types
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .hashes import add_tensors

if TYPE_CHECKING:
    import torch

# Code of these is known by its version, which the environment records.
LIBRARIES = ("torch", "torchvision", "timm", "transformers")
_KNOWN = (*LIBRARIES, "numpy", "math", "functools", "typing", "collections")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def digest_of(module: torch.nn.Module) -> str:
    """SHA-256 of what decides a module's output.

    Parameters, buffers and other tensors among the attributes; the modules' classes and ``repr``;
    numbers, texts and functions among their attributes; the code of classes, hooks and functions that
    are not of PyTorch, torchvision, timm, transformers or NumPy, with the constants and functions
    they take from their surroundings. Not seen: attributes of other kinds (a dict, an object of one's
    own), what code reads from files or looks up by a name that it makes up, compiled extensions.

    Returns
    -------
    str
        64 hexadecimal digits; the same in every process.
    """
    digest = hashlib.sha256()
    tensors: dict[str, torch.Tensor] = {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }
    lines = [_ADDRESS.sub("", repr(module))]
    seen: set[int] = set()
    for name, part in module.named_modules():
        lines.append(f"{name}: {type(part).__module__}.{type(part).__qualname__}")
        for key, value in sorted(vars(part).items()):
            if key.startswith("_") or key == "training":
                continue
            if hasattr(value, "is_floating_point") and callable(value.is_floating_point):
                tensors[f"{name}.{key}"] = value
            else:
                lines += (f"{name}.{key} = {line}" for line in _told(value, seen))
        for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
            lines += (f"{name} hook {line}" for line in _told(hook, seen))
        for base in type(part).__mro__:
            lines += _told(base, seen)
    for line in lines:
        digest.update(f"{len(line)} {line}\n".encode("utf-8", "surrogatepass"))
    add_tensors(digest, tensors)
    return digest.hexdigest()


def _told(value: Any, seen: set[int]) -> Iterator[str]:
    """Lines that tell a value apart from others; none for what cannot be told."""
    if isinstance(value, _PLAIN):
        yield repr(value)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _told(each, seen)
    elif isinstance(value, functools.partial):
        yield "partial"
        parts = (value.func, value.args, *sorted(value.keywords.items()))
        for each in parts:
            yield from _told(each, seen)
    elif isinstance(value, types.MethodType | staticmethod | classmethod):
        yield from _told(value.__func__, seen)
    elif isinstance(value, property):
        yield from _told(value.fget, seen)
    elif isinstance(value, type):
        yield from _class(value, seen)
    elif isinstance(value, types.FunctionType):
        yield from _function(value, seen)
    elif isinstance(value, types.BuiltinFunctionType):
        yield f"built-in {value.__qualname__}"


def _class(cls: type, seen: set[int]) -> Iterator[str]:
    yield f"class {cls.__module__}.{cls.__qualname__}"
    if _known(cls) or id(cls) in seen:
        return
    seen.add(id(cls))
    for key, value in sorted(vars(cls).items()):
        # What Python puts there by itself: the place in the file among it.
        if key in ("__module__", "__doc__", "__firstlineno__", "__static_attributes__", "__dict__"):
            continue
        for line in _told(value, seen):
            yield f"{cls.__qualname__}.{key} {line}"


def _function(function: types.FunctionType, seen: set[int]) -> Iterator[str]:
    yield f"function {function.__module__}.{function.__qualname__}"
    if _known(function) or id(function) in seen:
        return
    seen.add(id(function))
    yield from _code(function.__code__)
    yield from _told(function.__defaults__, seen)
    for item in sorted((function.__kwdefaults__ or {}).items()):
        yield from _told(item, seen)
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            continue
        yield from _told(content, seen)
    for name in _names(function.__code__):
        if name in function.__globals__:
            for line in _told(function.__globals__[name], seen):
                yield f"{name} = {line}"


def _code(code: types.CodeType) -> Iterator[str]:
    """What a function does, without where it stands."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _code(constant)
        elif isinstance(constant, frozenset):  # in no order of its own
            yield f"{sorted(map(repr, constant))}"
        else:
            yield repr(constant)


def _names(code: types.CodeType) -> list[str]:
    """Global names that a function and those inside it may read."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_names(constant))
    return sorted(names)


def _known(thing: Any) -> bool:
    home = (getattr(thing, "__module__", None) or "").partition(".")[0]
    # What is defined by `exec` without a name says that it is built in, too.
    built_in = home == "builtins" and getattr(builtins, thing.__name__, None) is thing
    return home in _KNOWN or built_in
