"""Photograph-like JPEGs for a bench: a size and a count in, files in the user's cache out.

Noise would compress badly and decode slowly, flat colour the other way round: neither says how fast
photographs are read. These begin as a part of one of the two photographs that scikit-learn brings along,
in another light each; texture, sharp edges, fine strokes and a sensor's noise are laid over it, so that
no two are alike. A network sees photographs in them, too: EfficientNet-Lite0's features in bfloat16 have a
median cosine of 0.99938 to those in float32 here, and of 0.99937 on ants and bees of ImageNet; on pictures
without a real photograph below they have 0.9989.
"""

from __future__ import annotations

import functools
import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import usercache
from ..engines import devices
from ..reporter import Reporter

if TYPE_CHECKING:
    from PIL import Image

SIZES = ((500, 375), (2000, 1500))
# Part of the folder's name: raise it when a picture changes.
_VERSION = 1
_FIELDS = 6  # luminance textures that pictures are mixed from
_MARGIN = (
    1.5  # by how much a texture is larger than a picture, so that each gets a window of its own
)
# The amplitude spectrum of natural images falls about as 1/f: D. J. Field, "Relations between the
# statistics of natural images and the response properties of cortical cells", JOSA A 4, 1987.
_SLOPES = (1.0, 1.1, 1.2, 1.3)
# From here on a camera's usual 4:2:0 colour; below it 4:4:4, as 96 % of the photographs of
# ImageNet's ants and bees have.
_CAMERA_SIDE = 1200


