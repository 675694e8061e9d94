"""Preprocessing: an upright RGB image in, the uint8 pixels (h, w, 3) that a network takes out.

By default equal to torchvision's ``Resize(resize) -> CenterCrop(crop)`` on PIL images, pixel by
pixel. Mean and standard deviation travel along; the network applies them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, RecipeError
from ..recipe import differences
from . import phash
from .color import color_rules
from .decode import MAX_PIXELS
from .framing import (
    canonical_framing,
    center_crop,
    fitted_size,
    pad,
    parse_framing,
    resized_size,
    tiles,
    whole,
)
from .jpeg import trusted
from .payload import Pixels, to_pixels
from .resample import passes
from .value_range import canonical_range, parse_range

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
CORNERS = ("even", "down")
DECODES = ("full", "scaled")
# libjpeg's slow integer DCT, Pillow's default: another one gives other pixels, so it is recorded.
JPEG_DCT = "islow"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image is framed and scaled, as a part of a recipe.

    Attributes
    ----------
    resize : int or tuple of int
        In pixels. An int is the short side after resizing; a pair is exactly (h, w), whatever the
        aspect, as some sources squash their images. Only the framing ``crop`` uses it.
    crop : tuple of int
        Height and width of what the network takes, in pixels; the centre crop's, or each view's.
    interpolation : str
        One of `INTERPOLATIONS`.
    mean, std : tuple of three floats
        Per channel, for pixels in 0..1: the network subtracts and divides. Not applied here.
    framing : str, default "crop"
        ``crop``: resize, then cut out the centre; what most sources do. ``whole``: resize all of
        the image to `crop`, its aspect not kept. ``pad``: resize all of it to fit, its aspect kept,
        in the middle of the mean colour. ``tiles:RxC``, R and C from 1 to 16: a view for each of
        R x C equal cells, for small things in large images.
    range : str, default "full"
        Which values are black and white in images of more than 8 bits a channel (16 bits, 32-bit
        integers, floats); images of 8 bits are left alone. ``full``: the type's own range.
        ``bits:N``, N from 1 to 16: 0 and 2^N - 1, for cameras that use N bits of 16. ``LOW:HIGH``:
        these two numbers, linear between; what lies beyond is clipped, and counted.
    corner : str, default "even"
        Where a centre crop begins if an odd number of pixels is left over: half of them rounded to
        the ``even`` number, as torchvision and timm do, or ``down``, as Hugging Face transformers do.
    decode : str, default "full"
        ``full``: every pixel of a file. ``scaled``: JPEG files larger than four times what the
        framing needs are decoded two, four or eight times smaller, at least twice as large as
        needed; several times faster, and other pixels.

    Examples
    --------
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> Preprocessing.from_recipe(p.to_recipe()) == p
    True
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    framing: str = "crop"
    range: str = "full"
    corner: str = "even"
    decode: str = "full"

    def __post_init__(self) -> None:
        if self.corner not in CORNERS:
            raise InputError(f"corner is {self.corner!r}", expected=" or ".join(CORNERS))
        if self.decode not in DECODES:
            raise InputError(
                f"decode is {self.decode!r}",
                expected=" or ".join(DECODES),
                where="--decode",
                next="leave it out for `full`, every pixel of a file",
            )
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation is {self.interpolation!r}", expected=", ".join(INTERPOLATIONS)
            )
        # One spelling for one meaning: these fields decide the fingerprint.
        object.__setattr__(self, "framing", canonical_framing(self.framing))
        object.__setattr__(self, "range", canonical_range(self.range))
        resize, crop = _whole_numbers(self.resize), _whole_numbers(self.crop)
        object.__setattr__(self, "resize", resize)
        object.__setattr__(self, "crop", crop)
        sides = resize if isinstance(resize, tuple) else (resize, resize)
        if not (_are_sides(sides) and _are_sides(crop)):
            raise InputError(
                f"resize is {self.resize!r}, crop is {self.crop!r}",
                expected="at least 1 pixel each: resize a short side or (h, w), crop (h, w)",
                where="--resize and --crop",
                next="leave them out for the source's own",
            )
        if self.views * self.crop[0] * self.crop[1] > MAX_PIXELS:
            raise InputError(
                f"{self.framing} with views of {self.crop[0]}x{self.crop[1]} pixels makes "
                f"{self.views * self.crop[0] * self.crop[1] / 1e6:.0f} MP of an image",
                expected=f"at most {MAX_PIXELS / 1e6:.0f} MP",
                where="--framing and --crop",
                next="fewer tiles, or a smaller crop",
            )
        numbers = len(self.mean) == len(self.std) == 3 and min(self.std) > 0
        if not numbers or not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise InputError(
                f"mean is {self.mean}, std is {self.std}",
                expected="three finite numbers each, one a channel, and std above 0",
            )

    @property
    def views(self) -> int:
        """How many views an image gives: R x C for tiles, else 1."""
        _, rows, columns = parse_framing(self.framing)
        return rows * columns

    @property
    def decoding(self) -> Hashable:
        """What decides how a file becomes pixels: equal for two that can share a decoded image."""
        if self.decode == "full":
            return self.range
        return self.range, self.framing, self.resize, self.crop

    def to_recipe(self) -> dict[str, Any]:
        """The recipe's share as plain JSON data, the colour rules included."""
        recipe: dict[str, Any] = {
            "framing": self.framing,
            "resize": list(self.resize) if isinstance(self.resize, tuple) else self.resize,
            "crop": list(self.crop),
            "interpolation": self.interpolation,
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "color": color_rules(parse_range(self.range)),
            "jpeg": JPEG_DCT,
        }
        # Absent where it is the default, as in files from before there was a choice.
        if self.range != "full":
            recipe["range"] = self.range
        if self.corner != "even":
            recipe["corner"] = self.corner
        if self.decode != "full":
            recipe["decode"] = self.decode
        return recipe

    @classmethod
    def from_recipe(cls, recipe: dict[str, Any]) -> Preprocessing:
        """Read back what `to_recipe` gave; other keys of the recipe are left alone.

        Parameters
        ----------
        recipe : dict
            From a feature file or a probe.

        Raises
        ------
        RecipeError
            If a field is missing, or pixels were made by rules that this version does not follow.
        InputError
            If a field has a value that this version does not know.
        """
        missing = [key for key in _KEYS if key not in recipe]
        if missing:
            raise RecipeError(
                f"the recipe's preprocessing lacks {', '.join(missing)}",
                expected=", ".join(_KEYS),
                next="extract the features again",
            )
        values = recipe.get("range", "full")
        ours = {"color": color_rules(parse_range(values)), "jpeg": JPEG_DCT}
        for key, rules in ours.items():
            if others := differences({key: recipe[key]}, {key: rules}):
                told = [
                    f"{field} {theirs!r} there, {mine!r} here" for field, theirs, mine in others
                ]
                raise RecipeError(
                    f"the recipe has other {key} rules than this version: {'; '.join(told)}",
                    expected="the rules of this version",
                    next="extract the features again, or use the version that made the file",
                )
        return cls(
            resize=recipe["resize"],  # a list is made a tuple
            crop=tuple(recipe["crop"]),
            interpolation=recipe["interpolation"],
            mean=tuple(recipe["mean"]),
            std=tuple(recipe["std"]),
            framing=recipe["framing"],
            range=values,
            corner=recipe.get("corner", "even"),
            decode=recipe.get("decode", "full"),
        )


