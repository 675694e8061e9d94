"""Image networks of Hugging Face: ``hf/OWNER/NAME[@REVISION]``, or ``hf//path/to/folder``.

Needs the extra ``hf``. No code of a repository is ever run: one that asks for it is refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...errors import InputError, WeightsError
from ...extras import require
from ...images.preprocess import Preprocessing
from .. import folders
from .. import transformers_models as models
from .. import transformers_pixels as pixels
from ..base import DefaultWeights, Entry, Weights
from ..hashes import sha256_of
from ..hugging_face import HubWeights
from ..memo import kept, preprocessing_of
from ..transformers_code import CONFIG, PROCESSORS, refuse_network, refuse_processor

# What transformers looks for, in this order.
FILES = ("model.safetensors", "pytorch_model.bin")
_LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True, slots=True)
class FolderWeights:
    """The weights in a folder that ``save_pretrained`` wrote."""

    folder: Path
    label: str = "in its folder"
    licence: str = "see its model card"

    def _path(self) -> Path | None:
        return next((self.folder / n for n in FILES if (self.folder / n).is_file()), None)

    def here(self) -> bool:
        """Whether there is such a file."""
        return self._path() is not None

    def find(self) -> Weights | None:
        """The file, or None."""
        path = self._path()
        return None if path is None else Weights(path, sha256_of(path), f"file {path.name}")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """There is nothing to download: the error says what was looked for."""
        parts = sorted(path.name for path in self.folder.glob("*.index.json"))
        raise WeightsError(
            f"{self.folder} holds no weights in one file"
            + (f", but parts listed in {parts[0]}" if parts else ""),
            expected=" or ".join(FILES),
            where="--backbone",
            next="save it in one: model.save_pretrained(FOLDER, max_shard_size='50GB')"
            if parts
            else "give --weights FILE",
        )


@dataclass(frozen=True, slots=True)
class RepositoryWeights:
    """The weights in a repository of the Hugging Face hub."""

    repo: str
    revision: str | None
    label: str = "main"
    licence: str = "see its model card"

    def _files(self) -> list[HubWeights]:
        return [
            HubWeights(self.repo, name, self.licence, self.label, revision=self.revision)
            for name in FILES
        ]

    def here(self) -> bool:
        """Whether one of the files is in the cache."""
        return any(file.here() for file in self._files())

    def find(self) -> Weights | None:
        """The file in the cache, or None."""
        return next((found for file in self._files() if (found := file.find())), None)

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Download the ``.safetensors``, or the older file where there is none."""
        first, second = self._files()
        try:
            return first.fetch(tell)
        except WeightsError as error:
            if "EntryNotFound" not in type(error.__cause__).__name__:
                raise
            return second.fetch(tell)


class HuggingFace:
    """Networks with a ``config.json`` that transformers can read."""

    prefix = "hf"
    summary = "hf/OWNER/NAME or hf//path/folder: image networks of Hugging Face transformers"

    def entry(self, name: str) -> Entry:
        """A network by its name on the hub, or by its folder."""
        # Only looked for: importing it takes seconds, which a run with all features at hand is spared.
        if importlib.util.find_spec("transformers") is None:
            require("transformers", purpose=f"--backbone hf/{name}")
        name, digest = folders.split(name)
        weights: DefaultWeights
        notes: list[str] = []
        if folders.is_path(name):
            folder = folders.open_folder(name)
            short, weights = folder.name, FolderWeights(folder)
        elif digest and (found := folders.recall(digest, _digest)) is not None:
            folder, short, weights = found, name, _weights_at(name, found)
        else:
            repo, _, revision = name.partition("@")
            folder = _files_from_hub(repo, revision or None, notes.append)
            short, weights = name, RepositoryWeights(repo, revision or None, revision or "main")
        if not (folder / CONFIG).is_file():
            raise InputError(
                f"{folder} has no {CONFIG}",
                expected=f"a folder that save_pretrained wrote: {CONFIG}, {PROCESSORS[0]}, {FILES[0]}",
                where="--backbone",
            )
        refuse_network(folder)
        now = _digest(folder)
        if digest and digest != now:
            raise folders.changed(f"hf/{name}", digest, CONFIG)
        folders.remember(folder, now)
        about = kept(f"hf {now}", _LIBRARIES, partial(models.describe, folder))
        return Entry(
            name=f"hf/{short}+{now}",
            source="hf",
            architecture=about["class"],
            weights=weights,
            preprocessing=partial(_preprocessing, folder),
            build=partial(models.build, folder),
            adapt=models.load,
            libraries=_LIBRARIES,
            notes=(*notes, f"penultimate: {about['penultimate']}"),
        )


SOURCE = HuggingFace()


def _digest(folder: Path) -> str:
    """Of the configuration, which decides the architecture."""
    content = (folder / CONFIG).read_bytes()
    return hashlib.sha256(content).hexdigest()[: folders.DIGITS]


def _weights_at(name: str, folder: Path) -> DefaultWeights:
    """Weights of a folder that was found again, in the hub's cache or elsewhere."""
    repo, _, revision = name.partition("@")
    weights = RepositoryWeights(repo, revision or None, revision or "main")
    in_cache = f"models--{repo.replace('/', '--')}" in folder.parts
    return weights if in_cache else FolderWeights(folder)


def _files_from_hub(repo: str, revision: str | None, tell: Callable[[str], None]) -> Path:
    """The folder of a repository's small files in the hub's cache, fetched where they are not there."""
    file = HubWeights(repo, CONFIG, "", "", revision=revision)
    try:
        found = file.find() or file.fetch(tell)
    except WeightsError as error:
        raise WeightsError(
            f"{repo} is not on this machine, and {error.what}",
            expected=f"{CONFIG}, preprocessor_config.json and model.safetensors of {repo}; their sizes "
            "and hashes are known to the hub only",
            where="--backbone",
            next=f"run `hf download {repo}` where there is a network, copy the folder over and give "
            "--backbone hf//PATH/TO/FOLDER; or name a mirror in HF_ENDPOINT",
        ) from error
    for name in PROCESSORS:
        more = HubWeights(repo, name, "", "", revision=revision)
        try:
            more.find() or more.fetch(tell)
            break
        except WeightsError:  # said when the preprocessing is asked for
            continue
    return found.file().parent


def _preprocessing(folder: Path) -> Preprocessing:
    refuse_processor(folder)
    # The configuration too: where the processor's file names no class, its model_type does.
    files = [folder / name for name in (*PROCESSORS, CONFIG) if (folder / name).is_file()]
    content = hashlib.sha256(b"\0".join(path.read_bytes() for path in files)).hexdigest()
    libraries = ("transformers", "pillow")
    return preprocessing_of(
        kept(f"hf pixels {content}", libraries, partial(pixels.preprocessing, folder))
    )
