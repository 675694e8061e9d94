"""Recipes: everything that is meant to decide a feature's value, as JSON data in; fingerprint out.

A recipe belongs to one pass over the images and lists all its outputs; a fingerprint belongs to one
output, so that another layer of the same pass can be added later without touching the first one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from blake3 import blake3

from .errors import RecipeError
from .printable import Lines, printable

# A field that one of two recipes does not have; distinct from null, which a recipe may hold.
ABSENT: Any = type(
    "Absent", (), {"__repr__": lambda self: "(absent)", "__bool__": lambda self: False}
)()


# Begins what stands in a recipe where a hash of weights would: an untrained network says so for ever.
RANDOM = "random"
# Said with every score of such features.
RANDOM_NOTE = "the features come from a network with RANDOM weights"


def is_random(recipe: Mapping[str, Any]) -> bool:
    """Whether features come from an untrained network (``--weights none``)."""
    return str(recipe.get("weights_sha256", "")).startswith(RANDOM)


def canonical_json(data: Any) -> bytes:
    """The one spelling of some JSON data: sorted keys, no spaces, UTF-8.

    Two values get the same bytes exactly if Python calls them equal, except that ``true`` is not 1:
    1 and 1.0 are both spelled ``1``, -0.0 is ``0``, and other floats have the shortest digits that
    read back to the same float64.

    Parameters
    ----------
    data : dict, list, str, int, float, bool or None
        Nested to any depth; keys are str.

    Returns
    -------
    bytes

    Raises
    ------
    RecipeError
        For NaN, infinity, a type JSON does not have, or text that is not Unicode; names the field.

    Examples
    --------
    >>> canonical_json({"resize": 256.0, "crop": [224, 224], "mean": [0.5]})
    b'{"crop":[224,224],"mean":[0.5],"resize":256}'
    """
    settled = _settle(data, "")
    text = json.dumps(settled, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def _settle(value: Any, field: str) -> Any:
    """`value` with one spelling for each number; `field` is where it stands, for the error."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _unicode(value, field)
    # Exact types: a subclass such as IntEnum or numpy.float64 may print itself in another way.
    if type(value) is int:
        return value
    if type(value) is float:
        if not math.isfinite(value):
            raise RecipeError(f"{field or 'the recipe'} is {value}", expected="a finite number")
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_settle(item, _inside(field, index)) for index, item in enumerate(value)]
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise RecipeError(f"{field or 'the recipe'} has the key {key!r}", expected="text")
        return {
            _unicode(key, field): _settle(item, _inside(field, key)) for key, item in value.items()
        }
    raise RecipeError(
        f"{field or 'the recipe'} is of type {type(value).__name__}",
        expected="plain JSON data: dict, list, str, int, float, bool or None",
    )


def _unicode(text: str, field: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RecipeError(
            f"{field or 'the recipe'} holds text that is not Unicode: {text!r}",
            next="escape it with bottleneck_probe.paths.escape",
        ) from None
    return str(text)


def _inside(field: str, name: str | int) -> str:
    return f"{field}.{name}" if field else str(name)


def fingerprint(recipe: dict[str, Any], output: dict[str, Any]) -> str:
    """What one output of a recipe is called in files: 64 hexadecimal digits.

    Parameters
    ----------
    recipe : dict
        JSON data; its list ``outputs`` is left out.
    output : dict
        The output in question, such as ``{"node": "penultimate", "pooling": "none"}``.

    Returns
    -------
    str
        BLAKE3 of the canonical JSON of the recipe with ``output`` in place of ``outputs``.

    References
    ----------
    J. O'Connor, J.-P. Aumasson, S. Neves, Z. Wilcox-O'Hearn, "BLAKE3: one function, fast
    everywhere", 2020.
    """
    single = {name: value for name, value in recipe.items() if name != "outputs"}
    return blake3(canonical_json({**single, "output": output})).hexdigest()


def differences(a: Any, b: Any) -> list[tuple[str, Any, Any]]:
    """The fields in which two recipes differ, with both values.

    Parameters
    ----------
    a, b : dict
        JSON data.

    Returns
    -------
    list of (field, value in a, value in b)
        Dotted fields (``"preprocessing.resize"``), in the order of `a`, then what only `b` has;
        `ABSENT` where one has no such field. Empty exactly if both have one canonical JSON.

    Examples
    --------
    >>> differences({"net": {"resize": 256, "crop": [224, 224]}}, {"net": {"resize": 232}})
    [('net.resize', 256, 232), ('net.crop', [224, 224], (absent))]
    """
    return list(_differences(a, b, ""))


def _differences(a: Any, b: Any, field: str) -> list[tuple[str, Any, Any]]:
    if a is ABSENT or b is ABSENT:
        return [] if a is b else [(field, a, b)]
    found: list[tuple[str, Any, Any]] = []
    if isinstance(a, dict) and isinstance(b, dict):
        for name in [*a, *(name for name in b if name not in a)]:
            found += _differences(a.get(name, ABSENT), b.get(name, ABSENT), _inside(field, name))
        return found
    # A list of numbers (mean, std) is one value for a reader; a list of outputs is not.
    if isinstance(a, list) and isinstance(b, list) and any(isinstance(x, dict) for x in a + b):
        for index in range(max(len(a), len(b))):
            left, right = (side[index] if index < len(side) else ABSENT for side in (a, b))
            found += _differences(left, right, _inside(field, index))
        return found
    return [] if canonical_json(a) == canonical_json(b) else [(field, a, b)]


def recipe_conflict(
    stored: dict[str, Any], wanted: dict[str, Any], file: str | Path
) -> RecipeError:
    """The error for a file whose features were made by another recipe; raise what it returns.

    Parameters
    ----------
    stored : dict
        The recipe of the features in `file`.
    wanted : dict
        The recipe that this run would use.
    file : str or Path
        The output that was asked for.

    Returns
    -------
    RecipeError
        Shows both recipes field by field, and proposes an output name that is free.
    """
    fields = differences(stored, wanted)
    width = max((len(field) for field, _, _ in fields), default=0)
    lines = [
        printable(f"{field:<{width}}  {_short(theirs)} there, {_short(ours)} here")
        for field, theirs, ours in fields
    ]
    return RecipeError(
        f"{file} holds features of recipe {_name(stored)}, this run makes recipe {_name(wanted)}",
        expected=Lines("\n    ".join(["one recipe to a file; these fields differ:", *lines])),
        where=str(file),
        next=f"-o {_free_name(Path(file), wanted, fields)} keeps both",
    )


def _name(recipe: dict[str, Any]) -> str:
    """A recipe in a sentence: the start of its fingerprint, and its backbone."""
    outputs = recipe.get("outputs") or [{}]
    return f"{fingerprint(recipe, outputs[0])[:6]} ({recipe.get('backbone', 'no backbone')})"


def _short(value: Any) -> str:
    text = repr(value) if value is ABSENT else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _free_name(file: Path, wanted: dict[str, Any], fields: list[tuple[str, Any, Any]]) -> Path:
    """`file` with what is new in its name: the backbone if that differs, else the fingerprint."""
    mark = fingerprint(wanted, (wanted.get("outputs") or [{}])[0])
    backbone = str(wanted.get("backbone", ""))
    if any(field == "backbone" for field, _, _ in fields) and backbone and "/" not in backbone:
        plain = file.with_name(f"{file.stem}-{backbone}{file.suffix}")
        if not plain.exists():
            return plain
    return file.with_name(f"{file.stem}-{mark[:6]}{file.suffix}")
