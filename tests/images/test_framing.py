"""Framings: torchvision and plain loops as the reference, and geometry that loses nothing."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from bottleneck_probe.images.framing import fitted_size, tile_boxes
from bottleneck_probe.images.payload import payload, to_image
from bottleneck_probe.images.preprocess import (
    INTERPOLATIONS,
    Preprocessing,
    apply,
    frames,
    mean_color,
    outside,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDES = st.integers(1, 400)
VIEW = st.tuples(st.integers(1, 80), st.integers(1, 80))
COUNTS = st.integers(1, 16)


def make(framing: str, crop: tuple = (64, 48), how: str = "bilinear") -> Preprocessing:
    return Preprocessing(80, crop, how, *IMAGENET, framing=framing)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def with_corners(width: int, height: int, side: int) -> Image.Image:
    """White, with a red, green, blue and black square in its corners, row by row."""
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    pixels[:side, :side], pixels[:side, -side:] = (255, 0, 0), (0, 255, 0)
    pixels[-side:, :side], pixels[-side:, -side:] = (0, 0, 255), (0, 0, 0)
    return Image.fromarray(pixels)


CORNERS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]


def corners(view: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(view[y, x].tolist()) for y in (0, -1) for x in (0, -1)]


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, VIEW, st.sampled_from(INTERPOLATIONS))
def test_whole_is_torchvisions_resize_to_a_size(width: int, height: int, crop: tuple, how: str):
    from torchvision.transforms import InterpolationMode, Resize

    image = noise(width, height)
    expected = np.asarray(Resize(crop, InterpolationMode(how))(image))
    np.testing.assert_array_equal(apply(image, make("whole", crop, how)), expected)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, VIEW, st.sampled_from(INTERPOLATIONS))
def test_pad_is_a_resize_and_a_plain_loop(width: int, height: int, crop: tuple, how: str):
    from torchvision.transforms import InterpolationMode, Resize
    from torchvision.transforms.functional import pad

    image, p = noise(width, height), make("pad", crop, how)
    # Exact arithmetic: the scale that just fits, the other side rounded, halves up, at least 1.
    scale = min(Fraction(crop[1], width), Fraction(crop[0], height))
    w, h = (max(1, int(side * scale + Fraction(1, 2))) for side in (width, height))
    fitted = Resize((h, w), InterpolationMode(how))(image)
    left, top = (crop[1] - w) // 2, (crop[0] - h) // 2
    source = np.asarray(fitted)
    expected = np.empty((*crop, 3), dtype=np.uint8)
    for y in range(crop[0]):
        for x in range(crop[1]):
            inside = 0 <= y - top < h and 0 <= x - left < w
            expected[y, x] = source[y - top, x - left] if inside else (124, 116, 104)
    np.testing.assert_array_equal(apply(image, p), expected)
    border = [left, top, crop[1] - w - left, crop[0] - h - top]
    np.testing.assert_array_equal(apply(image, p), np.asarray(pad(fitted, border, (124, 116, 104))))


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 10**6), st.integers(1, 10**6), VIEW)
def test_pad_keeps_the_aspect_to_half_a_pixel(width: int, height: int, crop: tuple):
    w, h = fitted_size((width, height), crop)
    assert 1 <= w <= crop[1]
    assert 1 <= h <= crop[0]
    assert w == crop[1] or h == crop[0]
    # The side that does not fill the crop is off by at most half a pixel, or is the least, 1.
    by_width, by_height = Fraction(height * w, width), Fraction(width * h, height)
    half = Fraction(1, 2)
    assert (w == crop[1] and (h == 1 or abs(h - by_width) <= half)) or (
        h == crop[0] and (w == 1 or abs(w - by_height) <= half)
    )


def test_what_is_padded_normalises_to_about_zero():
    p = make("pad")
    view = apply(Image.new("RGB", (400, 10)), p)
    normal = (view[0, 0] / 255 - p.mean) / p.std
    assert abs(normal).max() <= 0.5 / 255 / min(p.std)
    assert mean_color(replace(p, mean=(-0.2, 0.0, 1.7))) == (0, 0, 255)


@pytest.mark.parametrize("size", [(500, 90), (90, 500), (64, 64)])
def test_whole_and_pad_show_the_corners_and_crop_does_not(size: tuple[int, int]):
    image = with_corners(*size, 12)
    assert corners(apply(image, make("whole", (40, 40), "nearest"))) == CORNERS
    view = apply(image, make("pad", (40, 40), "nearest"))
    w, h = fitted_size(size, (40, 40))
    left, top = (40 - w) // 2, (40 - h) // 2
    assert corners(view[top : top + h, left : left + w]) == CORNERS
    assert set(corners(apply(image, make("crop", (40, 40), "nearest")))) == {(255, 255, 255)}


def test_tiles_show_the_corners_in_the_right_tiles():
    views = frames(with_corners(300, 200, 20), make("tiles:2x3", (40, 40), "nearest"))
    first = [views[0][0, 0], views[2][0, -1], views[3][-1, 0], views[5][-1, -1]]
    assert [tuple(pixel.tolist()) for pixel in first] == CORNERS


def test_tiles_go_row_by_row():
    cells = np.arange(6, dtype=np.uint8).reshape(2, 3)
    pixels = np.repeat(np.repeat(cells, 30, axis=0), 20, axis=1)
    image = Image.fromarray(np.stack([pixels] * 3, axis=2))
    views = frames(image, make("tiles:2x3", (9, 9), "nearest"))
    assert views.shape == (6, 9, 9, 3)
    assert [np.unique(view).tolist() for view in views] == [[0], [1], [2], [3], [4], [5]]


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 5000), st.integers(1, 5000), COUNTS, COUNTS)
@example(1, 1, 16, 16)
def test_every_pixel_falls_into_exactly_one_tile(width: int, height: int, rows: int, columns: int):
    boxes = tile_boxes((width, height), rows, columns)
    assert len(boxes) == rows * columns
    # No gap, no overlap: each cell starts where its neighbour ends, the same number to the last bit.
    for i, (left, top, right, bottom) in enumerate(boxes):
        row, column = divmod(i, columns)
        assert left == (boxes[i - 1][2] if column else 0)
        assert top == (boxes[i - columns][3] if row else 0)
        assert column < columns - 1 or right == width
        assert row < rows - 1 or bottom == height
        assert right > left
        assert bottom > top
    x, y = width // 2 + 0.5, height // 3 + 0.5
    inside = [b for b in boxes if b[0] <= x < b[2] and b[1] <= y < b[3]]
    assert len(inside) == 1
    area = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    assert area == pytest.approx(width * height)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 8), st.integers(1, 8), COUNTS, COUNTS)
def test_tiles_of_whole_pixels_are_the_pixels(w: int, h: int, rows: int, columns: int):
    """Where cells end between pixels and need no scaling, tiles are the image, cut and unchanged."""
    image = noise(w * columns, h * rows)
    source = np.asarray(image)
    views = frames(image, make(f"tiles:{rows}x{columns}", (h, w), "nearest"))
    for i, view in enumerate(views):
        row, column = divmod(i, columns)
        part = source[row * h : row * h + h, column * w : column * w + w]
        np.testing.assert_array_equal(view, part)


@settings(deadline=None, max_examples=60)
@given(SIDES, SIDES, COUNTS, COUNTS, st.sampled_from(["bilinear", "bicubic", "lanczos", "hamming"]))
def test_tiles_are_the_resized_whole_cut_up(
    width: int, height: int, rows: int, columns: int, how: str
):
    """Also where borders run through pixels: nothing is shifted, no cell has an edge of its own.

    Pillow resizes rows first or columns first, whichever is quicker, and rounds to 8 bits between:
    hence two grey levels, and pixels in the middle, where the one order clips no more than the other.
    """
    quiet = 96 + np.asarray(noise(width, height)) // 4
    image, p = Image.fromarray(quiet), make(f"tiles:{rows}x{columns}", (12, 10), how)
    all_of_it = replace(p, framing="whole", crop=(12 * rows, 10 * columns))
    expected = apply(image, all_of_it).reshape(rows, 12, columns, 10, 3).swapaxes(1, 2)
    got = frames(image, p).reshape(expected.shape)
    assert abs(got.astype(int) - expected.astype(int)).max() <= 2


def test_one_tile_is_the_whole():
    image = noise(333, 211)
    one, all_of_it = make("tiles:1x1"), make("whole")
    np.testing.assert_array_equal(frames(image, one), frames(image, all_of_it))
    assert one.views == 1


@pytest.mark.parametrize("framing", ["whole", "pad", "tiles:16x16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9000), (90000, 1)])
def test_extreme_shapes(framing: str, size: tuple[int, int]):
    p = make(framing)
    views = frames(Image.new("RGB", size, (9, 9, 9)), p)
    assert (views.shape, views.dtype) == ((p.views, 64, 48, 3), np.uint8)
    assert (views == 9).all(axis=-1).any(axis=(1, 2)).all()
    assert views.flags.writeable


@settings(deadline=None, max_examples=40)
@given(st.integers(30, 200), st.integers(30, 200), st.integers(8, 60), VIEW)
def test_outside_is_what_no_view_shows(width: int, height: int, resize: int, crop: tuple):
    """Colour the pixels of the resized image one by one, and count those that come out."""
    p = Preprocessing(resize, crop, "nearest", *IMAGENET)
    short = min(width, height)
    w, h = int(resize * width / short), int(resize * height / short)
    numbers = np.arange(1, w * h + 1).reshape(h, w)  # 0 is the black beyond the image
    pixels = np.stack([numbers >> 16, numbers >> 8 & 255, numbers & 255], -1).astype(np.uint8)
    view = apply(Image.fromarray(pixels), replace(p, resize=(h, w))).astype(int)
    seen = np.unique(view @ [65536, 256, 1])
    share = 1 - np.count_nonzero(seen) / (w * h)
    assert outside((w, h), replace(p, resize=(h, w))) == pytest.approx(share)
    if (w, h) == (width, height):
        assert outside((width, height), p) == pytest.approx(share)


def test_outside_of_the_usual():
    usual = Preprocessing(256, (224, 224), "bicubic", *IMAGENET)
    assert outside((256, 256), usual) == pytest.approx(1 - (224 / 256) ** 2)
    assert outside((500, 375), usual) == pytest.approx(1 - 224 * 224 / (256 * 341))
    assert outside((500, 375), usual) == outside((375, 500), usual)
    assert outside((500, 375), replace(usual, resize=(224, 224))) == 0
    assert outside((400, 400), replace(usual, resize=200)) == 0
    assert outside((800, 400), replace(usual, resize=200)) == pytest.approx(1 - 224 / 400)
    for framing in ("whole", "pad", "tiles:2x2"):
        assert outside((500, 100), replace(usual, framing=framing)) == 0


def test_outside_of_real_photographs(test_data):
    """The numbers that the documentation quotes."""
    usual = Preprocessing(256, (224, 224), "bicubic", *IMAGENET)
    files = sorted((test_data / "ants-bees").rglob("*.jpg"))
    shares = [outside(to_image(payload(str(file))).size, usual) for file in files[::4]]
    assert np.median(shares) == pytest.approx(0.425, abs=0.01)
    assert max(shares) < 0.78
