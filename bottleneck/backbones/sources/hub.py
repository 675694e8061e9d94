"""PyTorch Hub: ``hub/OWNER/REPO[@REF]:MODEL``, or a clone, ``hub//path/to/clone:MODEL``.

The repository's own code builds the network, so it runs. Its name in recipes carries a digest of that
code: another version is another backbone.
"""

from __future__ import annotations

import re
from functools import cache, partial
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...images.preprocess import Preprocessing
from .. import folders
from .. import hub_repository as repository
from ..base import Entry, Whole
from ..hub_files import digest_of

_NAME = re.compile(r"([\w.-]+)/([\w.-]+?)(?:@([\w./-]+))?")


class Hub:
    """Entry points of ``hubconf.py`` in repositories of others."""

    prefix = "hub"
    summary = (
        "hub/OWNER/REPO:MODEL or hub//path/to/clone:MODEL: PyTorch Hub; its code runs; "
        "--weights FILE"
    )

    def entry(self, name: str) -> Entry:
        """A network that a repository's entry point builds."""
        where, colon, model = name.rpartition(":")
        if not colon or not where or not model:
            raise InputError(
                f"hub/{name} names no model",
                expected="hub/OWNER/REPO:MODEL or hub//path/to/clone:MODEL",
                where="--backbone",
                next="the functions in the repository's hubconf.py are its models",
            )
        where, digest = folders.split(where)
        folder, short, origin, *notes = _locate(where, digest)
        now = digest_of(folder)
        if digest and digest != now:
            raise folders.changed(f"hub/{name}", digest, "files")
        folders.remember(folder, now)
        return Entry(
            name=f"hub/{short}+{now}:{model}",
            source="hub",
            architecture=model,
            weights=None,
            preprocessing=partial(_preprocessing, folder, model, now),
            build=partial(_build, folder, model, now),
            stable=False,
            notes=(f"runs the code of {origin}, in {folder}", *notes),
        )


SOURCE = Hub()


def _locate(where: str, digest: str) -> tuple[Path, str, str] | tuple[Path, str, str, str]:
    """The folder, what it is called in recipes, whose it is, and what else is to be said."""
    if folders.is_path(where):
        folder = folders.open_folder(where)
        repository.check(folder)
        return folder, folder.name, "the clone"
    known = folders.recall(digest, digest_of) if digest else None
    named = _NAME.fullmatch(where)
    if known is not None:
        origin = f"github.com/{where}" if named else "the clone"
        return known, where, origin
    if named is None:
        if digest:
            raise folders.changed(f"hub/{where}", digest, "files")
        raise InputError(
            f"hub/{where} is no name of a repository",
            expected="hub/OWNER/REPO:MODEL, hub/OWNER/REPO@REF:MODEL or hub//path/to/clone:MODEL",
            where="--backbone",
        )
    owner, repo, ref = named[1], named[2], named[3] or ""
    folder, ref = repository.cached(owner, repo, ref) or repository.fetch(owner, repo, ref)
    repository.check(folder)
    found = folder, f"{owner}/{repo}@{ref}", f"github.com/{owner}/{repo} at {ref}"
    other = repository.passed_over(owner, repo, ref)
    if other is None:
        return found
    return *found, f"torch.hub's own {other} is not used: its name may mean another repository"


def _build(folder: Path, model: str, digest: str, size: tuple[int, int]) -> Whole:
    module: Any = repository.build(folder, model, digest)
    classifier = _classifier(folder, digest, model, size)
    return Whole(module, classifier, prefix_tokens=getattr(module, "num_prefix_tokens", None))


@cache
def _classifier(folder: Path, digest: str, model: str, size: tuple[int, int]) -> str | None:
    """The classifier's name, told from values: on the meta device it would not be."""
    import torch

    from ..foreign import classifier_of

    with torch.device("cpu"):
        module: Any = repository.build(folder, model, digest)
        return classifier_of(module.eval(), size).name


def _preprocessing(folder: Path, model: str, digest: str) -> Preprocessing:
    from ..foreign import preprocessing_of_module

    module = repository.build(folder, model, digest)
    return preprocessing_of_module(module, f"{model} of {folder.name}")