_KEYS = ("framing", "resize", "crop", "interpolation", "mean", "std", "color", "jpeg")


def _whole_numbers(value: Any) -> Any:
    """Lists as tuples and NumPy's integers as int, as canonical JSON needs them."""
    if isinstance(value, (list, tuple)):
        return tuple(_whole_numbers(side) for side in value)
    is_number = hasattr(value, "__index__") and not isinstance(value, bool)
    return operator.index(value) if is_number else value


def _are_sides(sides: Any) -> bool:
    """Whether something is a height and a width in pixels."""
    if not isinstance(sides, tuple) or len(sides) != 2:
        return False
    return all(type(side) is int and side >= 1 for side in sides)


def get_ready() -> None:
    """Load and compile what decoding and resizing need, which the first image would wait for.

    About a second the first time on a machine, a fifth of one later; any thread may do it while
    there is nothing else to do.
    """
    trusted()
    passes()
    phash.get_ready()


def decoded(content: bytes | np.ndarray, p: Preprocessing, max_pixels: int = MAX_PIXELS) -> Pixels:
    """A payload as upright RGB pixels, decoded by a recipe's `range` and `decode`.

    Parameters
    ----------
    content : bytes or ndarray
        What `payload.fetch` found.
    p : Preprocessing
    max_pixels : int, default 100_000_000
        Largest width times height.

    Raises
    ------
    BadImage
        If it is no whole image of a kind that can be read here.

    Examples
    --------
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> decoded(np.zeros((375, 500), np.uint8), p).array.shape
    (375, 500, 3)
    """
    target = None if p.decode == "full" else partial(resized_whole, p=p)
    return to_pixels(content, max_pixels=max_pixels, range=p.range, target=target)


