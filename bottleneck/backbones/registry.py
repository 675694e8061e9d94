"""Which backbones there are, and how a name becomes one that can be run."""

from __future__ import annotations

import difflib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import usercache
from ..errors import CacheError, InputError, WeightsError
from ..images.preprocess import Preprocessing
from ..reporter import Reporter, Silent
from . import efficientnet_lite, torchvision_models
from .base import Backbone, Entry, Weights
from .weights import from_file, sha256_of

DEFAULT = "efficientnet_lite0"

ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        efficientnet_lite.EFFICIENTNET_LITE0,
        torchvision_models.RESNET50,
        torchvision_models.VGG16,
    )
}


def find_entry(name: str) -> Entry:
    """The registry's line for a backbone.

    Raises
    ------
    InputError
        With the nearest names, if there is none.
    """
    if name in ENTRIES:
        return ENTRIES[name]
    near = difflib.get_close_matches(name.lower(), ENTRIES, n=3, cutoff=0.4)
    raise InputError(
        f"no backbone is called {name!r}",
        expected=", ".join(ENTRIES),
        where="--backbone",
        next=f"did you mean {near[0]}?" if near else "`bottleneck backbones` lists them",
    )


def resolve(
    name: str = DEFAULT,
    *,
    weights: str | os.PathLike[str] | None = None,
    changes: dict[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> Backbone:
    """A backbone by its name, its weights found or fetched, its preprocessing settled.

    Parameters
    ----------
    name : str, default ``"efficientnet_lite0"``
    weights : path, optional
        A file of the user's, instead of the default pretrained weights. The preprocessing stays
        that of the default weights unless `changes` says otherwise.
    changes : dict, optional
        Fields of `Preprocessing` to change: ``resize, crop, interpolation, mean, std``.
    reporter : Reporter, optional
        Hears what is fetched and taken for granted.

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
    entry = find_entry(name)
    reporter = reporter or Silent()
    preprocessing = entry.preprocessing()
    if changes:
        preprocessing = replace(preprocessing, **changes)
    if weights is not None:
        found = from_file(weights)
        if not changes:
            reporter.note(
                f"weights from {found.origin}: preprocessed as for {entry.name}'s "
                f"{entry.weights.label} weights ({describe(preprocessing)})"
            )
    else:
        found = entry.weights.find() or entry.weights.fetch(reporter.note)
    _remember(found)
    return Backbone(entry, found, preprocessing)


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
    """
    entry = find_entry(recipe["backbone"])
    wanted = recipe["weights_sha256"]
    tried = []
    if weights is not None:
        found: Weights | None = from_file(weights)
        if found and found.sha256 != wanted:
            raise WeightsError(
                f"{weights} has SHA-256 {found.sha256[:12]}",
                expected=f"{wanted[:12]}, the weights of {entry.name} that the features came from",
                where="--weights",
                next="give the file that was used then",
            )
    else:
        found = _recall(wanted)
        if found is None:
            try:
                default = entry.weights.find()
            except WeightsError as error:  # a damaged download
                default = None
                tried.append(error.what)
            if default and default.sha256 == wanted:
                found = default
            elif default:
                tried.append(f"{default.origin} ({default.sha256[:12]})")
    if found is None:
        what = f"the weights of {entry.name} with SHA-256 {wanted[:12]} are not on this machine" + (
            f"; found only {', '.join(tried)}" if tried else ""
        )
        found = Weights(None, wanted, what)
        if not lazy:
            found.file()
    else:
        _remember(found)
    return Backbone(entry, found, Preprocessing.from_recipe(recipe["preprocessing"]))


def list_backbones() -> list[dict[str, Any]]:
    """Every backbone by name, with the facts needed to choose one.

    Returns
    -------
    list of dict
        Keys ``name, source, feature_size, penultimate, input_size, parameters, gmacs, top1,
        weights, licence, here``: multiply-adds in 1e9, top-1 in per cent as published, `here` true
        if the weights are on this machine.

    Examples
    --------
    >>> [b["feature_size"] for b in list_backbones()]
    [1280, 2048, 4096]
    """
    return [
        {
            "name": entry.name,
            "source": entry.source,
            "feature_size": entry.feature_size,
            "penultimate": entry.penultimate,
            "input_size": list(entry.preprocessing().crop),
            "parameters": entry.parameters,
            "gmacs": entry.gmacs,
            "top1": entry.top1,
            "weights": entry.weights.label,
            "licence": entry.weights.licence,
            "here": _here(entry),
        }
        for entry in ENTRIES.values()
    ]


def _here(entry: Entry) -> bool:
    try:
        return entry.weights.find() is not None
    except WeightsError:  # a damaged download is as good as none
        return False


def describe(p: Preprocessing) -> str:
    """A preprocessing in one line, for people."""
    return (
        f"{p.interpolation} resize to {p.resize}, centre crop {p.crop[0]}x{p.crop[1]}, "
        f"mean {list(p.mean)}, std {list(p.std)}"
    )


_REMEMBERED = 8  # places of one file of weights


def _remember(weights: Weights) -> None:
    """Keep where a file of weights was seen, by hash, so that a probe finds it again."""
    seen = {"path": str(weights.path), "origin": weights.origin}
    try:
        known = _notes(weights.sha256)
        if seen not in known[:1]:
            places = [seen, *(each for each in known if each != seen)][:_REMEMBERED]
            note = usercache.folder("weights") / f"{weights.sha256}.json"
            usercache.write(note, json.dumps(places).encode())
    except (OSError, CacheError):
        return  # only a hint: without it the file has to be named again


def _notes(sha256: str) -> list[dict[str, str]]:
    """Where weights with this hash were seen; the last place first."""
    try:
        note = usercache.folder("weights") / f"{sha256}.json"
        found = json.loads(note.read_text("utf-8"))
        return [{"path": str(x["path"]), "origin": str(x["origin"])} for x in found]
    except (OSError, CacheError, ValueError, KeyError, TypeError):
        return []


def _recall(sha256: str) -> Weights | None:
    for seen in _notes(sha256):
        path = Path(seen["path"])
        try:
            # The note is only a hint: the file may have been replaced since.
            if sha256_of(path) == sha256:
                return Weights(path, sha256, seen["origin"])
        except OSError:
            continue
    return None