def photographs(n: int, size: tuple[int, int], reporter: Reporter) -> list[Path]:
    """Files of n photograph-like JPEGs, made now where they are not there.

    Parameters
    ----------
    n : int
    size : tuple of int
        Width and height in pixels; every fourth picture stands upright.
    reporter : Reporter
        Told how many are made.

    Returns
    -------
    list of Path
        Picture i is the same for every n, and on every machine with the same NumPy and Pillow.

    Raises
    ------
    CacheError
        If the user's cache cannot be written.
    """
    folder = usercache.folder("bench", f"photographs-{_VERSION}-{size[0]}x{size[1]}")
    paths = [folder / f"{i:05d}.jpg" for i in range(n)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    if not missing:
        return paths
    reporter.note(f"making {len(missing):,} photograph-like JPEGs, once: {folder}")
    pool = ThreadPoolExecutor(devices.cores())
    try:
        with reporter.progress("images", len(missing)) as bar:
            for i, content in zip(missing, pool.map(lambda i: jpeg(i, size), missing), strict=True):
                usercache.write(paths[i], content)
                bar.advance()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return paths


def jpeg(number: int, size: tuple[int, int]) -> bytes:
    """One picture as a file, quality 85 to 95.

    Parameters
    ----------
    number : int
        Its seed.
    size : tuple of int
        Width and height in pixels.
    """
    rng = np.random.default_rng([_VERSION, number, *size])
    picture = draw(rng, size[::-1] if number % 4 == 3 else size)
    file = io.BytesIO()
    camera = max(size) >= _CAMERA_SIDE
    quality = int(rng.integers(90 if camera else 85, 96))
    picture.save(file, "JPEG", quality=quality, subsampling="4:2:0" if camera else "4:4:4")
    return file.getvalue()


def draw(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    """One picture.

    Parameters
    ----------
    rng : numpy.random.Generator
    size : tuple of int
        Width and height in pixels.

    Returns
    -------
    PIL.Image.Image of mode RGB
    """
    from PIL import Image

    width, height = size
    pixels = _scene(rng, size)
    fields = _textures(max(size))
    window = _window(rng, fields[rng.integers(len(fields))], size)
    # Mostly a change of brightness, a little one of colour.
    pixels += window[..., None] * (rng.uniform(0.8, 1.2, 3) * rng.uniform(4, 12))
    canvas = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    _objects(rng, canvas)
    pixels = np.asarray(canvas, np.float32)
    grain = _window(rng, _grain(max(size)), size)
    # A sensor's noise grows with the light; the colour filter makes it differ by channel.
    camera = max(size) >= _CAMERA_SIDE  # small ones were shrunk, which averages the noise away
    sigma = rng.uniform(2.5, 7.0) * (1.4 if camera else 1.0) * np.sqrt((pixels + 20) / 150)
    noisy = pixels + sigma * np.stack([grain, np.roll(grain, 7, 0), np.roll(grain, 11, 1)], axis=2)
    assert noisy.shape == (height, width, 3)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _scene(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A part of a real photograph in another light, (h, w, 3) float32."""
    from PIL import Image

    photographs = _real()
    photograph = photographs[rng.integers(len(photographs))]
    width = photograph.width * rng.uniform(0.5, 1)
    # A little broader or narrower than it is, as from another side.
    height = min(width * size[1] / size[0] * rng.uniform(0.8, 1.1), photograph.height)
    left = rng.uniform(0, photograph.width - width)
    top = rng.uniform(0, photograph.height - height)
    box = (left, top, left + width, top + height)
    part = photograph.resize(size, Image.Resampling.BICUBIC, box=box)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    contrast, light = rng.uniform(0.7, 1.3), rng.uniform(-24, 24)
    tint = rng.uniform(-18, 18, 3)
    changed = (np.asarray(part, np.float32) - 128) * contrast + (128 + light + tint)
    return changed.astype(np.float32)


@functools.cache
def _real() -> list[Image.Image]:
    """A temple and a flower, each of 640x427 pixels, as scikit-learn brings them along."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def _objects(rng: np.random.Generator, canvas: Image.Image) -> None:
    """Discs, polygons and strokes like letters, with sharp edges, drawn onto the picture."""
    from PIL import ImageDraw

    pen = ImageDraw.Draw(canvas)
    width, height = canvas.size
    side = min(width, height)

    def colour() -> tuple[int, int, int]:
        red, green, blue = (int(v) for v in rng.uniform(10, 245) + rng.uniform(-40, 40, 3))
        return red, green, blue

    for _ in range(int(rng.integers(1, 5))):
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        radius = side * rng.uniform(0.02, 0.18)
        if rng.random() < 0.5:
            flat = radius * rng.uniform(0.5, 1)
            pen.ellipse([x - radius, y - flat, x + radius, y + flat], fill=colour())
        else:
            angles = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))
            corners = [(x + radius * np.cos(a), y + radius * np.sin(a)) for a in angles]
            pen.polygon(corners, fill=colour())
    for _ in range(int(rng.integers(1, 5))):  # twigs, wires, edges of things
        line = [(rng.uniform(0, width), rng.uniform(0, height)) for _ in range(3)]
        pen.line(line, fill=colour(), width=int(rng.integers(1, max(2, side // 90))))
    if rng.random() < 0.3:
        _letters(rng, pen, canvas.size, colour())


def _letters(
    rng: np.random.Generator, pen: object, size: tuple[int, int], ink: tuple[int, int, int]
) -> None:
    """Rows of short strokes."""
    width, height = size
    tall = max(6.0, min(size) * rng.uniform(0.02, 0.05))
    left, top = rng.uniform(0, width * 0.5), rng.uniform(0, height * 0.7)
    for row in range(int(rng.integers(1, 4))):
        x, y = left, top + row * tall * 1.6
        for _ in range(int(rng.integers(8, 30))):
            for _ in range(3):
                points = rng.uniform(0, 1, (2, 2)) * (tall * 0.6, tall) + (x, y)
                pen.line([tuple(p) for p in points], fill=ink, width=max(1, int(tall / 8)))  # type: ignore[attr-defined]
            x += tall * (1.4 if rng.random() < 0.2 else 0.75)


def _window(rng: np.random.Generator, field: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A part of a larger field, (h, w), turned over by chance."""
    width, height = size
    top = rng.integers(field.shape[0] - height + 1)
    left = rng.integers(field.shape[1] - width + 1)
    part = field[top : top + height, left : left + width]
    return part[:: rng.choice([-1, 1]), :: rng.choice([-1, 1])]


@functools.lru_cache(maxsize=2)
def _textures(side: int) -> list[np.ndarray]:
    """Fields of 1/f noise, each (s, s) float32 of mean 0 and standard deviation 1."""
    rng = np.random.default_rng([_VERSION, side])
    s = int(side * _MARGIN)
    frequencies = np.hypot(np.fft.fftfreq(s)[:, None], np.fft.rfftfreq(s)[None, :])
    frequencies[0, 0] = np.inf  # no mean: the light has it
    fields = []
    for i in range(_FIELDS):
        spectrum = np.fft.rfft2(rng.standard_normal((s, s), np.float32))
        field = np.fft.irfft2(spectrum / frequencies ** _SLOPES[i % len(_SLOPES)], s=(s, s))
        fields.append((field / field.std()).astype(np.float32))
    return fields


@functools.lru_cache(maxsize=2)
def _grain(side: int) -> np.ndarray:
    """White noise (s, s) float32 of standard deviation 1."""
    s = int(side * _MARGIN)
    return np.random.default_rng([_VERSION, side, 1]).standard_normal((s, s), np.float32)
