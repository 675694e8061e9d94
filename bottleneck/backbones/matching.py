"""Tensors of a file fitted to a network by name and shape, one way only.

Names are taken as they are, or without a prefix that trainers put before them; what does not fit is
listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from ..errors import WeightsError

if TYPE_CHECKING:
    import torch

# What data-parallel training, torch.compile and trainers put before a network's own names.
PREFIXES = ("module", "_orig_mod", "model", "backbone", "encoder", "net", "teacher", "student")
_PREFIX = re.compile(rf"(?:(?:{'|'.join(PREFIXES)})\.)+")


def fit(
    state: Mapping[str, torch.Tensor],
    network: Mapping[str, torch.Tensor],
    where: str,
    *,
    adapt: Callable[[Mapping[str, torch.Tensor]], Mapping[str, torch.Tensor]] = lambda state: state,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, torch.Tensor], int]:
    """The tensors that a cut network needs, found under a trainer's prefix where there is one.

    Names are taken as they are if they fit. Otherwise a prefix out of `PREFIXES` is dropped, if all
    that is needed carries it, and if what is left fits in names and shapes, and if that is so for
    one prefix only.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        As the file has it.
    network : mapping of str to torch.Tensor
        What is needed, with the shapes it must have.
    where : str
        The backbone, for the error.
    adapt : callable
        Renames the file's tensors to those of the network.
    tell : callable
        Hears what was dropped.

    Returns
    -------
    tensors : dict of str to torch.Tensor
        One for every key of `network`.
    unused : int
        Tensors of the file that the network does not need.

    Raises
    ------
    WeightsError
        Listing what is missing or has another shape, or is quantised or of another kind; or two
        readings that both fit.
    """
    plain = adapt(state)
    if not faults(plain, network):
        return match(plain, network, where), _unused(state, plain, network)
    readings = {}
    for prefix in _prefixes(state):
        inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        adapted = adapt(inside)
        if not faults(adapted, network):
            readings[prefix] = match(adapted, network, where), _unused(state, adapted, network)
    if len(readings) > 1:
        names = ", ".join(f"'{prefix}'" for prefix in readings)
        raise WeightsError(
            f"the file holds {len(readings)} networks that fit, under {names}",
            expected=f"one network, {where}",
            where="--weights",
            next=f"save one of them: {_saving(next(iter(readings)))}",
        )
    if not readings:
        return match(plain, network, where), 0  # raises
    prefix, found = next(iter(readings.items()))
    tell(f"weights: names in the file begin with '{prefix}', which was dropped")
    return found


def _prefixes(state: Mapping[str, torch.Tensor]) -> Iterator[str]:
    """Every prefix made of `PREFIXES` that stands in the file, the shortest first."""
    found: set[str] = set()
    for name in state:
        whole = _PREFIX.match(name)
        parts = whole[0].split(".")[:-1] if whole else []
        found.update(".".join(parts[: i + 1]) + "." for i in range(len(parts)))
    yield from sorted(found, key=lambda prefix: (prefix.count("."), prefix))


def _unused(
    state: Mapping[str, torch.Tensor],
    adapted: Mapping[str, torch.Tensor],
    network: Mapping[str, torch.Tensor],
) -> int:
    return max(len(state), len(adapted)) - sum(name in adapted for name in network)


def faults(state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps tensors from fitting a network, each by name and shape."""
    found = []
    for name, tensor in network.items():
        wanted = tuple(tensor.shape)
        if name not in state:
            # torch before 0.4 kept no such counter, and inference never reads it.
            if not name.endswith("num_batches_tracked"):
                found.append(f"{name} {wanted} is missing")
        elif state[name].shape != tensor.shape:
            found.append(f"{name} is {tuple(state[name].shape)}, not {wanted}")
    return found


