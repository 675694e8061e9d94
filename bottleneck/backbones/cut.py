"""A network cut at some of its nodes: pixels through it once, a vector for each cut out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from .base import PENULTIMATE, Output
from .layers import GEM_POWER, Node, effective_pooling, grid_of
from .watch import Done, Watch, tensor_of


class Cut(torch.nn.Module):
    """Runs a network up to the last node that is wanted, and no further.

    Parameters
    ----------
    network : torch.nn.Module
        The whole network.
    nodes : sequence of Node
        Of that network.
    outputs : sequence of Output
    """

    def __init__(
        self, network: torch.nn.Module, nodes: Sequence[Node], outputs: Sequence[Output]
    ) -> None:
        super().__init__()
        self.network = network
        by_name = {node.name: node for node in nodes}
        self._order = list(outputs)
        # Address of a result -> the outputs made of it.
        self._wanted: dict[tuple[str, str, int], list[Output]] = {}
        self._entries: dict[str, list[Output]] = {}
        self._nodes = {output: by_name[output.node] for output in outputs}
        self._own: list[Output] = []
        for output in outputs:
            node = self._nodes[output]
            if node.name != PENULTIMATE.node:
                address = (node.module, node.function, node.call)
                self._wanted.setdefault(address, []).append(output)
            elif node.module:
                self._entries.setdefault(node.module, []).append(output)
            else:
                self._own.append(output)
        self._caught: dict[Output, torch.Tensor] = {}
        modules = [module for module, function, _ in self._wanted if not function]
        self._watch = Watch(
            network,
            [*modules, *self._entries],
            functions=any(function for _, function, _ in self._wanted),
            seen=self._seen,
            entered=self._entered,
        )

    def forward(self, activations: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """A vector (n, d) for each output, of normalised activations (n, 3, h, w) float32."""
        self._caught = {}
        result = tensor_of(self._watch.run(activations))
        if result is not None:
            for output in self._own:
                self._catch(output, result)
        caught, self._caught = self._caught, {}
        return tuple(caught[output] for output in self._order)

    def _seen(self, module: str, function: str, call: int, tensor: torch.Tensor) -> None:
        for output in self._wanted.get((module, function, call), ()):
            self._catch(output, tensor)
        self._stop_if_done()

    def _entered(self, name: str, module: torch.nn.Module, given: torch.Tensor | None) -> None:
        wanted = [each for each in self._entries.get(name, ()) if each not in self._caught]
        if given is None or not wanted:
            return
        for output in wanted:
            self._catch(output, given)
        self._stop_if_done()

    def _catch(self, output: Output, tensor: torch.Tensor) -> None:
        # Pooled at once: the next layer may write into the same memory (ReLU in place).
        self._caught[output] = pool(tensor, self._nodes[output], output.pooling)

    def _stop_if_done(self) -> None:
        # The exporter follows its own hooks to the end; what is not needed falls out of its graph.
        if len(self._caught) == len(self._order) and not torch.compiler.is_exporting():
            raise Done


def pool(tensor: torch.Tensor, node: Node, pooling: str) -> torch.Tensor:
    """Make a vector (n, d) of a node's value (n, ...); never a view of it.

    References
    ----------
    GeM: F. Radenović, G. Tolias, O. Chum, "Fine-tuning CNN image retrieval with no human annotation",
    TPAMI 2018, arXiv:1711.02512, with p = 3 and values below 1e-6 raised to it.
    """
    pooling = effective_pooling(node, pooling)
    if pooling in ("none", "flatten"):
        return tensor.flatten(1).clone()
    if pooling == "cls":
        return tensor[:, 0].clone()
    places = _places(tensor, node)  # (n, c, places)
    if pooling in ("avg", "patches"):
        return places.mean(2)
    if pooling == "max":
        return places.amax(2)
    if pooling == "gem":
        return places.clamp(min=1e-6).pow(GEM_POWER).mean(2).pow(1 / GEM_POWER)
    rows, columns = (int(side) for side in pooling.split("x"))
    height, width = grid_of(node)
    grid = places.reshape(places.shape[0], places.shape[1], height, width)
    return functional.adaptive_avg_pool2d(grid, (rows, columns)).flatten(1)


def _places(tensor: torch.Tensor, node: Node) -> torch.Tensor:
    """(n, c, places), whatever the layout; class and register tokens left out."""
    if node.layout == "map":
        return tensor.flatten(2)
    if node.layout == "map-last":
        return tensor.flatten(1, 2).transpose(1, 2)
    return tensor[:, node.prefix :].transpose(1, 2)
