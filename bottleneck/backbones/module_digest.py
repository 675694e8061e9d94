"""A hash of a module in memory: of its tensors, its structure, its state and its code.

Code is taken as Python has it loaded, not from files: a file may have been edited since, and a notebook
has none. So another version of Python makes another hash, and comments do not. `object_lines` tells
what hangs on a module; here is what is asked of it.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import secrets
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .hashes import add_tensors
from .object_kinds import LIBRARIES
from .object_lines import Teller

if TYPE_CHECKING:
    import torch

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# What stands for a thing that cannot be told: no other process has it.
_PROCESS = secrets.token_hex(16)
_numbers = itertools.count()
_met: dict[int, tuple[Callable[[], Any], int]] = {}


@dataclass(frozen=True, slots=True)
class ModuleDigest:
    """What a module is known by.

    Attributes
    ----------
    sha256 : str
        64 hexadecimal digits.
    untold : tuple of str
        Where things hang that no hash can tell: open files, compiled objects. If there are any, the
        digest is one of this process only.
    """

    sha256: str
    untold: tuple[str, ...]


def digest_of(module: torch.nn.Module) -> str:
    """SHA-256 of what decides a module's output, as `look_at` finds it."""
    return look_at(module).sha256


def look_at(module: torch.nn.Module) -> ModuleDigest:
    """A digest of what decides a module's output, and what it could not see.

    Seen are parameters, buffers and other tensors, wherever they hang; the modules' classes and
    ``repr``; all attributes that are not PyTorch's own: numbers, texts, dicts, sets, arrays, data
    classes, modules in plain lists, objects with their attributes; the code of classes, hooks and
    functions that are not of PyTorch, torchvision, timm, transformers, NumPy or the standard library,
    with the constants, functions and modules that they take from their surroundings. Not seen: what
    code reads from files or looks up by a name that it makes up, and compiled extensions' code.

    Returns
    -------
    ModuleDigest
        The same in every process, unless something could not be told.
    """
    teller = Teller()
    tensors = teller.own_tensors(module)
    teller.line(_ADDRESS.sub("", repr(module)))
    teller.module(module, "")
    digest = hashlib.sha256()
    for line in teller.lines:
        digest.update(f"{len(line)} {line}\n".encode("utf-8", "surrogatepass"))
    add_tensors(digest, {**tensors, **teller.tensors})
    for thing in teller.untold.values():
        digest.update(f"{_PROCESS} {os.getpid()} {_number(thing)}\n".encode())
    return ModuleDigest(digest.hexdigest(), tuple(teller.untold))


def _number(thing: Any) -> int:
    """A number for an object, which no other one of this process gets, not even after its end."""
    known = _met.get(id(thing))
    if known is not None and known[0]() is thing:
        return known[1]
    number = next(_numbers)
    try:
        held: Callable[[], Any] = weakref.ref(thing)
    except TypeError:  # then it is kept, or its place in memory might become another's
        held = partial(_itself, thing)
    _met[id(thing)] = (held, number)
    return number


def _itself(thing: Any) -> Any:
    return thing


__all__ = ["LIBRARIES", "ModuleDigest", "digest_of", "look_at"]
