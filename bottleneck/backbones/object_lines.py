"""Lines of text that tell a Python object from others: its values, its parts, its code.

Two objects with the same lines (and tensors) do the same, as far as can be seen; what cannot be seen is
listed. No line holds an address, a time or a path.
"""

from __future__ import annotations

import contextlib
import copyreg
import enum
import functools
import io
import logging
import types
import typing
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .object_kinds import (
    is_installed,
    is_known,
    is_known_home,
    is_of_python,
    names_in,
    names_of_pytorch,
    slots_of,
)

if TYPE_CHECKING:
    import torch

_PLAIN = (int, float, complex, str, bytes, bytearray, bool, type(None), range, slice)
_PLAIN_TYPES = {*_PLAIN, type(Ellipsis), type(NotImplemented)}
# Told by their names: what C defines, and what has no say in a result.
_NAMED = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
    types.GetSetDescriptorType,
    types.MemberDescriptorType,
)
_TYPING = (types.GenericAlias, types.UnionType, typing.TypeVar, typing.ParamSpec)
# What Python itself puts into a class: the place in the file among it.
_OF_PYTHON = {
    *("__module__", "__doc__", "__dict__", "__weakref__", "__slots__", "__abstractmethods__"),
    *("__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__"),
    *("__annotate_func__", "__annotations_cache__", "__orig_bases__", "__parameters__"),
    *("__dataclass_fields__", "__dataclass_params__", "__match_args__", "_abc_impl"),
}
# A module that holds a whole data set is better not walked to its end.
_MOST = 100_000
_DEEPEST = 100


