"""From an entry and a file of weights to a cut network in memory, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from ..errors import InputError
from .base import Backbone, Entry, Whole
from .cut import Cut
from .layers import Node
from .matching import refuse_more_blocks
from .trace import Trace, trace
from .weights import fit, load_state_dict


def build(entry: Entry, size: tuple[int, int]) -> Whole:
    """The whole network on the CPU, in evaluation mode; its weights are left to chance."""
    assert entry.build is not None, f"{entry.name} is no network in PyTorch"
    whole = entry.build(size)
    whole.module.eval().requires_grad_(False)
    return whole


def trace_shapes(entry: Entry, size: tuple[int, int]) -> Trace:
    """The nodes of a network without computing any, where it can be done."""
    return _shapes(entry, size)[1]


def _shapes(entry: Entry, size: tuple[int, int]) -> tuple[Whole, Trace]:
    try:
        with torch.device("meta"):
            whole = build(entry, size)
        return whole, trace(whole, size)
    except (RuntimeError, AssertionError, ValueError):
        # Control flow that looks at values: these have to be there.
        whole = build(entry, size)
    try:
        return whole, trace(whole, size)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"{entry.name} cannot be run on images of {size[0]}x{size[1]}: {error}",
            where="--crop",
            next="leave --crop away, or give a size that its patches and windows divide",
        ) from error


def load(
    backbone: Backbone, tell: Callable[[str], None] = lambda text: None
) -> tuple[Cut, list[Node], int]:
    """The cut network with its weights, frozen: evaluation mode, no gradients.

    Parameters
    ----------
    backbone : Backbone
    tell : callable
        Hears what had to be done to the file's names to make them fit.

    Returns
    -------
    network : Cut
    nodes : list of Node
    unused : int
        Tensors of the file that lie behind the cut, or belong to no part of the network.

    Raises
    ------
    WeightsError
        If the weights cannot be read, or tensors before the cut are missing or of another shape.
    """
    entry, size = backbone.entry, backbone.preprocessing.crop
    names = {output.node for output in backbone.outputs}
    if backbone.weights.random:
        seed = int(backbone.weights.sha256.rpartition(":")[2])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # for what `randomise` leaves as the network draws it
            whole = build(entry, size)
        found = trace_shapes(entry, size)
        randomise(whole.module, seed)
        return Cut(whole.module, found.nodes, backbone.outputs), found.nodes, 0
    if backbone.weights.in_memory:  # a module of the user's, weights and all
        whole = build(entry, size)
        found = trace(whole, size)
        return Cut(whole.module, found.nodes, backbone.outputs), found.nodes, 0
    state = load_state_dict(backbone.weights.file())
    # Without storage first: VGG16's random start would take longer than reading its weights.
    whole, found = _shapes(entry, size)
    unused = _fill(whole.module, found, names, entry, state, tell)
    if _unfilled(whole.module):
        # Tensors that the network computes when it is built and that no file holds.
        whole = build(entry, size)
        unused = _fill(whole.module, found, names, entry, state)
    return Cut(whole.module, found.nodes, backbone.outputs), found.nodes, unused


def _fill(
    module: torch.nn.Module,
    found: Trace,
    names: set[str],
    entry: Entry,
    state: Mapping[str, torch.Tensor],
    tell: Callable[[str], None] = lambda text: None,
) -> int:
    """Put weights where the cut network needs them, and nothing that costs memory elsewhere."""
    needed = found.needed_for(names)
    own = module.state_dict()
    before = {name: tensor for name, tensor in own.items() if name in needed}
    read: list[Mapping[str, torch.Tensor]] = []

    def adapt(state: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
        read.append(entry.adapt(state, module))
        return read[-1]

    matched, unused = fit(state, before, entry.name, adapt=adapt, tell=tell)
    fitting = max(read, key=lambda each: sum(name in each for name in before))
    refuse_more_blocks(fitting, own, before, entry.name)
    for name, tensor in own.items():
        if name not in matched:
            # Behind the cut: never read. One zero, seen as many, so that exporters find a tensor.
            zero = torch.zeros((), dtype=tensor.dtype)
            matched[name] = zero.expand(tensor.shape) if tensor.ndim else zero
    module.load_state_dict(matched, assign=True)
    module.requires_grad_(False)
    return unused


def _unfilled(module: torch.nn.Module) -> bool:
    """Whether any tensor of a network still has no storage."""
    for part in module.modules():
        for value in (*part._parameters.values(), *part._buffers.values(), *vars(part).values()):
            if _has_meta(value):
                return True
    return False


def _has_meta(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return value.is_meta
    if isinstance(value, list | tuple):
        return any(_has_meta(each) for each in value)
    if type(value) is dict:
        return any(_has_meta(each) for each in value.values())
    return False


# What torchvision, timm, transformers and DINOv2's own code call the factors of LayerScale.
_LAYER_SCALES = ("gamma", "gamma_1", "gamma_2", "layer_scale", "layer_scale_parameter", "lambda1")


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Seeded random weights at a scale that keeps images apart through many layers.

    References
    ----------
    K. He et al., "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852: standard deviation
    sqrt(2 / fan-in) for convolutions and linear layers; here biases 0, LayerScale 1 (at its usual
    start, 1e-6 to 0.1, a deep network hardly looks at its image), other parameters as their network
    sets them.
    """
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] in _LAYER_SCALES and parameter.abs().max() <= 0.1:
            parameter.data.fill_(1)
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        weight = getattr(part, "weight", None)
        if isinstance(part, torch.nn.Linear | torch.nn.modules.conv._ConvNd) and weight is not None:
            fan_in = weight[0].numel()
            weight.data.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            if part.bias is not None:
                part.bias.data.zero_()
