"""What PyTorch's functions do to the axes of a map: told by their definition, not by shapes."""

from __future__ import annotations

from typing import Any

import torch

from .layouts import turned
from .watch import function_name

# Defined for (n, c, h, w).
_CHANNELS_FIRST = {
    "conv2d", "conv_transpose2d", "batch_norm", "instance_norm", "group_norm", "max_pool2d",
    "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "max_pool2d_with_indices",
    "boolean_dispatch", "interpolate", "pixel_shuffle", "pixel_unshuffle", "local_response_norm",
    "lp_pool2d",
}  # fmt: skip
# Act on the last axis.
_CHANNELS_LAST = {"linear", "layer_norm"}
# Their result's axes are others, or not what the argument's were.
_RESHAPING = {
    "view", "reshape", "flatten", "unflatten", "matmul", "bmm", "einsum", "getitem", "squeeze",
    "unsqueeze", "expand", "scaled_dot_product_attention", "multi_head_attention_forward", "unfold",
    "fold", "movedim", "swapaxes", "as_strided",
}  # fmt: skip


class Axes:
    """Layouts of the tensors of one forward pass, by what made them."""

    def __init__(self) -> None:
        # Kept alive, so that no other tensor gets the same identity.
        self._known: dict[int, tuple[torch.Tensor, str]] = {}

    def layout(self, tensor: torch.Tensor) -> str:
        """``map`` or ``map-last``; empty where no operation has said it."""
        return self._known.get(id(tensor), (tensor, ""))[1]

    def called(
        self, function: Any, tensors: list[torch.Tensor], args: Any, kwargs: Any, result: Any
    ) -> None:
        """Follow one call."""
        if not isinstance(result, torch.Tensor) or result.ndim != 4:
            return
        told = self._told(function_name(function), tensors, args, kwargs, result)
        # A function in place gives back the tensor it was given, which may be another thing now.
        self._known[id(result)] = (result, told)

    def _told(
        self, word: str, tensors: list[torch.Tensor], args: Any, kwargs: Any, result: torch.Tensor
    ) -> str:
        if word in _CHANNELS_FIRST:
            return "map"
        given = [self.layout(each) for each in tensors if each.ndim == 4]
        known = next((layout for layout in given if layout), "")
        if word in _CHANNELS_LAST:
            return "map-last"
        if word in ("permute", "transpose"):
            order = _order(word, args, kwargs)
            return turned(known, order) if order is not None else ""
        return "" if word in _RESHAPING else known


def _order(word: str, args: Any, kwargs: Any) -> list[int] | None:
    """The axes after a permutation, in terms of those before it."""
    rest = [*args[1:], *(value for name, value in kwargs.items() if name != "input")]
    if len(rest) == 1 and isinstance(rest[0], tuple | list):
        rest = list(rest[0])
    if not all(isinstance(axis, int) for axis in rest):
        return None
    if word == "permute":
        return rest if len(rest) == 4 else None
    order = [0, 1, 2, 3]
    if len(rest) != 2:
        return None
    a, b = (axis % 4 for axis in rest)
    order[a], order[b] = order[b], order[a]
    return order
