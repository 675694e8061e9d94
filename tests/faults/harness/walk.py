"""A stub backbone inside of this process, and what experiments with it know of images."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.engines import devices
from bottleneck_probe.extraction import record
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.result import Extraction
from bottleneck_probe.reporter import Silent

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "extraction"))

import stub

SIDE = (3, 2)


@contextmanager
def in_process(folder: Path) -> Iterator[stub.Calls]:
    """Every chosen engine is the stub, until the end of the block; an image counts as settled soon.

    The rule that a file must be older than the clock's grain to be recognised by its times stays, with
    10 ms for the grain, so that a walk of quick steps meets both sides of it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BOTTLENECK_CACHE_DIR", str(folder / "user-cache"))
        patch.setattr(devices, "cpu_precisions", lambda: ("fp32",))
        patch.setattr(record, "GRAIN_NS", 10_000_000)
        yield stub.install(patch.setattr, patch.setitem)


def image_bytes(number: int, side: tuple[int, int] = SIDE) -> bytes:
    """A BMP of one colour: all of one side have one size in bytes.

    Made by hand, so that what is expected of a file is not what some library wrote.
    """
    width, height = side
    row = bytes(reversed(stub.colour_of(number))) * width
    pixels = (row + bytes(-len(row) % 4)) * height
    header = (
        b"BM" + (54 + len(pixels)).to_bytes(4, "little") + bytes(4) + (54).to_bytes(4, "little")
    )
    size = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return header + (40).to_bytes(4, "little") + size + b"\1\0\x18\0" + bytes(24) + pixels


class Known:
    """The colour of every content that was ever written, by the key of its bytes."""

    def __init__(self) -> None:
        self.number: dict[bytes, int] = {}

    def image(self, number: int, side: tuple[int, int] = SIDE) -> bytes:
        """Bytes of an image, noted before anybody can read them."""
        content = image_bytes(number, side)
        self.number[blake3(content).digest()] = number
        return content

    def wrong_rows(self, keys: np.ndarray, features: np.ndarray) -> list[str]:
        """Rows whose feature is not that of the bytes that their key names."""
        wrong = []
        for row, (key, feature) in enumerate(zip(keys, features, strict=True)):
            number = self.number.get(key.tobytes())
            if number is None:
                wrong.append(f"row {row}: no content of key {key.tobytes().hex()[:8]} was written")
                continue
            expected = np.array([*stub.colour_of(number), 1])
            if np.abs(feature - expected).max() > 1e-3:
                wrong.append(f"row {row}: {feature.tolist()}, expected {expected.tolist()}")
        return wrong


def extract(images: Any, output: Path, **options: Any) -> Extraction:
    """One run as the command makes it, one image to a forward."""
    stated = {"backbone": "stub", "engine": "eager", "batch_size": 1, "workers": 2, **options}
    return run(find_images(images), output=output, reporter=Silent(), **stated)


def write_in_place(path: str, content: bytes, keep_times: bool = False) -> None:
    """Write over a file, its number and, if wished, its time of change kept."""
    before = os.stat(path)
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()
    if keep_times:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
