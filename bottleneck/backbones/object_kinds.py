"""What kind of thing a Python object is: whose code, where its state lies, which names it asks for."""

from __future__ import annotations

import builtins
import dis
import functools
import sys
import types
from typing import Any

# Code of these is known by its version, which the environment records.
LIBRARIES = ("torch", "torchvision", "timm", "transformers")
_KNOWN = {*LIBRARIES, "numpy", *sys.stdlib_module_names}


@functools.cache
def names_of_pytorch() -> frozenset[str]:
    """Attributes that PyTorch gives every module; parameters and parts are told by themselves."""
    import torch

    own = {name for name in vars(torch.nn.Module()) if name.startswith("_")}
    return frozenset(own | {"training", "_compiled_call_impl", "_is_torch_compile"})


def is_of_python(cls: type) -> bool:
    """Whether all that an object holds stands in its attributes, and none in memory of C's."""
    pointer = object.__basicsize__ // 2
    places = (cls.__dictoffset__ > 0) + (cls.__weakrefoffset__ > 0) + len(slots_of(cls))
    has_any = bool(cls.__dictoffset__) or bool(places) or cls.__basicsize__ == object.__basicsize__
    fits = cls.__basicsize__ <= object.__basicsize__ + pointer * places
    return has_any and fits and not cls.__itemsize__


def slots_of(cls: type) -> list[str]:
    """Attributes that stand in slots, of all base classes; their names as Python mangles them."""
    found = []
    for base in cls.__mro__:
        slots = base.__dict__.get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            private = name.startswith("__") and not name.endswith("__")
            if name not in ("__dict__", "__weakref__"):
                found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return found


def names_in(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Global names that a function and those inside it read, and all names they use."""
    asked = {
        step.argval
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = names_in(constant)
            asked |= inner[0]
            names |= inner[1]
    return asked, names


def is_known_home(home: str) -> bool:
    """Whether a module, by its name, is one whose version says what its code is."""
    return home.partition(".")[0] in _KNOWN - {"builtins"}


def is_known(thing: Any) -> bool:
    """Whether a class or function is of such a module."""
    home = getattr(thing, "__module__", None) or ""
    # What is defined by `exec` without a name says that it is built in, too.
    built_in = home == "builtins" and getattr(builtins, thing.__name__, None) is thing
    return is_known_home(home) or built_in


def is_installed(thing: Any) -> bool:
    """Whether code is of an installed package."""
    home = thing if isinstance(thing, types.ModuleType) else sys.modules.get(thing.__module__ or "")
    file = getattr(home, "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file
