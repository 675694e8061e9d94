"""What the axes of a node are, told from its shape: places, channels, tokens.

A network does not say which of its axes are which; for `trace` and `onnx_graph` alike the input's
aspect and the maps seen before give it away.
"""

from __future__ import annotations

from math import isqrt

# More class and register tokens than this no network has.
_MOST_PREFIX_TOKENS = 16


def map_layout(shape: tuple[int, ...], aspect: float, channels_last: bool | None) -> str:
    """Which axes of three are the places: those whose ratio is the input's.

    Parameters
    ----------
    shape : tuple of three ints
        Of one image.
    aspect : float
        The input's height over its width.
    channels_last : bool or None
        What to take where both readings fit; None is the same as False.

    Returns
    -------
    {"map", "map-last", "other"}

    Examples
    --------
    >>> map_layout((512, 7, 7), 1.0, None), map_layout((7, 7, 512), 1.0, None)
    ('map', 'map-last')
    """

    def places(height: int, width: int) -> bool:
        # Strided layers round: a side may be one off.
        return abs(height - width * aspect) <= 1

    first, last = places(shape[1], shape[2]), places(shape[0], shape[1])
    if first and last:
        return "map-last" if channels_last else "map"
    return "map" if first else "map-last" if last else "other"


def token_layout(shape: tuple[int, ...], grids: set[int], prefix: int | None) -> tuple[str, int]:
    """Whether (a, b) is (tokens, channels), and how many tokens stand before the patches.

    Parameters
    ----------
    shape : tuple of two ints
        Of one image.
    grids : set of int
        Numbers of places of the maps that were seen before.
    prefix : int or None
        What the network itself says about class and register tokens.

    Returns
    -------
    layout : {"tokens", "other"}
    prefix : int

    Examples
    --------
    >>> token_layout((197, 768), {196}, None), token_layout((49, 1024), {49}, None)
    (('tokens', 1), ('tokens', 0))
    """
    tokens, channels = shape

    def before(count: int) -> int | None:
        extra = [count - grid for grid in grids if 0 <= count - grid <= _MOST_PREFIX_TOKENS]
        return min(extra) if extra else None

    told = before(tokens)
    if told is None and before(channels) is not None:
        return "other", 0  # (channels, tokens)
    if prefix is not None:
        # A place after the class token was taken out has patches alone.
        return "tokens", 0 if told == 0 else min(prefix, tokens - 1)
    return "tokens", told if told is not None else tokens - isqrt(tokens) ** 2
