"""What a protocol asks of the features: options for `extract`, and where existing features differ.

Plain data, and no import that takes time: the command line reads the names from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError

PENULTIMATE = "penultimate:none"
PROJECTED = "head:none"  # of a CLIP network in timm


@dataclass(frozen=True)
class FeatureRecipe:
    """How a protocol makes its features.

    Attributes
    ----------
    options : mapping
        Options of `extract` that the protocol fixes; all others stay the network's own.
    precisions : tuple of str
        Arithmetic that counts as the protocol's.
    differences : tuple of str
        What the protocol does to an image or a network that no recipe here can do: with these its
        name always carries ``-like``.
    remarks : tuple of str
        What the user of the protocol should know about the features, and cannot be checked.
    """

    options: Mapping[str, Any]
    precisions: tuple[str, ...] = ("fp32",)
    differences: tuple[str, ...] = ()
    remarks: tuple[str, ...] = field(default=())


_CROP_224 = {"framing": "crop", "crop": 224, "interpolation": "bicubic"}
_SQUASHED = {"framing": "whole", "crop": 224, "interpolation": "bilinear"}
_VOC_POOLING = (
    "the features are the penultimate layer's, averaged over all places; the protocol averages res5 "
    "over windows of 6 x 6, which leaves 2 x 2 places (8,192 values of a ResNet-50)"
)

RECIPES: dict[str, FeatureRecipe] = {
    # Evaluated under autocast in float16 where the model's configuration says so.
    "dinov2": FeatureRecipe({**_CROP_224, "resize": 224}, ("fp32", "fp16")),
    "knn-dino": FeatureRecipe({**_CROP_224, "resize": 256}),
    "clip": FeatureRecipe(
        {"framing": "crop"},
        ("fp32", "fp16"),
        remarks=(
            "of a CLIP network the features before the projection count, which is what clip_vit_b32 and "
            "its like give",
        ),
    ),
    "coop": FeatureRecipe(
        {**_CROP_224, "resize": 224},
        ("fp32", "fp16"),
        remarks=(
            "the published numbers come from CLIP's RN50, its features after the projection "
            "(1,024 values)",
        ),
    ),
    "vissl-svm": FeatureRecipe(
        _SQUASHED,
        differences=(
            _VOC_POOLING,
            "images are resized to 224 x 224 at once; the protocol first resizes the short side to 256",
        ),
    ),
    "fair-lowshot": FeatureRecipe(_SQUASHED, differences=(_VOC_POOLING,)),
    # VTAB leaves preprocessing to whoever is evaluated; this is the one of its own code.
    "vtab1k": FeatureRecipe(
        _SQUASHED,
        remarks=("its own code resizes with TensorFlow, without antialiasing; Pillow's has it",),
    ),
}
NAMES = tuple(RECIPES)


def recipe_of(name: str) -> FeatureRecipe:
    """The features of a protocol.

    Raises
    ------
    InputError
        If there is none of this name; it names the nearest.
    """
    if name in RECIPES:
        return RECIPES[name]
    import difflib

    near = difflib.get_close_matches(str(name), NAMES, n=1, cutoff=0.4)
    raise InputError(
        f"there is no preset {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
        expected=", ".join(NAMES),
        where="--preset",
    )


def apply_preset(name: str | None, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options of `extract` with those of a protocol where the user stated none.

    Parameters
    ----------
    name : str or None
        None changes nothing.
    options : mapping
        As `extract` takes them; None, and for the precision ``auto``, count as not stated.

    Returns
    -------
    dict

    Examples
    --------
    >>> apply_preset("dinov2", {"resize": None, "crop": 336, "precision": "auto"})["resize"]
    224
    """
    options = dict(options)
    if name is None:
        return options
    wanted = recipe_of(name)
    for field_name, value in wanted.options.items():
        if options.get(field_name) is None:
            options[field_name] = value
    if options.get("precision", "auto") == "auto":
        options["precision"] = "fp32"
    return options


def feature_deviations(name: str, recipe: Mapping[str, Any] | None, stored: str) -> list[str]:
    """Where features are not what the protocol asks for, one sentence each.

    Parameters
    ----------
    name : str
        A preset.
    recipe : mapping or None
        Of the features; of those brought as arrays it says nothing of images.
    stored : str
        ``float32`` or ``float16``, as they are kept.

    Returns
    -------
    list of str
    """
    wanted = recipe_of(name)
    if not recipe or recipe.get("modality") != "image" or "preprocessing" not in recipe:
        return ["the features came as arrays: how they were made is not known here"]
    found = [*_preprocessing_deviations(wanted.options, recipe["preprocessing"])]
    output = (recipe.get("outputs") or [{}])[0]
    layer = f"{output.get('node', '')}:{output.get('pooling', '')}"
    if name == "coop" and "clip" in str(recipe.get("backbone", "")).lower():
        if layer != PROJECTED:
            found.append(
                f"layer: {layer}, the protocol takes what comes after CLIP's projection (--layer head)"
            )
    elif layer != PENULTIMATE:
        found.append(f"layer: {layer}, the protocol takes the network's own output")
    precision = str(recipe.get("precision", ""))
    if precision not in wanted.precisions:
        found.append(f"precision: {precision}, the protocol {' or '.join(wanted.precisions)}")
    if stored == "float16":
        found.append("features kept as float16, the protocol keeps float32")
    return found + list(wanted.differences)


def _preprocessing_deviations(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    lines = []
    plain = {"framing": "crop", "range": "full", "decode": "full", **found}
    for name, value in {"range": "full", "decode": "full", **wanted}.items():
        if name == "resize" and plain["framing"] != "crop":
            continue  # nothing but the framing uses it, and that is listed
        expected = [value, value] if name == "crop" and isinstance(value, int) else value
        theirs = plain.get(name)
        if (list(theirs) if isinstance(theirs, tuple) else theirs) != expected:
            lines.append(f"{name}: {_spell(theirs)}, the protocol {_spell(expected)}")
    return lines


def _spell(value: Any) -> str:
    return "x".join(str(side) for side in value) if isinstance(value, list) else str(value)
