"""The nodes of a network in PyTorch, in forward order, with their shapes; and what each needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .axes import Axes
from .base import PENULTIMATE, Whole
from .layers import Node
from .layouts import Grids, map_layout
from .watch import Watch, tensor_of

# Images of the pass that is watched: a number that is rarely a count of anything else, so that a first
# axis of this length is the batch.
_BATCH = 5


@dataclass
class Trace:
    """What one forward pass showed.

    Attributes
    ----------
    nodes : list of Node
        In forward order; ``penultimate`` where the classifier is entered.
    needs : dict of str to int
        For each parameter and buffer that was used, by its name in ``state_dict()``: the number of
        nodes that were complete before it was first used.
    """

    nodes: list[Node] = field(default_factory=list)
    needs: dict[str, int] = field(default_factory=dict)

    def needed_for(self, names: set[str]) -> set[str]:
        """Parameters and buffers without which these nodes cannot be computed."""
        last = max(i for i, node in enumerate(self.nodes) if node.name in names)
        return {name for name, before in self.needs.items() if before <= last}


def trace(whole: Whole, size: tuple[int, int]) -> Trace:
    """Run a network once, on whatever device its parameters are, and note what comes by.

    Parameters
    ----------
    whole : Whole
        On the meta device nothing is computed, only shapes.
    size : tuple of int
        Height and width of the input.

    Returns
    -------
    Trace
    """
    found = Trace()
    taken: set[str] = set()
    owners: dict[int, list[str]] = {}
    for name, tensor in (
        *whole.module.named_parameters(remove_duplicate=False),
        *whole.module.named_buffers(remove_duplicate=False),
    ):
        owners.setdefault(id(tensor), []).append(name)
    axes = Axes()
    told: list[str] = []  # the layout of each node, as far as an operation said it

    def need(tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            # Shared tensors stand in a file under each of their names.
            for name in owners.get(id(tensor), ()):
                found.needs.setdefault(name, len(found.nodes))

    def called(
        function: Any, tensors: list[torch.Tensor], args: Any, kwargs: Any, result: Any
    ) -> None:
        need(tensors)
        axes.called(function, tensors, args, kwargs, result)

    def entered(name: str, module: torch.nn.Module, given: torch.Tensor | None) -> None:
        if name and name == whole.classifier and given is not None:
            kind = f"input of {name}"
            found.nodes.append(
                Node(PENULTIMATE.node, kind, tuple(given.shape[1:]), "", module=name)
            )
            told.append(axes.layout(given))
        need([*module.parameters(recurse=False), *module.buffers(recurse=False)])

    def seen(module: str, function: str, call: int, tensor: torch.Tensor) -> None:
        shape = tuple(tensor.shape)
        if len(shape) < 2 or shape[0] != _BATCH or not tensor.is_floating_point():
            return
        plain = ".".join(part for part in (module, function) if part) or "output"
        name = plain if call == 0 else f"{plain}_{call}"
        while name in taken:
            name += "_"
        taken.add(name)
        kind = function or type(modules[module]).__name__
        found.nodes.append(Node(name, kind, shape[1:], "", 0, module, function, call))
        told.append(axes.layout(tensor))

    modules = dict(whole.module.named_modules())
    watch = Watch(whole.module, None, functions=True, seen=seen, entered=entered, called=called)
    device = next((p.device for p in whole.module.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            result = watch.run(torch.zeros((_BATCH, 3, *size), device=device))
    finally:
        watch.remove()
    if whole.classifier is None:
        own = tensor_of(result)
        if own is not None:
            found.nodes.append(Node(PENULTIMATE.node, "output", tuple(own.shape[1:]), ""))
            told.append(axes.layout(own))
    found.nodes = _with_layouts(found.nodes, told, whole, size)
    return found


def _with_layouts(
    nodes: list[Node], told: list[str], whole: Whole, size: tuple[int, int]
) -> list[Node]:
    """The same nodes, each told what its axes are."""
    grids = Grids(size)
    result = []
    for node, said in zip(nodes, told, strict=True):
        layout, prefix, grid = "other", 0, (0, 0)
        if len(node.shape) == 1:
            layout = "vector"
        elif len(node.shape) == 3:
            layout = said or map_layout(node.shape, size, whole.channels_last)
            grids.add(node.shape, layout)
        elif len(node.shape) == 2:
            layout, prefix, grid = grids.tokens(node.shape, whole.prefix_tokens)
        result.append(replace(node, layout=layout, prefix=prefix, grid=grid))
    return result
