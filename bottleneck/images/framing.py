"""Framing: which part of an image a network sees. RGB pixels in, one or several uint8 views out.

All resampling gives Pillow's values. Sizes of images are (width, height), as Pillow has them; sizes
of views are (h, w), as arrays have them.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ..errors import InputError
from .color import BadImage
from .decode import MAX_PIXELS
from .resample import resample

EXPECTED = (
    "crop, whole, pad, or tiles:RxC with R rows and C columns from 1 to 16, such as tiles:2x3"
)
MOST_TILES = 16  # along one side
_TILES = re.compile("tiles:([0-9]{1,2})x([0-9]{1,2})")


def parse_framing(text: str) -> tuple[str, int, int]:
    """Read ``--framing``.

    Parameters
    ----------
    text : str
        ``crop``, ``whole``, ``pad`` or ``tiles:RxC``.

    Returns
    -------
    kind : str
        ``crop``, ``whole``, ``pad`` or ``tiles``.
    rows, columns : int
        1 and 1 but for tiles.

    Raises
    ------
    InputError
        If it is none of these.

    Examples
    --------
    >>> parse_framing("tiles:2x3")
    ('tiles', 2, 3)
    """
    if text in ("crop", "whole", "pad"):
        return text, 1, 1
    tiles = _TILES.fullmatch(text) if isinstance(text, str) else None
    if tiles is None:
        raise _refusal(text)
    rows, columns = int(tiles[1]), int(tiles[2])
    if not (1 <= rows <= MOST_TILES and 1 <= columns <= MOST_TILES):
        raise _refusal(text, f"{rows} rows and {columns} columns")
    return "tiles", rows, columns


def canonical_framing(text: str) -> str:
    """The one spelling of a framing, so that ``tiles:02x3`` and ``tiles:2x3`` are one recipe."""
    kind, rows, columns = parse_framing(text)
    return f"tiles:{rows}x{columns}" if kind == "tiles" else kind


def _refusal(text: Any, why: str = "") -> InputError:
    return InputError(
        f"framing is {text!r}" + (f": {why}" if why else ""),
        expected=EXPECTED,
        where="--framing",
        next="leave it out for `crop`, the source's own",
    )


def resized_size(size: tuple[int, int], resize: int | tuple[int, int]) -> tuple[int, int]:
    """What size an image has before its centre is cut out.

    Parameters
    ----------
    size : tuple of int
        Width and height.
    resize : int or tuple of int
        The short side; or exactly (h, w), whatever the aspect.

    Returns
    -------
    tuple of int
        Width and height.

    References
    ----------
    torchvision.transforms.functional: ``_compute_resized_output_size``.

    Examples
    --------
    >>> resized_size((500, 375), 256), resized_size((500, 375), (224, 240))
    ((341, 256), (240, 224))
    """
    if not isinstance(resize, int):
        return resize[1], resize[0]
    width, height = size
    # The long side is cut off, not rounded, by `int`: torchvision's own way.
    long = int(resize * max(width, height) / min(width, height))
    return (resize, long) if width <= height else (long, resize)


def size_of(pixels: np.ndarray) -> tuple[int, int]:
    """Width and height of an array of shape (h, w, 3)."""
    return pixels.shape[1], pixels.shape[0]


def center_crop(
    pixels: np.ndarray,
    resize: int | tuple[int, int],
    crop: tuple[int, int],
    method: str,
    corner: str = "even",
) -> np.ndarray:
    """Resize, then cut out the centre; what is cut away is never computed.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
    resize : int or tuple of int
        As `resized_size` has it.
    crop : tuple of int
        (h, w).
    method : str
        As `resample` has it.
    corner : {"even", "down"}
        How half of an odd rest is rounded.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        Black where the resized image is smaller.

    Raises
    ------
    BadImage
        If the image is so long and narrow that resizing its short side would fill the memory.

    References
    ----------
    torchvision.transforms.functional: ``center_crop``; transformers.image_transforms: ``center_crop``.
    """
    width, height = size = resized_size(size_of(pixels), resize)
    if width * height > MAX_PIXELS:
        raise BadImage(
            f"{pixels.shape[1]}x{pixels.shape[0]} is too long and narrow: with a short side of "
            f"{resize} it would be {width}x{height} = {width * height / 1e6:.0f} MP"
        )
    # Where the image is smaller than the crop, torchvision first pads both sides with zeros, the odd
    # pixel going to the right and bottom.
    left, top = _offset(width, crop[1], corner), _offset(height, crop[0], corner)
    window = (max(left, 0), max(top, 0), min(width, crop[1]), min(height, crop[0]))
    seen = resample(pixels, size, method, window=window)
    if seen.shape[:2] == crop:
        return seen
    view = np.zeros((*crop, 3), dtype=np.uint8)
    x, y = max(-left, 0), max(-top, 0)
    view[y : y + window[3], x : x + window[2]] = seen
    return view


def _offset(side: int, crop: int, corner: str) -> int:
    if crop > side:
        return -((crop - side) // 2)
    # Python's `round` takes halves to the even number, and torchvision uses it.
    return (side - crop) // 2 if corner == "down" else round((side - crop) / 2)


def whole(pixels: np.ndarray, crop: tuple[int, int], method: str) -> np.ndarray:
    """Resize the whole image to (h, w); its aspect is not kept, nothing is cut away."""
    return resample(pixels, (crop[1], crop[0]), method)


def fitted_size(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int]:
    """The largest size of an image's own aspect that fits, rounded to pixels.

    Parameters
    ----------
    size : tuple of int
        Width and height.
    crop : tuple of int
        (h, w) to fit into.

    Returns
    -------
    tuple of int
        Width and height, at least 1; one of them is the crop's.

    Examples
    --------
    >>> fitted_size((500, 375), (224, 224)), fitted_size((9000, 1), (224, 224))
    ((224, 168), (224, 1))
    """
    (width, height), (crop_height, crop_width) = size, crop
    if width * crop_height >= height * crop_width:
        return crop_width, max(1, _rounded(height * crop_width, width))
    return max(1, _rounded(width * crop_height, height)), crop_height


def _rounded(numerator: int, denominator: int) -> int:
    return (2 * numerator + denominator) // (2 * denominator)  # halves up, in whole numbers


def pad(
    pixels: np.ndarray, crop: tuple[int, int], method: str, fill: tuple[int, int, int]
) -> np.ndarray:
    """Resize the whole image to fit, its aspect kept, in the middle of a plain colour.

    Parameters
    ----------
    pixels : ndarray of shape (h, w, 3), uint8
    crop : tuple of int
        (h, w).
    method : str
        As `resample` has it.
    fill : tuple of int
        Red, green and blue, 0 to 255.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        Of an odd number of rows or columns to fill, the odd one is at the bottom or right.
    """
    height, width = crop
    fitted = fitted_size(size_of(pixels), crop)
    view = np.empty((height, width, 3), dtype=np.uint8)
    view[:] = fill
    left, top = (width - fitted[0]) // 2, (height - fitted[1]) // 2
    view[top : top + fitted[1], left : left + fitted[0]] = resample(pixels, fitted, method)
    return view


def tile_boxes(
    size: tuple[int, int], rows: int, columns: int
) -> list[tuple[float, float, float, float]]:
    """Divide an image into equal cells, row by row.

    Returns
    -------
    list of (left, top, right, bottom)
        In pixels, fractions included; each cell ends exactly where the next begins.

    Examples
    --------
    >>> tile_boxes((500, 375), 1, 2)
    [(0.0, 0.0, 250.0, 375.0), (250.0, 0.0, 500.0, 375.0)]
    """
    across = [size[0] * column / columns for column in range(columns + 1)]
    down = [size[1] * row / rows for row in range(rows + 1)]
    return [
        (across[column], down[row], across[column + 1], down[row + 1])
        for row in range(rows)
        for column in range(columns)
    ]


def tiles(
    pixels: np.ndarray, crop: tuple[int, int], method: str, rows: int, columns: int
) -> np.ndarray:
    """Resize each cell of an image to (h, w).

    The filter reaches over a cell's border where that runs through or beside a pixel, as if the
    whole image had been resized and then cut; so no cell has an edge that the image has not.

    Returns
    -------
    ndarray of shape (rows * columns, h, w, 3), uint8
        Row by row.
    """
    size = (crop[1], crop[0])
    boxes = tile_boxes(size_of(pixels), rows, columns)
    return np.stack([resample(pixels, size, method, box=box) for box in boxes])
