"""Preprocessing: an upright RGB image in, the uint8 pixels (h, w, 3) that a network takes out.

Equal to torchvision's ``Resize(resize) -> CenterCrop(crop)`` on PIL images, pixel by pixel, with
Pillow alone. Mean and standard deviation travel along; the network applies them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, RecipeError
from .color import COLOR_RULES, BadImage
from .decode import MAX_PIXELS

if TYPE_CHECKING:
    from PIL import Image

INTERPOLATIONS = ("bilinear", "bicubic", "nearest", "lanczos", "box", "hamming")
FRAMINGS = ("crop",)
# libjpeg's slow integer DCT, Pillow's default: another one gives other pixels, so it is recorded.
JPEG_DCT = "islow"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How an image is framed and scaled, as a part of a recipe.

    Attributes
    ----------
    resize : int
        The short side after resizing, in pixels.
    crop : tuple of int
        Height and width of the centre crop, in pixels.
    interpolation : str
        One of `INTERPOLATIONS`.
    mean, std : tuple of three floats
        Per channel, for pixels in 0..1: the network subtracts and divides. Not applied here.
    framing : str, default "crop"
        ``crop``: resize the short side, cut out the centre.

    Examples
    --------
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> Preprocessing.from_recipe(p.to_recipe()) == p
    True
    """

    resize: int
    crop: tuple[int, int]
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    framing: str = "crop"

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise InputError(
                f"interpolation is {self.interpolation!r}", expected=", ".join(INTERPOLATIONS)
            )
        if self.framing not in FRAMINGS:
            raise InputError(f"framing is {self.framing!r}", expected=", ".join(FRAMINGS))
        if self.resize < 1 or len(self.crop) != 2 or min(self.crop) < 1:
            raise InputError(
                f"resize is {self.resize}, crop is {self.crop}", expected="at least 1 pixel each"
            )
        if len(self.mean) != 3 or len(self.std) != 3 or not min(self.std) > 0:
            raise InputError(
                f"mean is {self.mean}, std is {self.std}",
                expected="three numbers each, one a channel, and std above 0",
            )

    def to_recipe(self) -> dict[str, Any]:
        """The recipe's share as plain JSON data, the colour rules included."""
        return {
            "framing": self.framing,
            "resize": self.resize,
            "crop": list(self.crop),
            "interpolation": self.interpolation,
            "mean": [float(value) for value in self.mean],
            "std": [float(value) for value in self.std],
            "color": dict(COLOR_RULES),
            "jpeg": JPEG_DCT,
        }

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
        """
        missing = [key for key in _KEYS if key not in recipe]
        if missing:
            raise RecipeError(
                f"the recipe's preprocessing lacks {', '.join(missing)}",
                expected=", ".join(_KEYS),
                next="extract the features again",
            )
        ours = {"color": COLOR_RULES, "jpeg": JPEG_DCT}
        for key, rules in ours.items():
            if recipe[key] != rules:
                raise RecipeError(
                    f"the recipe's {key} rules are {recipe[key]}",
                    expected=f"{rules}, those of this version",
                    next="extract the features again, or use the version that made the file",
                )
        return cls(
            resize=recipe["resize"],
            crop=tuple(recipe["crop"]),
            interpolation=recipe["interpolation"],
            mean=tuple(recipe["mean"]),
            std=tuple(recipe["std"]),
            framing=recipe["framing"],
        )


_KEYS = ("framing", "resize", "crop", "interpolation", "mean", "std", "color", "jpeg")


def apply(image: Image.Image, p: Preprocessing) -> np.ndarray:
    """Resize the short side and cut out the centre.

    Parameters
    ----------
    image : PIL.Image.Image of mode RGB
    p : Preprocessing

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
        h and w are ``p.crop``; black where the resized image is smaller.

    Raises
    ------
    BadImage
        If the image is so long and narrow that resizing its short side would fill the memory.

    References
    ----------
    torchvision.transforms.functional: ``_compute_resized_output_size``, ``center_crop``.

    Examples
    --------
    >>> from PIL import Image
    >>> p = Preprocessing(256, (224, 224), "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    >>> apply(Image.new("RGB", (500, 375)), p).shape
    (224, 224, 3)
    """
    from PIL import Image

    width, height = image.size
    # The long side is cut off, not rounded, by `int`: torchvision's own way.
    long = int(p.resize * max(width, height) / min(width, height))
    size = (p.resize, long) if width <= height else (long, p.resize)
    if size[0] * size[1] > MAX_PIXELS:
        raise BadImage(
            f"{width}x{height} is too long and narrow: with a short side of {p.resize} "
            f"it would be {size[0]}x{size[1]} = {size[0] * size[1] / 1e6:.0f} MP"
        )
    if size != image.size:
        image = image.resize(size, Image.Resampling[p.interpolation.upper()])
    crop_height, crop_width = p.crop
    # Where the image is smaller than the crop, torchvision first pads both sides, the odd pixel
    # going to the right and bottom; `Image.crop` fills what lies outside with zeros as well.
    left, top = _offset(image.width, crop_width), _offset(image.height, crop_height)
    return np.array(image.crop((left, top, left + crop_width, top + crop_height)))


def _offset(side: int, crop: int) -> int:
    # Python's `round` takes halves to the even number, and torchvision uses it.
    return -((crop - side) // 2) if crop > side else round((side - crop) / 2)
