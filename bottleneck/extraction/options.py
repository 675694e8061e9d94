"""What a caller may state about an extraction; None means: take the file's, or the default."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, fields
from typing import Any

from ..backbones.base import PRECISIONS
from ..errors import InputError
from ..images.limits import DEFAULT, Limits
from ..images.part import Part
from ..presets.recipes import apply_preset


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """Options that decide a feature's value. What is None is not stated.

    Attributes
    ----------
    backbone : str or torch.nn.Module
        A name, the path of an ONNX file, or a network.
    weights : path
        A file with the weights, instead of the default pretrained ones; ``none`` for random ones.
    layer : tuple of str
        ``NODE[:POOLING]``, with wildcards; where the network is cut.
    pooling : str
        Of layers that do not say it themselves.
    framing : str
        ``crop``, ``whole``, ``pad`` or ``tiles:RxC``.
    range : str
        ``full``, ``bits:N`` or ``LOW:HIGH``: values of more than 8 bits that become 0 to 255.
    decode : str
        ``full``, or ``scaled``: large JPEG files decoded to a fraction of their size.
    resize : int or tuple of int
        Length of the short side after resizing, in pixels; or height and width.
    crop : int or tuple of int
        Side of the centre crop, in pixels; or height and width.
    interpolation : str
        ``bicubic``, ``bilinear``, ...
    mean, std : sequence of 3 floats
        Of the channels, on the scale 0 to 1.
    precision : str
        ``fp32``, ``bf16`` or ``fp16``; ``auto`` is the file's own, else what `engines.precision` finds.
    """

    backbone: Any = None
    weights: str | os.PathLike[str] | None = None
    layer: tuple[str, ...] = ()
    pooling: str | None = None
    framing: str | None = None
    range: str | None = None
    decode: str | None = None
    resize: int | tuple[int, int] | None = None
    crop: int | tuple[int, int] | None = None
    interpolation: str | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    precision: str = "auto"

    def __post_init__(self) -> None:
        _require_sides("resize", self.resize)
        _require_sides("crop", self.crop)
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, list | tuple) or len(value) != 3):
                raise InputError(f"{name} is {value!r}", expected="3 numbers", where=f"--{name}")
        if self.precision not in ("auto", *PRECISIONS):
            raise InputError(
                f"precision {self.precision!r} is not there",
                expected=", ".join(("auto", *PRECISIONS)),
                where="--precision",
            )

    @property
    def by_name(self) -> bool:
        """Whether the backbone is a name or a path, not a network."""
        return isinstance(self.backbone, str | os.PathLike)

    def preprocessing_changes(self) -> dict[str, Any]:
        """Fields of `Preprocessing` that were stated."""
        changes: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("resize", "interpolation", "framing", "range", "decode")
            if getattr(self, name) is not None
        }
        if "interpolation" in changes:
            changes["interpolation"] = str(changes["interpolation"]).lower()
        if self.crop is not None:
            changes["crop"] = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
        for name in ("mean", "std"):
            if getattr(self, name) is not None:
                changes[name] = tuple(float(x) for x in getattr(self, name))
        return changes


def _require_sides(name: str, value: Any) -> None:
    """Raise an InputError unless it is one side or two of 1 to 4096 pixels, or not stated."""
    sides = value if isinstance(value, tuple) and len(value) == 2 else (value,)
    good = all(type(side) is int and 1 <= side <= 4096 for side in sides)
    if value is not None and not good:
        raise InputError(
            f"{name} is {value!r}", expected="1 to 4096 px, or height and width", where=f"--{name}"
        )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options that do not decide a feature's value: where it runs, and what happens to misfits.

    Attributes
    ----------
    engine, device : str
    batch_size : int or None
        The fixed batch shape; None is chosen by the device.
    workers : int or None
        Decoding threads; None is one per core.
    store : str or None
        ``float32`` or ``float16``: how features are kept on disk. None is the file's own, else
        ``float32``.
    add : bool
        Keep rows of the file whose path is not among the images.
    force : bool
        Replace a file of another recipe or root.
    strict : bool
        The first image that cannot be used ends the run.
    allow_bad : bool
        Publish whatever the share of images that cannot be used.
    allow_bad_rate : float or None
        Up to this share is in order, above it is an error.
    retry : bool
        Images in the quarantine are tried again, though their files are unchanged.
    rehash : bool
        Every file is read, also those that look unchanged; perceptual hashes that the file lacks are added.
    part : str or None
        ``3/16``: only this share of the images, by a hash of their paths; rows of the file that are
        of another share stay.
    max_pixels, max_bytes : int or None
        Images with more pixels, and files with more bytes, are quarantined; None is 100 MP and 2 GiB.
    decode_timeout : float or None
        Likewise images that take more seconds of a processor; None is 10.
    preview : path or None
        A ``.png`` to draw some of the images into as the network sees them.
    """

    engine: str = "auto"
    device: str = "auto"
    batch_size: int | None = None
    workers: int | None = None
    store: str | None = None
    add: bool = False
    force: bool = False
    strict: bool = False
    allow_bad: bool = False
    allow_bad_rate: float | None = None
    retry: bool = False
    rehash: bool = False
    part: str | None = None
    max_pixels: int | None = None
    max_bytes: int | None = None
    decode_timeout: float | None = None
    preview: str | os.PathLike[str] | None = None

    @property
    def share(self) -> Part | None:
        """What `part` means."""
        return None if self.part is None else Part.parse(self.part)

    def __post_init__(self) -> None:
        if self.part is not None:
            Part.parse(self.part)
        for name in ("batch_size", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(
                    f"{name} is {value}", expected="1 or more", where=f"--{name.replace('_', '-')}"
                )
        for name in ("max_pixels", "max_bytes", "decode_timeout"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(
                    f"{name} is {value}", expected="above 0", where=f"--{name.replace('_', '-')}"
                )
        if self.add and self.force:
            raise InputError(
                "--add keeps rows of the file, --force replaces it",
                expected="one of the two",
                where="--add and --force",
            )
        if self.store not in (None, "float32", "float16"):
            raise InputError(
                f"store is {self.store!r}", expected="float32 or float16", where="--store"
            )
        if self.allow_bad_rate is not None and not 0 <= self.allow_bad_rate <= 1:
            raise InputError(
                f"allow_bad_rate is {self.allow_bad_rate}",
                expected="a share from 0 to 1",
                where="--allow-bad-rate",
            )

    @property
    def limits(self) -> Limits:
        """What one image may cost."""
        return Limits(
            DEFAULT.max_pixels if self.max_pixels is None else self.max_pixels,
            DEFAULT.max_bytes if self.max_bytes is None else self.max_bytes,
            self.decode_timeout,
        )


def split_options(options: dict[str, Any]) -> tuple[RecipeOptions, RunOptions]:
    """Keyword arguments of `extract` sorted into the two kinds.

    Raises
    ------
    TypeError
        For a name that neither has.
    """
    for name in ("batch_size", "workers"):
        if options.get(name) == "auto":
            options[name] = None
    if "layer" in options:
        given = options["layer"]
        options["layer"] = (given,) if isinstance(given, str) else tuple(given or ())
    for name in ("resize", "crop"):
        if isinstance(options.get(name), list):
            options[name] = tuple(options[name])
    recipe = {f.name: options.pop(f.name) for f in fields(RecipeOptions) if f.name in options}
    run = {f.name: options.pop(f.name) for f in fields(RunOptions) if f.name in options}
    if options:
        raise TypeError(f"unexpected keyword arguments: {', '.join(sorted(options))}")
    return RecipeOptions(**recipe), RunOptions(**run)


def split_backbones(options: dict[str, Any]) -> tuple[list[RecipeOptions], RunOptions]:
    """`split_options` where ``backbone`` may be a list: recipe options for each of them.

    A ``preset`` fills in what was not stated.

    Raises
    ------
    InputError
        For a file of weights with several backbones, or an empty list.
    """
    options = apply_preset(options.pop("preset", None), options)
    given = options.get("backbone")
    if not isinstance(given, list | tuple):
        recipe, run = split_options(options)
        return [recipe], run
    if not given:
        raise InputError("backbone is an empty list", expected="at least one name")
    weights = options.get("weights")
    if len(given) > 1 and weights is not None and str(weights) != "none":
        raise InputError(
            f"{weights} cannot be the weights of {len(given)} networks",
            expected="one --backbone where --weights names a file",
            where="--weights",
            next="run once for each backbone",
        )
    split = [split_options({**options, "backbone": each}) for each in given]
    return [recipe for recipe, _ in split], split[0][1]
