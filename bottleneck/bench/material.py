"""What a bench runs on: any images in; files that every contestant can read, in folders of any size, out.

The contestants must do the same work. So an image that only some could read is left out, equal
bytes are taken once (they would be computed once here and twice elsewhere), and names are numbers, so
that row i is image i everywhere and a folder of k images is a random sample of all of them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..engines import devices
from ..errors import InputError
from ..images.color import BadImage
from ..images.payload import fetch, key_of, to_pixels
from ..images.sample import ImageSet, Sample
from ..reporter import Reporter

# What torchvision's ImageFolder and timm's folder reader both take.
SUFFIXES = {".jpg": ".jpg", ".jpeg": ".jpg", ".png": ".png"}
LEAST = 8


@dataclass(frozen=True, slots=True)
class Picture:
    """One image that all contestants can read.

    Attributes
    ----------
    source : str or bytes
        A path, or an encoded file.
    suffix : str
    width, height, size : int
        In pixels, and in bytes.
    """

    source: str | bytes
    suffix: str
    width: int
    height: int
    size: int


class Material:
    """Folders of links to the images, made as they are asked for.

    Parameters
    ----------
    pictures : sequence of Picture
    folder : pathlib.Path
        An empty one, removed by whoever made it.
    described : str
        Where the images come from.
    left_out : int
        Images that not every contestant can read, or that were there twice.
    """

    def __init__(
        self, pictures: Sequence[Picture], folder: Path, described: str, left_out: int = 0
    ) -> None:
        self._pictures = list(pictures)
        self._folder = folder
        self._described = described
        self._left_out = left_out

    def __len__(self) -> int:
        return len(self._pictures)

    def folder(self, k: int) -> Path:
        """A folder with one class folder that holds the first k images."""
        root = self._folder / f"first-{k}"
        if root.is_dir():
            return root
        inside = root / "photographs"
        inside.mkdir(parents=True)
        for i, picture in enumerate(self._pictures[:k]):
            _place(picture.source, inside / f"{i:06d}{picture.suffix}")
        return root

    def to_json(self) -> dict[str, Any]:
        """How many images, how large, from where."""
        sides = np.array([(p.width, p.height) for p in self._pictures])
        width, height = (int(v) for v in np.median(sides, axis=0))
        return {
            "source": self._described,
            "count": len(self),
            "left_out": self._left_out,
            "width": width,
            "height": height,
            "kilobytes": round(float(np.mean([p.size for p in self._pictures])) / 1000, 1),
        }


def _place(source: str | bytes, target: Path) -> None:
    if isinstance(source, bytes):
        target.write_bytes(source)
        return
    try:
        target.symlink_to(source)
    except OSError:  # Windows without developer mode, some network disks
        shutil.copyfile(source, target)


def of_files(paths: Sequence[Path], folder: Path, described: str) -> Material:
    """Of JPEGs that were made for it, which need no check."""
    from PIL import Image

    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(Picture(str(path), ".jpg", *image.size, path.stat().st_size))
    return Material(pictures, folder, described)


def of_images(
    images: ImageSet, n: int, folder: Path, reporter: Reporter, *, seed: int = 0
) -> Material:
    """Of the user's images: up to n of them, drawn by chance.

    Parameters
    ----------
    images : ImageSet
    n : int
    folder : pathlib.Path
    reporter : Reporter
    seed : int, default 0
        Of the draw.

    Raises
    ------
    InputError
        If fewer than `LEAST` can be read by all contestants.
    """
    order = np.random.default_rng(seed).permutation(len(images.samples))
    pictures: list[Picture] = []
    keys: set[bytes] = set()
    looked_at = 0
    with ThreadPoolExecutor(devices.cores()) as pool, reporter.progress("look", n) as bar:
        # In parts: of a million images only as many are read as are needed.
        while looked_at < len(order) and len(pictures) < n:
            part = order[looked_at : looked_at + n - len(pictures)]
            looked_at += len(part)
            for found in pool.map(lambda i: _look(images.samples[i]), part):
                if found is not None and found[0] not in keys:
                    keys.add(found[0])
                    pictures.append(found[1])
                    bar.advance()
    left_out = looked_at - len(pictures)
    if len(pictures) < LEAST:
        raise InputError(
            f"{len(pictures)} of {looked_at} images can be read by every contestant",
            expected=f"at least {LEAST} different JPEG or PNG files of 8 bits",
            where=images.root or images.name,
            next="give another folder, or none: the bench makes photographs of its own",
        )
    if left_out:
        reporter.note(f"{left_out:,} images are left out: not every contestant can read them")
    return Material(pictures, folder, images.root or images.name, left_out)


def _look(sample: Sample) -> tuple[bytes, Picture] | None:
    """Key and picture of a sample, or None where some contestant could not read it."""
    if sample.fault:
        return None
    try:
        content = fetch(sample.source).content
        if not isinstance(content, bytes):
            return None
        suffix = SUFFIXES.get(os.path.splitext(sample.path)[1].lower())
        pixels = to_pixels(content)
    except BadImage:
        return None
    if suffix is None or pixels.range_used is not None:
        return None
    height, width = pixels.array.shape[:2]
    source = sample.source if isinstance(sample.source, str) else content
    return key_of(content), Picture(source, suffix, width, height, len(content))
