"""ONNX files from anywhere: ``--backbone model.onnx``. The file is network and weights in one.

In recipes it is ``onnx/`` and the first digits of its hash, so that renaming or moving it changes
nothing; where it was seen is kept in the user's cache (`recall`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...images.preprocess import Preprocessing
from .. import memo, recall
from ..base import Entry, Weights
from ..hashes import sha256_of

_DIGITS = 12  # of the hash in a name: 48 bits, so that two files of one user never share them
_STATED = ("resize", "crop", "interpolation", "mean", "std")


class OnnxFiles:
    """ONNX files, as a source of backbones."""

    prefix = "onnx"
    summary = "any ONNX file by its path: model.onnx (TensorFlow and Keras come in this way)"

    def entry(self, name: str) -> Entry:
        """A file by its path, or one that was used before by the first digits of its hash.

        Raises
        ------
        InputError
            If there is no such file, or it is no network that takes images.
        """
        path = Path(name).expanduser().absolute()
        if path.is_file():
            return _entry(content_of(path)[:_DIGITS], path, path.stem)
        if re.fullmatch(rf"[0-9a-f]{{{_DIGITS}}}", name):
            return _entry(name, None, "")
        raise InputError(
            f"no ONNX file at {path}",
            expected=f"a file, or {_DIGITS} digits of the hash of one that was used before",
            where="--backbone",
            next="check the path",
        )


SOURCE = OnnxFiles()


def _entry(digits: str, path: Path | None, stem: str) -> Entry:
    def graph() -> Path:
        return (FileWeights(digits, path).find() or _gone(digits)).file()

    def known() -> Mapping[str, Any]:
        return _tuples(_about(graph())["fields"])

    if path is not None:
        _about(path)  # a file that cannot be used is told now, not after the images were found
    return Entry(
        name=f"{SOURCE.prefix}/{digits}",
        source=SOURCE.prefix,
        architecture=digits,
        weights=FileWeights(digits, path),
        preprocessing=lambda: _preprocessing(known(), stem or digits),
        graph=graph,
        libraries=("onnx",),
        known=known,
        file_label=stem,
    )


@dataclass(frozen=True, slots=True)
class FileWeights:
    """The weights of an ONNX file: the file itself.

    Attributes
    ----------
    digits : str
        The hash of its content begins with them.
    path : pathlib.Path or None
        None: wherever it was seen.
    """

    digits: str
    path: Path | None

    @property
    def label(self) -> str:
        """They have no name of their own."""
        return "own"

    @property
    def licence(self) -> str:
        """Files do not say."""
        return "not stated in the file"

    def here(self) -> bool:
        """Whether a file is where this one was."""
        return any(path.is_file() for path in self._places())

    def find(self) -> Weights | None:
        """The file, if it is where it was seen and is the same; None else."""
        for path in self._places():
            try:
                digest = content_of(path)
            except (InputError, OSError):
                continue
            if digest.startswith(self.digits):
                return Weights(path, digest, f"file {path.name}")
        return None

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """There is nowhere to fetch it from: the error says what is missing."""
        _gone(self.digits).file()
        raise AssertionError("weights without a path raise")

    def _places(self) -> list[Path]:
        if self.path is not None:
            return [self.path]
        seen = [recall.places(sha256) for sha256 in recall.complete(self.digits)]
        return [Path(place["path"]) for places in seen for place in places]


def _gone(digits: str) -> Weights:
    what = f"the ONNX file whose SHA-256 begins with {digits} is not where it was, or has changed"
    return Weights(None, digits, what)


def content_of(path: Path) -> str:
    """SHA-256 of an ONNX file and the files of weights beside it that it names."""
    from ..graphs.external import content_sha256, inside

    files = [inside(place, path) for place in _about(path)["external"]]
    return content_sha256(_own_sha256(path), files)


def _own_sha256(path: Path) -> str:
    state = path.stat()
    return _hashed(path, state.st_size, state.st_mtime_ns, state.st_ino)


@functools.lru_cache(maxsize=64)
def _hashed(path: Path, *state: int) -> str:
    """Of a file in one state: within a run its hash is asked for again and again."""
    return sha256_of(path)


def _about(path: Path) -> dict[str, Any]:
    """What has to be known of a file before it is run, read once for each content.

    Returns
    -------
    dict
        ``external``: names of the files beside it that hold weights. ``fields``: of
        `Preprocessing`, as far as the file tells them.
    """

    def read() -> dict[str, Any]:
        from ..graphs.external import external_names
        from ..graphs.input import find_input
        from ..graphs.metadata import read_metadata
        from ..graphs.reading import parse
        from ..graphs.reading import read as read_model

        names = external_names(parse(path), path)
        model = read_model(path)
        metadata = read_metadata(model)
        image = find_input(model.graph, metadata.layout)
        fields = dict(metadata.fields)
        if image.size is not None:
            fields["crop"] = list(image.size)
        return {"external": names, "fields": fields}

    return memo.kept(f"onnx/{_own_sha256(path)}", ("onnx",), read)


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Lists of JSON as `Preprocessing` has them."""
    return {name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()}


def _preprocessing(known: Mapping[str, Any], name: str) -> Preprocessing:
    missing = [f"--{field}" for field in _STATED if field not in known]
    if not missing:
        return Preprocessing(**known)
    raise InputError(
        f"how images are prepared for {name} does not stand in the ONNX file",
        expected=", ".join(missing),
        where="--backbone",
        next="state them as the network was trained: --resize 256 --crop 224 --interpolation "
        "bilinear, and --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 (PyTorch, ImageNet), "
        "0.5,0.5,0.5 for both (-1..1), or --mean 0,0,0 --std 0.00392157,0.00392157,0.00392157 "
        "(pixels of 0..255); docs/other-networks.md has those of Keras",
    )


__all__ = ["SOURCE", "FileWeights", "OnnxFiles", "content_of"]
