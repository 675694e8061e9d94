"""Resampling equals Pillow's in every bit: sizes, methods, parts of an image, windows of the result."""

import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.images import resample as module
from bottleneck_probe.images import resample_weights
from bottleneck_probe.images.payload import fetch, to_pixels
from bottleneck_probe.images.resample import passes, resample
from bottleneck_probe.images.resample_weights import PRECISION_BITS, weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

METHODS = ["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest"]


def noise(width: int, height: int) -> np.ndarray:
    rng = np.random.default_rng(width * 1000 + height)
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    # Half of it black and white alone, where the filters overshoot.
    pixels[: height // 2] = np.where(pixels[: height // 2] < 128, 0, 255)
    return pixels


def by_pillow(pixels, size, method, box=None, window=None) -> np.ndarray:
    image = Image.fromarray(pixels).resize(size, Image.Resampling[method.upper()], box=box)
    left, top, width, height = window or (0, 0, *size)
    return np.asarray(image)[top : top + height, left : left + width]


SIDES = st.integers(1, 500)
TARGETS = st.integers(1, 330)


def window_of(data: st.DataObject, size: tuple[int, int]) -> tuple[int, int, int, int]:
    left, top = (data.draw(st.integers(0, side - 1)) for side in size)
    return (
        left,
        top,
        data.draw(st.integers(1, size[0] - left)),
        data.draw(st.integers(1, size[1] - top)),
    )


@settings(deadline=None, max_examples=300)
@given(SIDES, SIDES, TARGETS, TARGETS, st.sampled_from(METHODS), st.booleans(), st.data())
@example(500, 375, 341, 256, "bicubic", False, None)
@example(500, 256, 341, 256, "bicubic", False, None)  # one pass
@example(341, 375, 341, 256, "bicubic", False, None)
@example(300, 200, 300, 200, "bicubic", False, None)  # none
@example(40, 500, 39, 20, "bicubic", False, None)  # vertically first, since Pillow 13
@example(1, 500, 330, 1, "lanczos", False, None)
def test_equals_pillow(
    width: int, height: int, w: int, h: int, how: str, part: bool, data: st.DataObject | None
):
    pixels, size = noise(width, height), (w, h)
    window = window_of(data, size) if part and data else None
    found = resample(pixels, size, how, window=window)
    np.testing.assert_array_equal(found, by_pillow(pixels, size, how, window=window))


@settings(deadline=None, max_examples=300)
@given(SIDES, SIDES, TARGETS, TARGETS, st.sampled_from(METHODS), st.booleans(), st.data())
def test_equals_pillow_on_a_part(
    width: int, height: int, w: int, h: int, how: str, whole: bool, data: st.DataObject
):
    """Boxes with fractions, as cells of tiles are, and on the grid, where Pillow only cuts."""
    number = st.integers if whole else st.floats
    sides = []
    for side in (width, height):
        low = data.draw(number(0, side - 1))
        sides.append((float(low), float(data.draw(number(int(low) + 1, side)))))
    box = (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    pixels, size = noise(width, height), (w, h)
    window = window_of(data, size)
    found = resample(pixels, size, how, box=box, window=window)
    np.testing.assert_array_equal(found, by_pillow(pixels, size, how, box, window))


@pytest.mark.parametrize("how", METHODS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((4000, 3000), (341, 256)),
        ((4000, 3), (224, 224)),
        ((3, 4000), (224, 224)),
        ((70000, 2), (224, 5)),  # more weights than are kept: Pillow does it
        ((140000, 1), (9000, 1)),  # more pixels in a line
        ((2, 70000), (5, 224)),
        ((7, 5), (900, 800)),
    ],
)
def test_extreme_sizes(before: tuple[int, int], after: tuple[int, int], how: str):
    pixels = noise(*before)
    np.testing.assert_array_equal(resample(pixels, after, how), by_pillow(pixels, after, how))


def test_photographs(test_data: Path):
    """Each as the default backbone sees it, and all of it."""
    for path in sorted((test_data / "ants-bees").rglob("*.jpg")):
        pixels = to_pixels(fetch(path).content).array
        height, width = pixels.shape[:2]
        long = int(256 * max(width, height) / min(width, height))
        size = (256, long) if width <= height else (long, 256)
        window = ((size[0] - 224) // 2, (size[1] - 224) // 2, 224, 224)
        expected = by_pillow(pixels, size, "bicubic")
        np.testing.assert_array_equal(resample(pixels, size, "bicubic"), expected, str(path))
        left, top = window[:2]
        np.testing.assert_array_equal(
            resample(pixels, size, "bicubic", window=window),
            expected[top : top + 224, left : left + 224],
        )


def test_any_layout_of_the_pixels_will_do():
    pixels = noise(90, 70)
    expected = by_pillow(pixels[::-1, ::2], (30, 20), "bicubic")
    np.testing.assert_array_equal(resample(pixels[::-1, ::2], (30, 20), "bicubic"), expected)
    frozen = np.asarray(Image.fromarray(pixels))
    assert not frozen.flags.writeable
    np.testing.assert_array_equal(
        resample(frozen, (30, 20), "bicubic"), by_pillow(pixels, (30, 20), "bicubic")
    )


@pytest.mark.parametrize("size", [(30, 20), (90, 20), (30, 70), (90, 70)])
def test_the_result_is_new_memory(size: tuple[int, int]):
    """Nothing of the source, and nothing that a later call writes into."""
    pixels = noise(90, 70)
    first = resample(pixels, size, "bicubic")
    kept = first.copy()
    assert first.flags.writeable
    assert not np.shares_memory(first, pixels)
    resample(noise(91, 71), size, "bicubic")
    np.testing.assert_array_equal(first, kept)


def test_many_threads_at_once():
    cases = [(noise(300 + i, 200 + 7 * i), (40 + i, 33 + i)) for i in range(8)]
    expected = [by_pillow(pixels, size, "bicubic") for pixels, size in cases]
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in np.random.default_rng(seed).permutation(8).tolist() * 5:
            if not np.array_equal(resample(*cases[i], "bicubic"), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@settings(deadline=None, max_examples=60)
@given(SIDES, TARGETS, st.sampled_from(METHODS[:5]))
def test_weights_add_up_to_one(side: int, out: int, how: str):
    found = weights(side, 0.0, float(side), out, how, 0, out)
    rounding = found.table.shape[1] / 2
    assert np.abs(found.table.sum(axis=1) - (1 << PRECISION_BITS)).max() <= rounding
    assert (np.diff(found.starts) >= 0).all()
    assert found.end <= side


@pytest.fixture
def unprepared(monkeypatch: pytest.MonkeyPatch):
    """As at the first image of a process."""
    monkeypatch.setattr(module, "_passes", [])


@pytest.mark.usefixtures("unprepared")
def test_a_numba_that_cannot_be_used_is_told_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "bottleneck_probe.images.resample_kernels", raising=False)
    pixels = noise(50, 40)
    with pytest.warns(RuntimeWarning, match="numba cannot be used here .*several times slower"):
        found = resample(pixels, (20, 10), "bicubic")
    np.testing.assert_array_equal(found, by_pillow(pixels, (20, 10), "bicubic"))
    resample(pixels, (20, 10), "bicubic")  # a second warning would be an error


@pytest.mark.usefixtures("unprepared")
def test_a_pillow_of_other_values_is_noticed(monkeypatch: pytest.MonkeyPatch):
    """The recipe says Pillow: where ours are others, Pillow's own are taken."""
    fewer = 1 << 10
    real = resample_weights.weights.__wrapped__

    def other(*args: object):
        found = real(*args)
        return found._replace(table=found.table // fewer * fewer)

    monkeypatch.setattr(module, "weights", other)
    with pytest.warns(RuntimeWarning, match=r"values of Pillow \d.* are others"):
        assert passes() is None


@pytest.mark.usefixtures("unprepared")
def test_the_order_of_the_passes_is_that_of_this_pillow():
    """Pillow 13 resizes tall images vertically first, Pillow 12 did not."""
    found = passes()
    assert found is not None
    pixels, size = noise(20, 64), (19, 12)
    across = by_pillow(by_pillow(pixels, (19, 64), "bicubic"), size, "bicubic")
    down = by_pillow(by_pillow(pixels, (20, 12), "bicubic"), size, "bicubic")
    assert not np.array_equal(across, down)
    expected = down if found.tall_first else across
    np.testing.assert_array_equal(resample(pixels, size, "bicubic"), expected)


USE = """
import numpy, os, sys
from bottleneck_probe.images.resample import passes, resample
assert "numba" not in sys.modules
print(resample(numpy.zeros((50, 40, 3), numpy.uint8), (20, 10), "bicubic").shape, passes() is None)
"""


def use(**environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", USE],
        env={"PATH": "", **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_compile_at_once(tmp_path: Path):
    both = [use(NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(2)]
    for process in both:
        assert process.communicate(timeout=100) == ("(10, 20, 3) False\n", "")
    assert list(tmp_path.rglob("*.nbc"))
    again = use(NUMBA_CACHE_DIR=str(tmp_path))
    assert again.communicate(timeout=100) == ("(10, 20, 3) False\n", "")


@pytest.mark.parametrize("what", ["no folder", "rubbish"])
def test_a_cache_that_cannot_be_used_does_not_matter(tmp_path: Path, what: str):
    """Where numba finds no place for its cache, it raises; a broken cache may raise anything."""
    if what == "no folder":
        (tmp_path / "file").touch()
        place = tmp_path / "file" / "below"
    else:
        place = tmp_path
        assert use(NUMBA_CACHE_DIR=str(place)).communicate(timeout=100)[1] == ""
        for path in place.rglob("*.nb?"):
            path.write_bytes(b"rubbish")
    process = use(NUMBA_CACHE_DIR=str(place))
    assert process.communicate(timeout=100) == ("(10, 20, 3) False\n", "")


def test_nothing_is_imported_before_the_first_image():
    code = "import sys, bottleneck_probe.images.framing; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_warnings_that_are_errors_come_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_passes", [])
    monkeypatch.setattr(module, "_prepare", lambda: (None, "no reason"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="no reason"):
            passes()
        assert passes() is None
