"""What the axes of a node are: places, channels, tokens.

What an operation is defined to do says it (`Axes`); where that is unknown, the input's aspect and the
maps seen before give it away, for `trace` and `graphs` alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# More class and register tokens than this no network has.
_MOST_PREFIX_TOKENS = 16
# Patches of other sides than these are not tried where no map was seen.
_PATCHES = range(2, 65)


def map_layout(shape: tuple[int, ...], size: tuple[int, int], channels_last: bool | None) -> str:
    """Which axes of three are the places: those whose ratio is the input's.

    Parameters
    ----------
    shape : tuple of three ints
        Of one image.
    size : tuple of int
        Height and width of the input.
    channels_last : bool or None
        What to take where both readings fit; None is the same as False.

    Returns
    -------
    {"map", "map-last", "other"}

    Examples
    --------
    >>> map_layout((512, 7, 7), (224, 224), None), map_layout((7, 7, 512), (224, 224), None)
    ('map', 'map-last')
    >>> map_layout((512, 15, 7), (480, 200), None)
    'map'
    """

    def places(height: int, width: int) -> bool:
        # Strided layers round: the shorter side may be one off, which the ratio makes more of the other.
        too_high = abs(height - width * size[0] / size[1])
        too_wide = abs(width - height * size[1] / size[0])
        return min(too_high, too_wide) <= 1

    first, last = places(shape[1], shape[2]), places(shape[0], shape[1])
    if first and last:
        return "map-last" if channels_last else "map"
    return "map" if first else "map-last" if last else "other"


@dataclass
class Grids:
    """Maps that were seen in a network, which its tokens may be the places of.

    Attributes
    ----------
    size : tuple of int
        Height and width of the input.
    seen : dict of int to (int, int)
        Number of places -> height and width.
    """

    size: tuple[int, int]
    seen: dict[int, tuple[int, int]] = field(default_factory=dict)

    def add(self, shape: tuple[int, ...], layout: str) -> None:
        """Note the places of a map."""
        if layout in ("map", "map-last"):
            height, width = shape[1:] if layout == "map" else shape[:2]
            self.seen[height * width] = (height, width)

    def tokens(
        self, shape: tuple[int, ...], prefix: int | None
    ) -> tuple[str, int, tuple[int, int]]:
        """Whether (a, b) is (tokens, channels), and what the tokens are.

        Parameters
        ----------
        shape : tuple of two ints
            Of one image.
        prefix : int or None
            What the network itself says about class and register tokens.

        Returns
        -------
        layout : {"tokens", "other"}
        prefix : int
            Tokens that stand before the patches.
        grid : tuple of int
            Height and width of the patches; (0, 0) where they form no grid.

        Examples
        --------
        >>> Grids((224, 224), {196: (14, 14)}).tokens((197, 768), None)
        ('tokens', 1, (14, 14))
        >>> Grids((224, 448)).tokens((393, 768), None)
        ('tokens', 1, (14, 28))
        """
        tokens, channels = shape
        found = self._before(self.seen, tokens)
        if found is None and self._before(self.seen, channels) is not None:
            return "other", 0, (0, 0)  # (channels, tokens)
        if found is None:
            found = self._before(self._possible(), tokens)
        told = found[0] if found else 0
        if prefix is not None and told != 0:
            # A place after the class token was taken out has patches alone: then nothing is before.
            told = min(prefix, tokens - 1)
        grid = self.seen.get(tokens - told) or self._possible().get(tokens - told, (0, 0))
        return "tokens", told, grid

    @staticmethod
    def _before(
        grids: dict[int, tuple[int, int]], count: int
    ) -> tuple[int, tuple[int, int]] | None:
        """The least number of tokens beside one of the grids, and that grid."""
        fitting = [
            (count - places, grid)
            for places, grid in grids.items()
            if 0 <= count - places <= _MOST_PREFIX_TOKENS
        ]
        return min(fitting, default=None)

    def _possible(self) -> dict[int, tuple[int, int]]:
        """Grids of square patches that cover the input without a rest."""
        height, width = self.size
        return {
            (height // side) * (width // side): (height // side, width // side)
            for side in _PATCHES
            if height % side == 0 == width % side
        }


def turned(layout: str, order: Sequence[int]) -> str:
    """The layout after the axes (n, ...) were permuted; empty where that is no map."""
    known: dict[tuple[str, tuple[int, ...]], str] = {
        ("map", (0, 2, 3, 1)): "map-last",
        ("map-last", (0, 3, 1, 2)): "map",
        ("map", (0, 1, 2, 3)): "map",
        ("map-last", (0, 1, 2, 3)): "map-last",
    }
    return known.get((layout, tuple(axis % 4 for axis in order)), "")