def resized_whole(size: tuple[int, int], p: Preprocessing) -> tuple[int, int]:
    """What size an image is resized to as a whole, cut away or divided as it may be.

    Parameters
    ----------
    size : tuple of int
        Width and height of the upright image.
    p : Preprocessing

    Returns
    -------
    tuple of int
        Width and height.

    Examples
    --------
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> resized_whole((4000, 3000), p)
    (341, 256)
    """
    kind, rows, columns = parse_framing(p.framing)
    if kind == "crop":
        return resized_size(size, p.resize)
    if kind == "pad":
        return fitted_size(size, p.crop)
    return columns * p.crop[1], rows * p.crop[0]


def frames(image: np.ndarray | Image.Image, p: Preprocessing) -> np.ndarray:
    """All views of an image.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8, or PIL.Image.Image of mode RGB
    p : Preprocessing
        Its `range` was applied before, by `decoded`.

    Returns
    -------
    ndarray of shape (views, h, w, 3), uint8
        views is ``p.views``, h and w are ``p.crop``. Tiles lie row by row.

    Raises
    ------
    BadImage
        If the image is so long and narrow that resizing its short side would fill the memory.

    Examples
    --------
    >>> half = (0.5, 0.5, 0.5)
    >>> p = Preprocessing(256, (224, 224), "bicubic", half, half, framing="tiles:2x3")
    >>> frames(np.zeros((375, 500, 3), np.uint8), p).shape
    (6, 224, 224, 3)
    """
    pixels, method = np.asarray(image), p.interpolation
    kind, rows, columns = parse_framing(p.framing)
    if kind == "tiles":
        return tiles(pixels, p.crop, method, rows, columns)
    if kind == "whole":
        return whole(pixels, p.crop, method)[None]
    if kind == "pad":
        return pad(pixels, p.crop, method, mean_color(p))[None]
    return center_crop(pixels, p.resize, p.crop, method, p.corner)[None]


def mean_color(p: Preprocessing) -> tuple[int, int, int]:
    """The mean as a colour of 8 bits a channel: what the network sees as about 0."""
    red, green, blue = (min(255, max(0, int(255 * value + 0.5))) for value in p.mean)
    return red, green, blue


def apply(image: np.ndarray | Image.Image, p: Preprocessing) -> np.ndarray:
    """The view of an image that has but one.

    Parameters
    ----------
    image : ndarray of shape (h, w, 3), uint8, or PIL.Image.Image of mode RGB
    p : Preprocessing

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        h and w are ``p.crop``; black where the framing is ``crop`` and the resized image is smaller.

    Raises
    ------
    BadImage
        If the image is so long and narrow that resizing its short side would fill the memory.
    ValueError
        If the framing makes several views.

    Examples
    --------
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> apply(np.zeros((375, 500, 3), np.uint8), p).shape
    (224, 224, 3)
    """
    if p.views != 1:
        raise ValueError(f"{p.framing} makes {p.views} views of an image; take `frames`")
    return frames(image, p)[0]


def outside(size: tuple[int, int], p: Preprocessing) -> float:
    """The share of an image's area that the network never sees.

    Parameters
    ----------
    size : tuple of int
        Width and height of the upright image.
    p : Preprocessing

    Returns
    -------
    float
        0 to below 1; 0 for every framing but ``crop``.

    Examples
    --------
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> round(outside((500, 375), p), 3)
    0.425
    """
    if p.framing != "crop":
        return 0.0
    width, height = resized_size(size, p.resize)
    return 1 - min(width, p.crop[1]) * min(height, p.crop[0]) / (width * height)
