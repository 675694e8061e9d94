"""A ``torch.nn.Module`` of the user's: ``bp.extract(images, backbone=module)``.

It is copied and left as it was. Its identity is a hash of its tensors and of its code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...images.preprocess import Preprocessing
from ..base import MEMORY, Entry, Weights, Whole
from ..module_digest import LIBRARIES, look_at

if TYPE_CHECKING:
    import torch

# Sizes at which a network of unknown input is tried, the usual one first.
_SIZES = tuple((side, side) for side in (224, 256, 299, 384, 336, 518, 448, 512, 128, 96, 64, 32))


class Module:
    """The source of modules; they have no name on the command line."""

    prefix = "module"
    summary = "bp.extract(images, backbone=module): a torch.nn.Module, in Python"

    def entry(self, name: str) -> Entry:
        """Raises always: a module is given, not named."""
        raise InputError(
            f"module/{name} was given in Python and cannot be made from its name",
            expected="the module itself",
            where="--backbone",
            next="bp.extract(images, backbone=module)",
        )


SOURCE = Module()


def from_module(module: torch.nn.Module) -> tuple[Entry, Weights]:
    """A module as a backbone, its tensors hashed; the module itself is neither changed nor kept.

    Parameters
    ----------
    module : torch.nn.Module
        On any device, in any mode. Takes normalised activations (n, 3, h, w) float32.

    Returns
    -------
    entry : Entry
        Its notes say which node was taken as the penultimate one, and what of the module cannot be
        hashed: then its features are reused within this process only.
    weights : Weights
        Without a file; `sha256` is ``tensors:`` and the hash of `module_digest.look_at`.

    Raises
    ------
    InputError
        If it cannot be copied or run, or gives two results for one image.
    """
    import torch

    from ..foreign import first_running

    if not isinstance(module, torch.nn.Module):
        raise InputError(f"the backbone is {type(module).__name__}", expected="a torch.nn.Module")
    original = _unwrapped(module)
    if isinstance(original, torch.jit.ScriptModule):
        raise InputError(
            "a scripted module cannot be looked into",
            expected="the torch.nn.Module that it was made from",
            next="or torch.onnx.export, and --backbone FILE.onnx",
        )
    frozen = _copy(original)
    name = type(original).__name__
    found = first_running(prepared(frozen, None), _sizes(original))
    words = found.words if found else "told when it is built"
    notes = [f"penultimate of {name}: {words}"]
    if any(part._forward_hooks or part._forward_pre_hooks for part in original.modules()):
        notes.append(f"{name} has hooks of its own; they run with it")
    seen = look_at(original)
    if seen.untold:
        more = f" and {len(seen.untold) - 3} more" if len(seen.untold) > 3 else ""
        notes.append(
            f"{name} holds what cannot be told from another by its content ("
            f"{', '.join(place.lstrip('.') for place in seen.untold[:3])}{more}): its features are "
            "known again within this process only; if you change such a thing, start a new process"
        )
    entry = Entry(
        name=f"module/{name}",
        source="module",
        architecture=name,
        weights=None,
        preprocessing=partial(_preprocessing, frozen, name),
        build=_builder(frozen),
        libraries=_libraries(original),
        stable=False,
        notes=tuple(notes),
    )
    return entry, Weights(None, f"{MEMORY}{seen.sha256}", f"the tensors of {name}")


def _unwrapped(module: torch.nn.Module) -> torch.nn.Module:
    """The module inside of what trains it on several devices or compiles it."""
    import torch

    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while isinstance(module, parallel) or hasattr(module, "_orig_mod"):
        inner = module.module if isinstance(module, parallel) else module._orig_mod
        assert isinstance(inner, torch.nn.Module)
        module = inner
    return module


def _copy(module: torch.nn.Module, *, meta: bool = False, share: bool = False) -> torch.nn.Module:
    """A frozen copy on the CPU in float32 and evaluation mode.

    On the meta device it has no values; shared, it has those of the module, which must be frozen.
    """
    import torch

    memo: dict[int, Any] = {}

    def moved(tensor: torch.Tensor) -> torch.Tensor:
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        if meta:
            return torch.empty_like(tensor, dtype=dtype, device="meta")
        return tensor.detach().to("cpu", dtype, copy=not share)

    for part in module.modules():
        for value in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if not isinstance(value, torch.Tensor) or id(value) in memo:
                continue
            if torch.nn.parameter.is_lazy(value):
                raise InputError(
                    "the module has parameters without a shape yet",
                    expected="a module that has seen a batch",
                    next="run it once on an image before",
                )
            new = moved(value)
            is_parameter = isinstance(value, torch.nn.Parameter)
            memo[id(value)] = torch.nn.Parameter(new, requires_grad=False) if is_parameter else new
    try:
        copied = copy.deepcopy(module, memo)
    # Whatever a user's own attributes may raise: locks, files, generators.
    except Exception as error:
        raise InputError(
            f"{type(module).__name__} cannot be copied: {type(error).__name__}: {error}",
            expected="a module that copy.deepcopy takes",
            next="take out what it holds beside its layers, or give its weights to a named backbone",
        ) from error
    return copied.eval().requires_grad_(False)


def _builder(frozen: torch.nn.Module) -> Callable[[tuple[int, int]], Whole]:
    @cache
    def classifier(size: tuple[int, int]) -> str | None:
        from ..foreign import classifier_of

        # From the values: what has none does not show what its output is made of.
        return classifier_of(prepared(frozen, size), size).name

    def build(size: tuple[int, int]) -> Whole:
        import torch

        module = prepared(_copy(frozen, meta=torch.empty(0).is_meta, share=True), size)
        return Whole(
            module,
            classifier(size),
            prefix_tokens=getattr(module, "num_prefix_tokens", None),
            channels_last=getattr(module, "output_fmt", None) == "NHWC" or None,
        )

    return build


def prepared(module: torch.nn.Module, size: tuple[int, int] | None) -> torch.nn.Module:
    """The same module, made to return one tensor where it is one of transformers."""
    if hasattr(module, "config") and type(module).__module__.startswith("transformers."):
        from ..transformers_models import prepare

        if not next(module.parameters()).is_meta:
            module = _copy(module, share=True)
        prepare(module, size or _own_size(module) or (224, 224))
    return module


def _own_size(module: torch.nn.Module) -> tuple[int, int] | None:
    """The input size that a module's configuration states."""
    configuration = getattr(module, "pretrained_cfg", None) or {}
    if isinstance(configuration, dict) and configuration.get("input_size"):
        return tuple(configuration["input_size"][-2:])
    side = getattr(getattr(module, "config", None), "image_size", None)
    return (side, side) if isinstance(side, int) else None


def _sizes(module: torch.nn.Module) -> list[tuple[int, int]]:
    own = _own_size(module)
    return [*([own] if own else []), *(size for size in _SIZES if size != own)]


def _libraries(module: torch.nn.Module) -> tuple[str, ...]:
    homes = {type(part).__module__.partition(".")[0] for part in module.modules()}
    return ("torch", *(name for name in LIBRARIES[1:] if name in homes))


def _preprocessing(frozen: torch.nn.Module, name: str) -> Preprocessing:
    from ..foreign import preprocessing_of_module

    return preprocessing_of_module(frozen, f"a module of your own ({name})")
