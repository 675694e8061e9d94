"""The perceptual hash: whole numbers, the same everywhere; near for copies, far for other pictures."""

import io

import numpy as np
import pytest
from bottleneck_probe.images import phash as module
from bottleneck_probe.images.payload import fetch, to_pixels
from bottleneck_probe.images.phash import distance, phash
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


def picture(seed: int, width: int = 300, height: int = 220) -> Image.Image:
    """A soft random picture with edges, as photographs have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).copy()
    for _ in range(6):
        y, x = int(rng.integers(height - 20)), int(rng.integers(width - 20))
        pixels[y : y + int(rng.integers(10, 90)), x : x + int(rng.integers(10, 90))] = rng.integers(
            0, 256, 3
        )
    return Image.fromarray(pixels)


def saved(image: Image.Image, quality: int = 90, scale: float = 1.0, kind: str = "JPEG"):
    size = round(image.width * scale), round(image.height * scale)
    file = io.BytesIO()
    image.resize(size, Image.Resampling.LANCZOS).save(file, kind, quality=quality)
    return np.asarray(Image.open(file).convert("RGB"))


def by_loop(pixels: np.ndarray) -> np.ndarray:
    """The cells, one by one, in whole numbers of Python's."""
    height, width = pixels.shape[:2]
    if width < 32:
        pixels = pixels[:, np.arange(32) * width // 32]
    elif width > 2048:
        pixels = pixels[:, :: -(-width // 2048)]
    width = pixels.shape[1]
    lines = [(2 * i + 1) * height // 256 for i in range(128)]
    grey = pixels[lines].astype(np.int64) @ np.array([77, 150, 29])
    edges = [*(i * width // 32 for i in range(32)), width]
    cells = [
        [
            int(grey[4 * y : 4 * y + 4, edges[x] : edges[x + 1]].sum())
            // (4 * (edges[x + 1] - edges[x]))
            for x in range(32)
        ]
        for y in range(32)
    ]
    return np.array(cells)


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 400),
    width=st.one_of(st.integers(1, 80), st.sampled_from([333, 500, 2048, 2049, 5001])),
    seed=st.integers(0, 9),
)
def test_the_cells_are_exact_at_any_size(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    pixels[: height // 2] = 255  # the largest sums
    expected = by_loop(pixels)
    assert np.array_equal(module._cells(pixels), expected)
    assert module._kernel() is not None
    with pytest.MonkeyPatch.context() as patch:  # where numba cannot be used
        patch.setattr(module, "_kernel", lambda: None)
        assert np.array_equal(module._cells(pixels), expected)


def test_the_strongest_frequencies_are_those_of_scipy():
    """Each bit says on which side of the median scipy's own transform has it, up to rounding."""
    from scipy.fft import dctn

    for seed in range(20):
        pixels = np.asarray(picture(seed))
        strength = dctn(by_loop(pixels), norm="ortho")[:8, :8]
        # scipy scales the first row and column by 1 / sqrt(2); the hash takes plain cosines.
        strength[0] *= np.sqrt(2)
        strength[:, 0] *= np.sqrt(2)
        values = strength.ravel()[1:]
        margin = values - np.median(values)
        bits = [(phash(pixels) >> bit) & 1 for bit in range(64)]
        sure = np.abs(margin) > 1e-3 * np.abs(values).max()
        assert sure.sum() > 55
        assert bits[0] == 0
        assert np.array_equal(np.array(bits[1:], bool)[sure], (margin > 0)[sure])


@pytest.mark.parametrize(
    "change",
    [
        {"quality": 95},
        {"quality": 50},
        {"quality": 90, "scale": 0.9},
        {"quality": 90, "scale": 0.5},
        {"quality": 90, "scale": 1.5},
        {"kind": "PNG"},
        {"kind": "WEBP", "quality": 80},
    ],
    ids=str,
)
def test_the_same_picture_saved_again_stays_within_four_bits(change):
    images = [picture(seed) for seed in range(40)]
    hashes = np.array([phash(np.asarray(image)) for image in images], np.uint64)
    again = np.array([phash(saved(image, **change)) for image in images], np.uint64)
    far = distance(hashes, again)
    assert (far <= 4).sum() >= 39
    assert far.max() <= 8


def test_other_pictures_differ_in_about_half_of_the_bits():
    hashes = np.array([phash(np.asarray(picture(seed))) for seed in range(80)], np.uint64)
    far = distance(hashes[:, None], hashes)[np.triu_indices(80, 1)]
    assert far.min() > 10
    assert 28 <= np.median(far) <= 36


def test_an_image_of_one_colour_has_no_bit_and_its_size_does_not_matter():
    for level in (0, 7, 255):
        for size in ((1, 1), (40, 5), (501, 333), (60, 5000)):
            assert phash(np.full((*size, 3), level, np.uint8)) == 0
    assert phash(np.asarray(picture(0))) > 0


def test_memory_that_is_turned_or_not_contiguous_gives_the_same():
    pixels = np.asarray(picture(3))
    turned = np.rot90(np.rot90(pixels, -1).copy())  # a view, its rows not side by side
    assert not turned.flags.c_contiguous
    assert phash(turned) == phash(pixels)
    assert phash(pixels[:, ::-1]) == phash(np.ascontiguousarray(pixels[:, ::-1]))


def test_the_hash_of_a_picture_does_not_change():
    """Stored hashes are compared with new ones: other code must give the same bits."""
    y, x = np.mgrid[:90, :130]
    pixels = np.stack([(3 * x + y) % 256, (x * y // 9) % 256, (5 * y) % 256], axis=2)
    assert phash(pixels.astype(np.uint8)) == 0xDA9236E6CE5CF800


def test_photographs_with_an_orientation_are_hashed_upright(test_data):
    for kind in ("Landscape", "Portrait"):
        hashes = []
        for number in range(1, 9):
            content = fetch(str(test_data / "exif-orientation" / f"{kind}_{number}.jpg")).content
            hashes.append(phash(to_pixels(content).array))
        assert distance(np.uint64(hashes[0]), np.array(hashes, np.uint64)).max() <= 4


def test_photographs_saved_again_are_near_and_others_are_not(test_data):
    files = sorted((test_data / "ants-bees" / "val").rglob("*.jpg"))[:60]
    images = [Image.open(file).convert("RGB") for file in files]
    hashes = np.array([phash(np.asarray(image)) for image in images], np.uint64)
    for change in ({"quality": 95}, {"quality": 60}, {"scale": 0.8}):
        again = np.array([phash(saved(image, **change)) for image in images], np.uint64)
        assert distance(hashes, again).max() <= 4
    far = distance(hashes[:, None], hashes)[np.triu_indices(len(files), 1)]
    assert far.min() > 8
