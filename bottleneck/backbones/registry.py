"""How a name or a recipe becomes a backbone that can be run: network, weights, preprocessing."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import InputError, RecipeError, WeightsError
from ..images.preprocess import Preprocessing
from ..recipe import RANDOM
from ..reporter import Reporter, Silent
from . import folders
from .base import MEMORY, PENULTIMATE, PRECISIONS, Backbone, Entry, Output, Weights
from .hub_files import digest_of
from .listing import list_backbones, list_sources
from .naming import ENTRIES, find_entry
from .recall import recall, remember
from .weights import from_file

if TYPE_CHECKING:
    import torch

DEFAULT = "efficientnet_lite0"
UNTRAINED = Weights(None, f"{RANDOM}:0", "random weights (--weights none)")

_STATED = ("resize", "crop", "interpolation", "mean", "std")


def resolve(
    name: str | os.PathLike[str] | torch.nn.Module = DEFAULT,
    *,
    weights: str | os.PathLike[str] | None = None,
    changes: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
    fetch: bool = True,
) -> Backbone:
    """A backbone, its weights found or fetched, its preprocessing settled.

    Parameters
    ----------
    name : str, path or torch.nn.Module, default ``"efficientnet_lite0"``
        See `find_entry`.
    weights : path or "none", optional
        A file of the user's, instead of the default pretrained weights; ``"none"`` for an untrained
        network. The preprocessing stays that of the default weights unless `changes` says otherwise.
    changes : dict, optional
        Fields of `Preprocessing` to change.
    reporter : Reporter, optional
        Hears what is fetched and taken for granted.
    fetch : bool, default True
        Download weights that are not here; else they are an error that says what would be fetched.

    Returns
    -------
    Backbone

    Raises
    ------
    InputError
        For a name or a preprocessing that does not exist.
    WeightsError
        For weights that are not here and could not be fetched.
    """
    reporter = reporter or Silent()
    if not isinstance(name, str | os.PathLike):
        return _of_module(name, weights, changes or {}, reporter)
    entry = find_entry(name)
    for note in entry.notes:  # before anything of it runs: it may be somebody else's code
        reporter.note(note)
    preprocessing = _preprocessing(entry, changes or {})
    if weights is not None:
        found = _stated(entry, weights)
        changed = f", but for {', '.join(changes)}" if changes else ""
        reporter.note(
            f"weights from {found.origin}: preprocessed as for {entry.name}'s "
            f"{_label(entry)} weights{changed} ({describe(preprocessing)})"
            if not found.random
            else f"{found.origin}: the features of {entry.name} know nothing of images"
        )
    elif entry.weights is None:
        raise WeightsError(
            f"{entry.name} has no pretrained weights that could be fetched",
            where="--backbone",
            next="give --weights FILE, or --weights none for an untrained network",
        )
    else:
        found = entry.weights.find() or entry.weights.fetch(
            reporter.note if fetch else _fetch_nothing
        )
    remember(found)
    return Backbone(entry, found, preprocessing)


def _fetch_nothing(what: str) -> None:
    """Takes the place of whoever hears what is about to be fetched, and stops it."""
    raise WeightsError(
        f"the weights are not on this machine; a run would begin by {what}",
        where="--dry-run",
        next="run without --dry-run to fetch them, or give --weights FILE",
    )


def _stated(entry: Entry, weights: str | os.PathLike[str]) -> Weights:
    """What ``--weights`` means."""
    if entry.graph is not None:
        raise InputError(
            f"{entry.name} brings its weights along",
            where="--weights",
            next="leave --weights away, or give the other ONNX file as --backbone",
        )
    return UNTRAINED if weights == "none" else from_file(weights)


def _label(entry: Entry) -> str:
    return entry.weights.label if entry.weights is not None else "own"


def _of_module(
    module: torch.nn.Module,
    weights: str | os.PathLike[str] | None,
    changes: dict[str, Any],
    reporter: Reporter,
) -> Backbone:
    from .sources.module import from_module

    if weights is not None:
        raise InputError(
            "a module has its weights already",
            where="weights",
            next="load them into the module with load_state_dict, and leave weights away",
        )
    entry, found = from_module(module)
    for note in entry.notes:
        reporter.note(note)
    return Backbone(entry, found, _preprocessing(entry, changes))


def _preprocessing(entry: Entry, changes: dict[str, Any]) -> Preprocessing:
    """The source's own with what the user changes; all of it the user's where there is none."""
    try:
        own = entry.preprocessing()
    except InputError:
        stated = {**entry.known(), **changes}
        if not all(name in stated for name in _STATED):
            raise
        return Preprocessing(**stated)
    return replace(own, **changes) if changes else own


def missing_preprocessing(name: str, why: str, stated: dict[str, Any] | None = None) -> InputError:
    """The error of a source that has no preprocessing for a network, naming what to state."""
    missing = [f"--{field}" for field in _STATED if field not in (stated or {})]
    return InputError(
        f"{why}: how images are prepared for {name} is not known",
        expected=", ".join(missing),
        where="--backbone",
        next="state them; ImageNet's usual: --resize 256 --crop 224 --interpolation bilinear "
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
    )


def from_recipe(
    recipe: dict[str, Any],
    *,
    weights: str | os.PathLike[str] | None = None,
    lazy: bool = False,
) -> Backbone:
    """The very backbone that made a file of features or a probe, found by the hash of its weights.

    Parameters
    ----------
    recipe : dict
        As a feature file or a probe holds it.
    weights : path, optional
        Where to look first.
    lazy : bool, default False
        Weights that are not here are an error only once they are needed: where every feature is
        in the cache, none is.

    Returns
    -------
    Backbone

    Raises
    ------
    WeightsError
        If no file with that hash is known on this machine.
    RecipeError
        If the recipe states what this version does not know.
    """
    wanted = str(recipe["weights_sha256"])
    if wanted.startswith(MEMORY):
        raise WeightsError(
            f"the features came from {recipe['backbone']}, a module that was given in Python",
            expected="the same module, with the same weights",
            next="pass it again: bp.extract(IMAGES, backbone=module)",
        )
    _require_own_code(str(recipe["backbone"]))
    entry = find_entry(recipe["backbone"])
    found: Weights | None
    tried: list[str] = []
    if entry.source == "onnx" and weights is not None and weights != "none":
        entry, found = _with_content(entry, wanted, weights)
    else:
        found, tried = _with_hash(entry, wanted, weights)
    if found is None:
        what = f"the weights of {entry.name} with SHA-256 {wanted[:12]} are not on this machine" + (
            f"; found only {', '.join(tried)}" if tried else ""
        )
        found = Weights(None, wanted, what)
        if not lazy:
            found.file()
    else:
        remember(found)
    try:
        outputs = tuple(Output.from_recipe(each) for each in recipe.get("outputs", ()))
        preprocessing = Preprocessing.from_recipe(recipe["preprocessing"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise RecipeError(
            f"the recipe makes no sense: {type(error).__name__} {error}",
            expected="one that `bottleneck extract` wrote",
            next="do not use the file unless you know where it comes from",
        ) from error
    return Backbone(
        entry, found, preprocessing, outputs or (PENULTIMATE,), _precision(recipe.get("precision"))
    )


def _require_own_code(name: str) -> None:
    """Refuse a network of others' code that nobody has named on this machine.

    A recipe comes with a file, and the file from anywhere: reading it must not fetch and run a
    repository. What the user has once given as ``--backbone`` is remembered by the digest of its code.
    """
    prefix, slash, rest = name.partition("/")
    if not slash or prefix.lower() != "hub":
        return
    where, model = rest.rpartition(":")[::2]
    where, digest = folders.split(where)
    if digest and folders.recall(digest, digest_of) is not None:
        return
    named = where if "/" in where else "/PATH/TO/CLONE"
    raise RecipeError(
        f"the recipe's network {name} is code of others, which was never used on this machine",
        expected="a network that you have named yourself: a file must not choose which code runs",
        where="recipe, backbone",
        next=f"where you trust that code: `bottleneck layers hub/{named}:{model}`, then run again",
    )


def _precision(recorded: object) -> str:
    """The precision of a recipe, which names no other network in another version."""
    if recorded not in PRECISIONS:
        raise RecipeError(
            f"the recipe's precision is {recorded!r}",
            expected=", ".join(PRECISIONS),
            next="use the version of bottleneck-probe that made the file",
        )
    return str(recorded)


def _with_content(entry: Entry, wanted: str, path: str | os.PathLike[str]) -> tuple[Entry, Weights]:
    """An ONNX file where the user says it is now: the files of weights beside it count as well."""
    from .sources.onnx_file import SOURCE, content_of

    file = from_file(path).file()
    digest = content_of(file)
    if digest != wanted:
        raise _other_weights(path, digest, wanted, entry)
    # Not the entry of the recipe's name: that one looks only where the file was seen.
    return SOURCE.entry(str(file)), Weights(file, digest, f"file {file.name}")


def _other_weights(
    path: str | os.PathLike[str], digest: str, wanted: str, entry: Entry
) -> WeightsError:
    return WeightsError(
        f"{path} has SHA-256 {digest[:12]}",
        expected=f"{wanted[:12]}, the weights of {entry.name} that the features came from",
        where="--weights",
        next="give the file that was used then",
    )


def _with_hash(
    entry: Entry, wanted: str, weights: str | os.PathLike[str] | None
) -> tuple[Weights | None, list[str]]:
    """Weights with a known hash, and what was found instead."""
    if weights is not None and weights != "none":
        stated = from_file(weights)
        if stated.sha256 != wanted:
            raise _other_weights(weights, stated.sha256, wanted, entry)
        return stated, []
    if wanted.startswith(RANDOM):
        return Weights(None, wanted, UNTRAINED.origin), []
    if weights == "none":
        raise WeightsError(
            "the features came from trained weights",
            expected=f"{wanted[:12]}, the weights of {entry.name} that the features came from",
            where="--weights",
            next="give the file that was used then, or another output for untrained features",
        )
    known = recall(wanted)
    if known is not None:
        return known, []
    try:
        default = entry.weights.find() if entry.weights is not None else None
    except WeightsError as error:  # a damaged download
        return None, [error.what]
    if default is None or default.sha256 == wanted:
        return default, []
    return None, [f"{default.origin} ({default.sha256[:12]})"]


def describe(p: Preprocessing) -> str:
    """A preprocessing in one line, for people."""
    size = f"{p.crop[0]}x{p.crop[1]}"
    side = "x".join(map(str, p.resize)) if isinstance(p.resize, tuple) else p.resize
    framed = {
        "crop": f"{p.interpolation} resize to {side}, centre crop {size}",
        "whole": f"the whole image resized to {size}, {p.interpolation}",
        "pad": f"the whole image fitted into {size}, {p.interpolation}",
    }.get(p.framing, f"{p.framing} of {size}, {p.interpolation}")
    values = "" if p.range == "full" else f", range {p.range}"
    values += "" if p.decode == "full" else ", JPEG decoded scaled"
    return f"{framed}, mean {list(p.mean)}, std {list(p.std)}{values}"


__all__ = [
    "DEFAULT",
    "ENTRIES",
    "describe",
    "find_entry",
    "from_recipe",
    "list_backbones",
    "list_sources",
    "missing_preprocessing",
    "resolve",
]