def match(
    state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor], where: str
) -> dict[str, torch.Tensor]:
    """The tensors that a cut network needs, out of a file for the whole one.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        As the file has it; what lies behind the cut (the classifier) is left out.
    network : mapping of str to torch.Tensor
        ``state_dict()`` of the cut network.
    where : str
        The backbone, for the error.

    Returns
    -------
    dict of str to torch.Tensor
        One for every key of `network`.

    Raises
    ------
    WeightsError
        Listing up to five tensors that are missing or have another shape, and how the names differ
        where they do so throughout; or those whose values are of another kind.
    """
    import torch

    found = faults(state, network)
    if found:
        more = f" and {len(found) - 5} more" if len(found) > 5 else ""
        hint, way_out = _difference(state, network)
        raise WeightsError(
            f"the weights do not fit: {'; '.join(found[:5])}{more}{hint}",
            expected=f"{len(network)} tensors of {where}",
            where="--weights",
            next=way_out or "give the file that belongs to this backbone, or another --backbone",
        )
    other = [
        f"{name} is {_dtype(state[name])}, not {_dtype(tensor)}"
        for name, tensor in network.items()
        if name in state and not same_kind(state[name], tensor, name)
    ]
    if other:
        more = f" and {len(other) - 5} more" if len(other) > 5 else ""
        raise WeightsError(
            "the weights are quantised, complex or of another kind than the network's: "
            f"{'; '.join(other[:5])}{more}",
            expected=f"{where} in float32, float16, bfloat16 or float64",
            where="--weights",
            next="give the file as it was before it was quantised; its integers mean nothing "
            "without their scales",
        )
    return {
        # A half-precision file would else make a half-precision network, where tensors are assigned.
        name: state[name].to(tensor.dtype)
        if name in state
        else torch.zeros_like(tensor, device="cpu")
        for name, tensor in network.items()
    }


def same_kind(tensor: torch.Tensor, wanted: torch.Tensor, name: str) -> bool:
    """Whether a file's tensor keeps its meaning when it is cast to the type of the network's.

    Floating point to floating point does, but for eight bits: those come with scales of their own.
    Integers and flags do where no value changes; some trainers save them in half precision.
    """
    import torch

    if name.endswith("num_batches_tracked"):  # averaged by some; inference never reads it
        return True
    if wanted.is_floating_point():
        floats = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
        return tensor.dtype in floats
    if tensor.is_complex() or wanted.is_complex():
        return tensor.is_complex() and wanted.is_complex()
    if tensor.is_quantized:
        return False
    # One that only stands for a shape, as those of another shape in an error.
    return tensor.is_meta or torch.equal(tensor.to(wanted.dtype).to(tensor.dtype), tensor)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _difference(
    state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor]
) -> tuple[str, str]:
    """How the file's names differ from the network's, and what mends it; empty if not by a rule."""
    missing = [name for name in network if name not in state]
    if not missing:
        return "", ""
    for name in state:
        if name.endswith(f".{missing[0]}"):
            prefix = name.removesuffix(missing[0])
            if sum(prefix + each in state for each in missing) > len(missing) / 2:
                return f". The file's names begin with '{prefix}'", f"save {_saving(prefix)}"
    for dot in re.finditer(r"\.", missing[0]):
        prefix = missing[0][: dot.end()]
        bare = [each.removeprefix(prefix) for each in missing if each.startswith(prefix)]
        if sum(each in state for each in bare) > len(missing) / 2:
            return f". The file's names lack '{prefix}' at their beginning", ""
    if len(missing) == len(network) and state:
        some = ", ".join(list(state)[:3])
        return f". The file has other names: {some}, ...", ""
    return "", ""


def _saving(prefix: str) -> str:
    return (
        f"{{k.removeprefix('{prefix}'): v for k, v in state.items() if k.startswith('{prefix}')}}"
    )


def refuse_more_blocks(
    state: Mapping[str, torch.Tensor],
    whole: Mapping[str, torch.Tensor],
    needed: Mapping[str, torch.Tensor],
    where: str,
) -> None:
    """Raise a WeightsError if a file has more numbered blocks than the network, before the cut.

    ResNet-34's tensors hold all that ResNet-18 asks for, name by name and shape by shape; the features
    would be of neither.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        As the file has it, under the network's names.
    whole, needed : mapping of str to torch.Tensor
        All tensors of the network, and those before the cut.
    where : str
        The backbone, for the error.
    """
    there = {part for name in whole for part in _ancestors(name)}
    rows = {part for name in needed for part in _ancestors(name)}
    more = [
        name
        for name in state
        if any(
            block.rpartition(".")[2].isdecimal()
            and block not in there
            and block.rpartition(".")[0] in rows
            for block in _ancestors(name)
        )
    ]
    if more:
        shown = ", ".join(more[:3])
        raise WeightsError(
            f"the file has {len(more)} tensors of blocks that {where} has not: {shown}"
            + (" ..." if len(more) > 3 else ""),
            expected=f"weights of {where}, not of a deeper network",
            where="--weights",
            next="give the --backbone that the file belongs to",
        )


def _ancestors(name: str) -> list[str]:
    """``a.0.b`` lies in ``a`` and ``a.0``."""
    parts = name.split(".")[:-1]
    return [".".join(parts[: i + 1]) for i in range(len(parts))]