class Teller:
    """Collects the lines and tensors of one module.

    Attributes
    ----------
    lines : list of str
    tensors : dict of str to torch.Tensor
        By where they hang; those that are no parameter or buffer of the module.
    untold : dict of str to object
        What cannot be told, by where it hangs.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.tensors: dict[str, torch.Tensor] = {}
        self.untold: dict[str, Any] = {}
        # By address, with the objects themselves: what is freed on the way leaves its address.
        self._seen: dict[int, tuple[str, Any]] = {}
        self._depth = 0
        self._elsewhere = 0
        self._own = names_of_pytorch()

    def line(self, text: str) -> None:
        """Add a line."""
        self.lines.append(text)

    def own_tensors(self, module: torch.nn.Module) -> dict[str, torch.Tensor]:
        """Parameters and buffers by name; elsewhere they are then told by these names."""
        found = {
            **dict(module.named_parameters(remove_duplicate=False)),
            **dict(module.named_buffers(remove_duplicate=False)),
        }
        told = {}
        for name, tensor in found.items():
            self._seen[id(tensor)] = (name, tensor)
            strided = self._strided(tensor, name)
            if strided is not None:
                told[name] = strided
        return told

    def module(self, module: torch.nn.Module, where: str) -> None:
        """Tell a module, its parts, what hangs on them, their hooks and classes."""
        for name, part in module.named_modules():
            self._seen.setdefault(id(part), (f"{where}{name}", part))
        for name, part in module.named_modules():
            place = f"{where}{name}"
            self.line(f"{place}: {type(part).__module__}.{type(part).__qualname__}")
            for key, value in sorted(vars(part).items()):
                if key not in self._own:
                    self.tell(value, f"{place}.{key}")
            for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
                self.tell(hook, f"{place} hook")
            for base in type(part).__mro__:
                self.tell(base, f"{place} class")

    def tell(self, value: Any, where: str) -> None:
        """Tell one value, or remember that it cannot be told."""
        if type(value) in _PLAIN_TYPES:
            self.line(f"{where} = {value!r}")
            return
        if id(value) in self._seen:
            self.line(f"{where} as {self._seen[id(value)][0]}")
            return
        if len(self._seen) > _MOST or self._depth > _DEEPEST:
            self._cannot(value, where)
            return
        self._seen[id(value)] = (where, value)
        self._depth += 1
        try:
            self._told(value, where)
        # Objects of others may raise whatever they like when they are looked at.
        except Exception:
            self._cannot(value, where)
        finally:
            self._depth -= 1

    def _cannot(self, value: Any, where: str) -> None:
        self.line(f"{where} is a {type(value).__module__}.{type(value).__qualname__}")
        if not self._elsewhere:  # what other people's functions keep is theirs
            again = f" ({len(self.untold)})" if where in self.untold else ""
            self.untold[f"{where}{again}"] = value

    def _told(self, value: Any, where: str) -> None:
        import torch

        if isinstance(value, torch.Tensor):
            self._tensor(value, where)
        elif isinstance(value, torch.nn.Module):
            for name, tensor in self.own_tensors(value).items():
                self._keep(tensor, f"{where}.{name}")
            self.module(value, f"{where}.")
        elif isinstance(value, torch.Generator):
            self.tell(value.get_state(), where)
        elif isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format):
            self.line(f"{where} = {value}")
        elif isinstance(value, enum.Enum):
            self.line(f"{where} = {type(value).__qualname__}.{value.name}")
            self.tell(value.value, f"{where}.value")
            self.tell(type(value), f"{where} class")
        elif isinstance(value, type):
            self._class(value, where)
        elif not (self._numpy(value, where) or self._container(value, where)):
            self._callable_or_object(value, where)

    def _tensor(self, tensor: torch.Tensor, where: str) -> None:
        strided = self._strided(tensor, where)
        if strided is not None:
            self.line(f"{where} tensor")
            self._keep(strided, where)

    def _keep(self, tensor: torch.Tensor, where: str) -> None:
        # Counted: two functions of one name may each bring one along under it.
        self.tensors[f"{where} {len(self.tensors)}"] = tensor

    def _strided(self, tensor: torch.Tensor, where: str) -> torch.Tensor | None:
        """A tensor whose bytes are its values; None where it has none that can be had."""
        import torch

        if tensor.is_meta or torch.nn.parameter.is_lazy(tensor):
            self.line(f"{where} is without values, {tensor.dtype}")
            return None
        tensor = tensor.detach()
        if tensor.is_quantized:
            self.line(f"{where} {tensor.qscheme()} {tensor.dtype}")
            if tensor.qscheme() in (torch.per_tensor_affine, torch.per_tensor_symmetric):
                self.line(f"{where} {tensor.q_scale()!r} {tensor.q_zero_point()!r}")
            else:
                self.tell(tensor.q_per_channel_scales(), f"{where} scales")
                self.tell(tensor.q_per_channel_zero_points(), f"{where} zeros")
            return tensor.int_repr()
        if tensor.layout != torch.strided:
            self.line(f"{where} {tensor.layout}")
            return tensor.to_dense()
        return tensor.resolve_conj().resolve_neg()

    def _numpy(self, value: Any, where: str) -> bool:
        import numpy as np

        if isinstance(value, np.ma.MaskedArray):
            self.tell(np.asarray(value.data), f"{where}.data")
            self.tell(np.asarray(value.mask), f"{where}.mask")
        elif isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            self.line(f"{where} {type(value).__qualname__} {array.dtype!r} {array.shape}")
            if array.dtype.hasobject:
                self.tell(array.tolist(), where)
            else:
                self.tell(array.tobytes(), where)
        elif isinstance(value, np.dtype | np.ufunc):
            self.line(f"{where} = {value!r}")
        else:
            return False
        return True

    def _container(self, value: Any, where: str) -> bool:
        """Tell a dict, list, tuple or set, or a class made of one, element by element."""
        if isinstance(value, dict | types.MappingProxyType):
            self.line(f"{where} {type(value).__qualname__} of {len(value)}")
            for i, (key, each) in enumerate(value.items()):
                plain = type(key) in _PLAIN_TYPES
                if not plain:
                    self.tell(key, f"{where} key {i}")
                self.tell(each, f"{where}[{key!r}]" if plain else f"{where}[{i}]")
        elif isinstance(value, list | tuple):
            self.line(f"{where} {type(value).__qualname__} of {len(value)}")
            for i, each in enumerate(value):
                self.tell(each, f"{where}[{i}]")
        elif isinstance(value, set | frozenset):
            self._set(value, where)
        else:
            return False
        if type(value) not in (dict, list, tuple, set, frozenset, types.MappingProxyType):
            self._attributes(value, where)
            self.tell(type(value), f"{where} class")
        return True

    def _set(self, value: Any, where: str) -> None:
        """In no order of Python's: each element is told as if it were the first thing to be told."""
        lines, seen = self.lines, self._seen
        told = []
        for each in value:
            if type(each) in _PLAIN_TYPES:
                told.append(repr(each))
                continue
            self.lines, self._seen = [], dict(seen)
            self.tell(each, f"{where} element")
            told.append("\n".join(self.lines))
        self.lines, self._seen = lines, seen
        self.line(f"{where} {type(value).__qualname__} of {len(value)}")
        self.lines += sorted(told)

    def _callable_or_object(self, value: Any, where: str) -> None:
        if isinstance(value, functools.partial):
            self.line(f"{where} partial")
            self.tell([value.func, value.args, value.keywords], where)
        elif isinstance(value, types.MethodType):
            self.tell(value.__func__, where)
            self.tell(value.__self__, f"{where} of")
        elif isinstance(value, staticmethod | classmethod):
            self.line(f"{where} {type(value).__name__}")
            self.tell(value.__func__, where)
        elif isinstance(value, property):
            self.tell(value.fget, where)
        elif isinstance(value, types.FunctionType):
            self._function(value, where)
        elif isinstance(value, types.BuiltinFunctionType):
            self.line(f"{where} built-in {value.__qualname__}")
            if not isinstance(value.__self__, types.ModuleType | type(None)):
                self.tell(value.__self__, f"{where} of")
        elif isinstance(value, types.CodeType):
            self._code(value, where)
        elif isinstance(value, _NAMED):
            self.line(f"{where} {value.__qualname__}")
        elif isinstance(value, types.ModuleType):
            self._module_of_python(value, where, set(vars(value)))
        elif isinstance(value, weakref.ref):
            self.tell(value(), where)
        elif isinstance(value, logging.Logger | logging.Handler):
            self.line(f"{where} writes a log")
        elif isinstance(value, _TYPING) or type(value).__module__ == "typing":
            self.line(f"{where} = {value!r}")
        elif isinstance(value, io.IOBase):
            self._cannot(value, where)
        elif hasattr(value, "__wrapped__") and not hasattr(value, "__dict__"):
            self.tell(value.__wrapped__, where)
        else:
            self._object(value, where)

    def _object(self, value: Any, where: str) -> None:
        cls = type(value)
        if cls.__module__ in ("_thread", "threading"):  # locks decide when, not what
            self.line(f"{where} is a {cls.__qualname__}")
        elif is_of_python(cls):
            self._attributes(value, where)
            self.tell(cls, f"{where} class")
        else:
            # What C made: as it would be copied or pickled, which files and the like refuse.
            by_table = copyreg.dispatch_table.get(cls)
            reduced = by_table(value) if by_table else value.__reduce_ex__(4)
            if isinstance(reduced, str):
                self.line(f"{where} = {reduced}")
                return
            made, arguments, state, *items = (*reduced, None, None, None)[:5]
            self.tell([made, arguments, state], where)
            for each in items:
                self.tell(None if each is None else list(each), f"{where} items")

    def _attributes(self, value: Any, where: str) -> None:
        for key, each in sorted(getattr(value, "__dict__", {}).items(), key=str):
            self.tell(each, f"{where}.{key}")
        for key in slots_of(type(value)):
            if hasattr(value, key):
                self.tell(getattr(value, key), f"{where}.{key}")

    def _class(self, cls: type, where: str) -> None:
        self.line(f"{where} class {cls.__module__}.{cls.__qualname__}")
        if is_known(cls):
            return
        with self._inside(cls):
            for base in cls.__bases__:
                self.tell(base, f"{cls.__qualname__} base")
            for key, value in sorted(vars(cls).items()):
                if key not in _OF_PYTHON:
                    self.tell(value, f"{cls.__qualname__}.{key}")

    def _function(self, function: types.FunctionType, where: str) -> None:
        self.line(f"{where} function {function.__module__}.{function.__qualname__}")
        if is_known(function):
            return
        with self._inside(function):
            self._function_body(function, function.__qualname__)

    def _function_body(self, function: types.FunctionType, name: str) -> None:
        self._code(function.__code__, name)
        self.tell(function.__defaults__, f"{name} defaults")
        self.tell(function.__kwdefaults__, f"{name} defaults by name")
        asked, attributes = names_in(function.__code__)
        for key, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            self._global(content, f"{name} around: {key}", attributes)
        if vars(function):
            self.tell(dict(vars(function)), f"{name} attributes")
        for key in sorted(asked):
            if key in function.__globals__:
                self._global(function.__globals__[key], f"{name} global: {key}", attributes)

    def _global(self, value: Any, where: str, attributes: set[str]) -> None:
        """A value from outside a function; of a module, what the function may take from it."""
        if isinstance(value, types.ModuleType):
            self._module_of_python(value, where, attributes)
        else:
            self.tell(value, where)

    def _module_of_python(self, value: types.ModuleType, where: str, attributes: set[str]) -> None:
        self.line(f"{where} module {value.__name__} {getattr(value, '__version__', '')}")
        if is_known_home(value.__name__) or value.__name__ == "builtins":
            return
        with self._inside(value):
            for key in sorted(attributes & set(vars(value))):
                if key.startswith("__"):
                    continue
                # Each name once on the way down, so that modules that hold each other come to an end.
                self._global(vars(value)[key], f"{where}.{key}", attributes - {key})

    @contextlib.contextmanager
    def _inside(self, thing: Any) -> Iterator[None]:
        """Inside an installed package's code, what cannot be told is not asked about."""
        elsewhere = is_installed(thing)
        self._elsewhere += elsewhere
        try:
            yield
        finally:
            self._elsewhere -= elsewhere

    def _code(self, code: types.CodeType, where: str) -> None:
        """What a function does, without where it stands."""
        names = f"{code.co_names} {code.co_varnames} {code.co_freevars}"
        self.line(f"{where} {code.co_code.hex()} {names}")
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant, where)
            elif isinstance(constant, frozenset):  # in no order of its own
                self.line(f"{sorted(map(repr, constant))}")
            else:
                self.line(repr(constant))
