"""What an ONNX file says about the images it takes, in its own metadata.

Two kinds of keys are read. ``bottleneck.preprocessing`` is ours: JSON with any of ``resize, crop,
interpolation, mean, std, channels, layout``. ``Image.BitmapPixelFormat``, ``Image.NominalPixelRange``
and ``Image.ColorSpaceGamma`` are those of the ONNX standard.

References
----------
https://github.com/onnx/onnx/blob/main/docs/MetadataProps.md
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...images.preprocess import INTERPOLATIONS

if TYPE_CHECKING:
    import onnx

KEY = "bottleneck.preprocessing"
# Pixels of 0..255 as they are: (x / 255 - 0) / (1 / 255).
RAW_MEAN, RAW_STD = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
_RANGES = {
    "nominalrange_0_255": (RAW_MEAN, RAW_STD),
    "normalized_0_1": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "normalized_1_1": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
_FIELDS = ("resize", "crop", "interpolation", "mean", "std")
_WORDS = {
    "channels": ("rgb", "bgr"),
    "layout": ("nchw", "nhwc"),
    "interpolation": INTERPOLATIONS,
}


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the metadata say.

    Attributes
    ----------
    fields : dict
        Fields of `Preprocessing`, those that are told; lists for pairs and triples, as in JSON.
    bgr : bool
        The network was trained on blue, green, red. Mean and std stay in the order red, green, blue.
    layout : str or None
        ``nchw`` or ``nhwc``, if told.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    bgr: bool = False
    layout: str | None = None


def read_metadata(model: onnx.ModelProto) -> Metadata:
    """Metadata of a model, checked.

    Raises
    ------
    InputError
        For values that have no meaning, and for images that are not in colour or not in sRGB.
    """
    said = {entry.key.lower(): entry.value for entry in model.metadata_props}
    fields: dict[str, Any] = {}
    pixels = said.get("image.bitmappixelformat", "rgb8").lower()
    gamma = said.get("image.colorspacegamma", "srgb").lower()
    if pixels not in ("rgb8", "bgr8") or gamma != "srgb":
        raise _wrong(
            f"Image.BitmapPixelFormat {pixels}, Image.ColorSpaceGamma {gamma}", "Rgb8 or Bgr8, SRGB"
        )
    values = said.get("image.nominalpixelrange", "").lower()
    if values in _RANGES:
        fields["mean"], fields["std"] = (list(each) for each in _RANGES[values])
    own = _own(said.get(KEY, "{}"))
    fields.update({key: own[key] for key in _FIELDS if key in own})
    channels = own.get("channels", pixels[:3])
    return Metadata(fields, channels == "bgr", own.get("layout"))


def _own(text: str) -> dict[str, Any]:
    try:
        own = json.loads(text)
    except ValueError as error:
        raise _wrong(f"{KEY} = {text[:80]}", "JSON") from error
    known = (*_FIELDS, "channels", "layout")
    if not isinstance(own, dict) or not set(own) <= set(known):
        raise _wrong(f"{KEY} = {text[:200]}", f"an object with any of {', '.join(known)}")
    for key, words in _WORDS.items():
        if key in own and own[key] not in words:
            raise _wrong(f"{key} = {own[key]!r} in {KEY}", " or ".join(words))
    counts = {"mean": 3, "std": 3, "crop": 2}
    for key, count in counts.items():
        if key in own and not _numbers(own[key], count):
            raise _wrong(f"{key} = {own[key]!r} in {KEY}", f"{count} numbers")
    resize = own.get("resize", 1)
    if not (_numbers([resize], 1) or _numbers(resize, 2)):
        raise _wrong(f"resize = {resize!r} in {KEY}", "the short side, or height and width")
    return own


def _numbers(value: Any, count: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in value)
    )


def _wrong(what: str, expected: str) -> InputError:
    return InputError(
        f"the ONNX file's metadata say {what}",
        expected=expected,
        where="--backbone",
        next="docs/other-networks.md shows how to set them",
    )
