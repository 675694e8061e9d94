"""A network as a plain graph in a lower precision: batch norms folded, weights cast once.

A `FeatureNetwork` in, a `torch.fx.GraphModule` for one batch shape out. What is cut off is not in the
graph, and unlike the network itself several threads may run it at the same time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any

import torch
from torch.fx import GraphModule, Node
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ..backbones.proof import pictures, relative_error
from ..errors import EngineError
from .network import FeatureNetwork

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

_aten = torch.ops.aten
_CONVOLUTIONS = (_aten.conv2d.default, _aten.conv2d.padding)
# Autocast casts the weights of these at every call.
_CAST = (*_CONVOLUTIONS, _aten.conv1d.default, _aten.linear.default)
# Largest relative error of the graph before anything is cast: folding only reorders a product.
_SAME = 1e-5


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Run what is within in a precision, as PyTorch's autocast does: sums and norms in float32."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], DTYPES[precision])


class Lowered(torch.nn.Module):
    """A graph with its precision around it, float32 coming out; for what compiles a module.

    Parameters
    ----------
    graph : torch.fx.GraphModule
    device, precision : str
    """

    def __init__(self, graph: GraphModule, device: str, precision: str) -> None:
        super().__init__()
        self.network = graph  # not `graph`: of a module that was traced that is another thing
        self.device, self.precision = device, precision

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Features (n, d) float32 of `images` (n, h, w, 3) uint8, a tensor for each output."""
        with autocast(self.device, self.precision):
            return tuple(each.float() for each in self.network(images))


def lower(
    network: FeatureNetwork, *, size: tuple[int, int], batch_size: int, device: str, precision: str
) -> GraphModule:
    """The graph of a network for one batch shape.

    Parameters
    ----------
    network : FeatureNetwork
        On the device already.
    size : tuple of int
        Height and width.
    batch_size : int
    device : str
    precision : str
        What it will be run in, under `autocast`; for ``fp32`` batch norms are folded all the same.

    Returns
    -------
    torch.fx.GraphModule
        Takes (batch_size, h, w, 3) uint8 and returns a tuple of features.

    Raises
    ------
    EngineError
        If the network cannot be traced, or its graph gives other features.
    """
    images = torch.from_numpy(pictures(batch_size, size)).to(device)
    with torch.inference_mode():
        wanted = [each.cpu().numpy() for each in network(images)]
    try:
        with torch.no_grad():
            # Not strict: hooks and Python's own control flow are followed as they run.
            exported = torch.export.export(network, (images,), strict=False)
        graph = exported.module(check_guards=False)  # the engine sees to the shape
        _drop_checks(graph)
        _fold_batch_norms(graph)
        with torch.inference_mode():
            found = [each.cpu().numpy() for each in graph(images)]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # torch.export lets through whatever a network's code raises
        raise EngineError(
            f"PyTorch cannot trace the network: {str(error).strip().splitlines()[:1]}",
            where=f"--precision {precision}",
            next="give --engine eager --precision fp32",
        ) from error
    gap = max(float(relative_error(a, b).max()) for a, b in zip(found, wanted, strict=True))
    if not gap <= _SAME:
        raise EngineError(
            f"the graph that PyTorch traced gives other features: {gap:.2g} of their length",
            expected=f"at most {_SAME:g}",
            where=f"--precision {precision}",
            next="give --engine eager --precision fp32",
        )
    if precision != "fp32":
        _cast_weights(graph, DTYPES[precision])
    _drop_unused(graph)
    return graph


def _drop_checks(graph: GraphModule) -> None:
    """Remove what asserts types, which autocast is there to change, and what nobody needs."""
    for node in list(graph.graph.nodes):
        if node.target is _aten._assert_tensor_metadata.default:
            graph.graph.erase_node(node)
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _fold_batch_norms(graph: GraphModule) -> None:
    """Multiply each batch norm into the convolution before it, where nothing else reads that one."""
    for norm in list(graph.graph.nodes):
        if norm.target is not _aten.batch_norm.default:
            continue
        conv, *parameters = norm.args[:5]
        training, _momentum, eps = norm.args[5:8]
        if training or not isinstance(conv, Node) or conv.target not in _CONVOLUTIONS:
            continue
        kernel, bias = conv.args[1], conv.args[2] if len(conv.args) > 2 else None
        values = [_value(graph, each) for each in (kernel, bias, *parameters)]
        weight, bias_, scale, shift, mean, variance = values
        if len(conv.users) > 1 or weight is None or mean is None or variance is None:
            continue
        folded = fuse_conv_bn_weights(weight, bias_, mean, variance, eps, scale, shift)
        with graph.graph.inserting_before(conv):
            new = [_constant(graph, tensor.detach()) for tensor in folded]
            fused = graph.graph.call_function(
                conv.target, (conv.args[0], *new, *conv.args[3:]), dict(conv.kwargs)
            )
        norm.replace_all_uses_with(fused)
        graph.graph.erase_node(norm)
        graph.graph.erase_node(conv)
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


def _cast_weights(graph: GraphModule, dtype: torch.dtype) -> None:
    """Cast now what autocast would cast at every call; the features are bitwise the same."""
    for node in list(graph.graph.nodes):
        if node.target not in _CAST:
            continue
        for place in (1, 2):
            old = node.args[place] if len(node.args) > place else None
            value = _value(graph, old)
            if value is None or value.dtype != torch.float32:
                continue
            lower_value = value.detach().to(dtype)
            if lower_value.ndim == 4:
                lower_value = lower_value.contiguous(memory_format=torch.channels_last)
            with graph.graph.inserting_before(node):
                node.update_arg(place, _constant(graph, lower_value))
    graph.graph.eliminate_dead_code()
    graph.graph.lint()
    graph.recompile()


def _drop_unused(graph: GraphModule) -> None:
    """Free the weights that no node reads any more."""
    used = {node.target for node in graph.graph.nodes if node.op == "get_attr"}
    for store in ("_parameters", "_buffers"):
        for name, module in list(graph.named_modules()):
            for key in list(getattr(module, store)):
                if (f"{name}.{key}" if name else key) not in used:
                    delattr(module, key)


def _value(graph: GraphModule, node: Any) -> torch.Tensor | None:
    """The weight that a node reads; None where it is none."""
    if not isinstance(node, Node) or node.op != "get_attr":
        return None
    value = reduce(getattr, str(node.target).split("."), graph)
    return value if isinstance(value, torch.Tensor) else None


def _constant(graph: GraphModule, value: torch.Tensor) -> Node:
    """A node that reads a new weight."""
    name = f"_lowered_{len(graph._buffers)}"
    graph.register_buffer(name, value)
    return graph.graph.get_attr(name)
