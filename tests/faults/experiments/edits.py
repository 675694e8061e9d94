"""Images are rewritten while a run reads them: each feature belongs to the bytes of its key."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.images import payload
from bottleneck_probe.images.preprocess import decoded, frames
from harness.walk import Known, extract, in_process, stub, write_in_place

FULL = {"rounds": 1000, "seed": 0}
SMALL = {"rounds": 20, "seed": 1}

N = 8
# 6 KB each, so that a reader can meet a file that is half rewritten; and colours enough.
SIDE = (64, 32)
COLOURS = 60_000


def run(folder: Path, tell: Callable[[str], None], *, rounds: int, seed: int) -> dict[str, Any]:
    """Run `rounds` extractions beside a thread that rewrites the images, and one after each."""
    rng = random.Random(seed)
    known = Known()
    root, output = folder / "photos", folder / "x.h5"
    root.mkdir(parents=True)
    files = [str(root / f"{i}.bmp") for i in range(N)]
    wrong: list[str] = []
    written = read = changed = 0
    with in_process(folder), _noted() as torn:
        for number, file in enumerate(files):
            Path(file).write_bytes(known.image(number, SIDE))
        for done in range(1, rounds + 1):
            writer = Rewriter(known, files, rng.randrange(1 << 30))
            with writer:
                found = extract(root, output, allow_bad=True, add=True)
            written += writer.written
            read += found.read
            changed += found.quarantined
            reasons = {reason for _, reason in found.features.quarantine}
            wrong += [f"round {done}: {reason}" for reason in reasons - PASSING]
            wrong += _wrong(known, found, done, "while the images were rewritten", torn)
            # Whatever the run noted of the files, the next one takes them as they are now.
            found = extract(root, output)
            wrong += _wrong(known, found, done, "afterwards")
            keys = {
                path: key.tobytes()
                for path, key in zip(found.features.paths, found.features.keys, strict=True)
            }
            now = {
                f"{i}.bmp": blake3(Path(file).read_bytes()).digest() for i, file in enumerate(files)
            }
            if keys != now:
                wrong.append(f"round {done}: not what lies there now")
            if done % 100 == 0:
                tell(f"{done} rounds, {written} rewrites, {len(wrong)} wrong")
    return {
        "held": not wrong and written > rounds,
        "told": f"{rounds} rounds, {written} rewrites, {read} files read meanwhile, {changed} of them "
        f"quarantined as changed while read; {len(wrong)} wrong rows",
        "wrong": wrong[:20],
        "rewrites": written,
        "read": read,
        "changed": changed,
    }


# What a file may be that is read while it is rewritten, truncated and replaced.
PASSING = {"changed while read", "empty file", "no such file"}


@contextmanager
def _noted() -> Iterator[dict[bytes, bytes]]:
    """By key all bytes that are read from files, some of them half old and half new.

    The kernel may let a reader see the first pages of a ``write`` and not the others, with nothing in
    the file's times to show it. That is a content like any other, as long as what is decoded is what
    was hashed.
    """
    contents: dict[bytes, bytes] = {}
    real = payload._read_all

    def read_all(*arguments: Any) -> bytes:
        content: bytes = real(*arguments)
        contents[blake3(content).digest()] = content
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payload, "_read_all", read_all)
        yield contents


def _wrong(
    known: Known,
    found: Any,
    done: int,
    when: str,
    torn: Mapping[bytes, bytes] = MappingProxyType({}),
) -> list[str]:
    features = found.features
    rows = []
    for key, row in zip(features.keys, np.asarray(features.features[:]), strict=True):
        content = torn.get(key.tobytes())
        if key.tobytes() in known.number or content is None:
            rows += known.wrong_rows(key[None], row[None])
            continue
        p = stub.stub_preprocessing()
        colour = frames(decoded(content, p).array, p).mean(axis=(0, 1, 2), dtype=np.float64)
        if np.abs(row - [*colour, 1]).max() > 1e-3:
            rows.append(f"{row.tolist()}, expected {colour.tolist()}")
    if found.computed + found.reused + found.quarantined != found.seen:
        rows.append("computed + reused + quarantined is not seen")
    return [f"round {done}, {when}: {row}" for row in rows]


class Rewriter(threading.Thread):
    """Gives the files other colours, in all the ways that programs do, until it is stopped.

    Contents are noted before they are written.
    """

    def __init__(self, known: Known, files: list[str], seed: int) -> None:
        super().__init__(daemon=True)
        self.written = 0
        self._known, self._files = known, files
        self._rng = random.Random(seed)
        self._stop_it = threading.Event()

    def __enter__(self) -> Rewriter:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_it.set()
        self.join()

    def run(self) -> None:
        """Write until the end."""
        while not self._stop_it.is_set():
            file = self._rng.choice(self._files)
            content = self._known.image(self._rng.randrange(COLOURS), SIDE)
            how = self._rng.randrange(4)
            if how == 0:
                other = f"{file}.new"
                Path(other).write_bytes(content)
                os.replace(other, file)
            elif how == 1:
                with open(file, "wb") as new:  # empty for a moment
                    new.write(content)
            else:
                write_in_place(file, content, keep_times=how == 2)
            self.written += 1
            if self._rng.random() < 0.3:
                self._stop_it.wait(self._rng.random() * 0.004)
