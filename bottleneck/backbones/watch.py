"""Watch a forward pass: each result of a module or a function, under a name that is always the same.

Names follow torchvision's ``feature_extraction``: the dotted path of a module; for a function the path
of the module whose ``forward`` calls it and its name; ``_1``, ``_2`` for later calls. Unlike symbolic
tracing this runs the network's own Python, so that control flow does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

# What a function is called where it is written as an operator, or changes its argument in place.
_SPELLED = {"truediv": "div", "radd": "add", "rmul": "mul", "rsub": "sub", "rtruediv": "div"}
_IN_PLACE = {"iadd": "add", "imul": "mul", "isub": "sub", "itruediv": "div"}
# Small layers of the libraries: what they call inside is no place to cut.
_LIBRARIES = ("torch.", "torchvision.", "timm.", "transformers.")

Seen = Callable[[str, str, int, torch.Tensor], None]
Called = Callable[[Any, list[torch.Tensor], Any, Any, Any], None]
Entered = Callable[[str, torch.nn.Module, torch.Tensor | None], None]


class Done(BaseException):
    """Everything that was wanted has been seen: the rest of the network need not be computed.

    Not an `Exception`, so that a network that catches its own errors does not swallow it.
    """


def tensor_of(value: Any) -> torch.Tensor | None:
    """The tensor that a result is about: itself, or the first of a tuple, list, dict or model output."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        return next((each for each in value if isinstance(each, torch.Tensor)), None)
    return None


class Watch:
    """Hooks on some modules of a network, and on functions where these are wanted too.

    Parameters
    ----------
    network : torch.nn.Module
    modules : iterable of str or None
        Names of modules to watch; None watches all.
    functions : bool
        Also see the functions that a module's ``forward`` calls. Costs some microseconds a call.
    seen : callable
        ``seen(module, function, call, tensor)`` for every result; may raise `Done`.
    entered : callable, optional
        ``entered(name, module, first input)`` before a watched module runs; may raise `Done`.
    called : callable, optional
        ``called(function, tensors it takes, args, kwargs, result)`` for every function of torch.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        modules: Iterable[str] | None,
        *,
        functions: bool,
        seen: Seen,
        entered: Entered | None = None,
        called: Called | None = None,
    ) -> None:
        self._network = network
        self._seen = seen
        self._entered = entered
        self._called = called
        self._functions = functions
        self._calls: dict[tuple[str, str], int] = {}
        self._stack: list[tuple[str, torch.nn.Module]] = []
        wanted = None if modules is None or functions else set(modules)
        self._handles: list[Any] = []
        self._running = False
        for name, module in network.named_modules():
            if wanted is None or name in wanted:
                self._hook(name, module)

    def _hook(self, name: str, module: torch.nn.Module) -> None:
        # Outside of `run` the network is whole, for whoever else uses it.
        def before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            if not self._running:
                return
            self._stack.append((name, module))
            if self._entered is not None:
                with self._unwatched():
                    self._entered(name, module, tensor_of((*args, *kwargs.values())))

        def after(module: torch.nn.Module, args: Any, result: Any) -> None:
            if not self._running:
                return
            self._stack.pop()
            tensor = tensor_of(result)
            if tensor is not None:
                call = self._count(name, "")
                with self._unwatched():
                    self._seen(name, "", call, tensor)

        self._handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        self._handles.append(module.register_forward_hook(after))

    def remove(self) -> None:
        """Take the hooks off again."""
        for handle in self._handles:
            handle.remove()

    def run(self, activations: torch.Tensor) -> Any:
        """One forward pass; None if it ended early because everything had been seen."""
        self._calls.clear()
        self._stack.clear()
        self._running = True
        try:
            if not self._functions:
                return self._network(activations)
            with _Functions(self):
                return self._network(activations)
        except Done:
            return None
        finally:
            self._running = False

    @contextmanager
    def _unwatched(self) -> Iterator[None]:
        """What is done with a result (pooling) is not a part of the network."""
        self._running = False
        try:
            yield
        finally:
            self._running = True

    def _count(self, module: str, function: str) -> int:
        number = self._calls.get((module, function), 0)
        self._calls[module, function] = number + 1
        return number

    def saw_call(self, function: Any, args: Any, kwargs: Any, result: Any) -> None:
        """One call of a function of torch, from `_Functions`."""
        if not self._running or not self._stack:
            return
        if self._called is not None:
            with self._unwatched():
                self._called(function, list(_tensors((args, kwargs))), args, kwargs, result)
        name, module = self._stack[-1]
        if not isinstance(result, torch.Tensor) or not result.is_floating_point():
            return
        if name and _is_small(module):
            return
        word = function_name(function)
        if word:
            call = self._count(name, word)
            with self._unwatched():
                self._seen(name, word, call, result)


def _is_small(module: torch.nn.Module) -> bool:
    ours = f"{type(module).__module__}.".startswith(_LIBRARIES)
    return ours and next(module.children(), None) is None


def function_name(function: Any) -> str:
    """A function's name in a node; empty for what computes nothing (reading an attribute)."""
    word = getattr(function, "__name__", "").strip("_")
    word = _IN_PLACE.get(word, _SPELLED.get(word, word))
    return "" if word in ("", "get", "set", "contiguous", "to", "detach", "clone") else word


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


class _Functions(TorchFunctionMode):
    """Tells a `Watch` of every function of torch that is called from Python."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self._watch.saw_call(func, args, kwargs, result)
        return result
