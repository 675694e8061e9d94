"""``--range``: NumPy's own arithmetic as the reference; what is clipped and what is used is told."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from bottleneck_probe.images.color import BadImage, array_to_rgb, color_rules, eight_bit
from bottleneck_probe.images.payload import narrow_range, to_image
from bottleneck_probe.images.value_range import ValueRange, canonical_range, parse_range
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

WIDE = [np.uint16, ">u2", np.int16, np.int32, np.int64, np.uint32, np.float16, np.float32]


def grey(pixels: np.ndarray, range: str) -> np.ndarray:
    return np.asarray(to_image(pixels, range=range))[:, :, 0]


def test_bits_at_every_value_of_sixteen():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    for bits in range(1, 17):
        share = np.minimum(every / (2**bits - 1), 1)
        expected = np.floor(share * 255 + 0.5).astype(np.uint8)
        np.testing.assert_array_equal(grey(every, f"bits:{bits}"), expected)
    np.testing.assert_array_equal(grey(every, "bits:16"), eight_bit(every))
    np.testing.assert_array_equal(grey(every, "bits:12"), grey(every, "0:4095"))


@pytest.mark.parametrize("dtype", WIDE, ids=str)
def test_every_wide_type_and_byte_order_means_the_same(dtype: object):
    values = np.array([[0, 99, 100, 101, 1000, 2047, 2048]])  # float16 holds these exactly
    image = to_image(values.astype(dtype), range="100:2000")
    expected = [0, 0, 0, 0, 121, 255, 255]
    assert np.asarray(image)[0, :, 0].tolist() == expected
    assert image.info["range_clipped"] == pytest.approx(4 / 7)


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(
        st.sampled_from([np.uint16, np.int16, np.int64, np.float16, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements={"allow_nan": False, "allow_infinity": False},
    ),
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
)
def test_linear_between_and_clipped_beyond(pixels: np.ndarray, low: float, span: float):
    high = low + span
    image = to_image(pixels, range=f"{low!r}:{high!r}")
    exact = pixels.astype(np.float64)  # NumPy would round the limits to float16
    scaled = np.interp(exact, [low, high], [0, 255])
    np.testing.assert_allclose(np.asarray(image)[:, :, 0], scaled, atol=0.501)
    beyond = (exact < low) | (exact > high)
    assert image.info["range_clipped"] == pytest.approx(beyond.mean())


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool], ids=str)
def test_eight_bits_are_left_alone(dtype: type):
    pixels = np.arange(100).reshape(10, 10).astype(dtype)
    image = to_image(pixels, range="3:9")
    np.testing.assert_array_equal(image, to_image(pixels))
    assert not image.info
    assert not narrow_range(image)


def test_colour_is_scaled_and_alpha_is_not():
    pixels = np.zeros((2, 3, 4), dtype=np.uint16)
    pixels[:, :, :3], pixels[:, :, 3] = (0, 2048, 4095), 65535
    image = to_image(pixels, range="bits:12")
    assert image.getpixel((1, 1)) == (0, 128, 255)
    assert image.info["range_clipped"] == 0
    np.testing.assert_array_equal(image, to_image(pixels[:, :, :3], range="bits:12"))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_is_refused_with_a_range_too(value: float):
    with pytest.raises(BadImage, match="not finite"):
        array_to_rgb(np.array([[0.5, value]]), ValueRange(0, 1))


def test_more_values_than_are_scaled_at_once():
    ramp = np.arange(1100 * 1000, dtype=np.int32).reshape(1100, 1000)
    expected = np.floor(np.minimum(ramp / 1e6, 1) * 255 + 0.5)
    image = to_image(ramp, range="0:1e6")
    np.testing.assert_array_equal(np.asarray(image)[:, :, 0], expected)
    assert image.info["range_clipped"] == pytest.approx(99999 / 1100000)
    deep = (ramp // 20).astype(np.uint16)
    np.testing.assert_array_equal(grey(deep, "0:54999"), eight_bit(grey(deep, "0:54999.0")))
    assert to_image(deep, range="0:49999").info["range_clipped"] == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("pixels", "range", "narrow"),
    [
        (np.arange(4096, dtype=np.uint16), "full", True),
        (np.arange(4096, dtype=np.uint16), "bits:12", False),
        (np.arange(4096, dtype=np.uint16) + 60000, "full", True),
        (np.arange(4096, dtype=np.uint16) + 60000, "60000:64095", False),
        (np.arange(8192, dtype=np.uint16), "full", False),
        (np.full(64, 5, dtype=np.int32), "full", True),
        (np.arange(4096, dtype=np.float32) / 4095 * 0.05, "full", True),
        (np.arange(4096, dtype=np.float32) / 4095, "full", False),
        (np.arange(16, dtype=np.uint8), "full", False),  # 8 bits: a dark photograph is no mistake
    ],
)
def test_an_image_in_a_corner_of_its_range_is_told(pixels: np.ndarray, range: str, narrow: bool):
    image = to_image(pixels.reshape(8, -1), range=range)
    assert narrow_range(image) is narrow
    shown = np.asarray(image)
    used = image.info.get("range_used")
    assert used == (None if pixels.dtype == np.uint8 else (shown.max() - shown.min()) / 255)
    assert ("range_clipped" in image.info) == (range != "full")


def test_many_threads_count_for_themselves():
    images = [np.full((40, 40), 100 * i, dtype=np.uint16) for i in range(40)]
    for i, image in enumerate(images):
        image.flat[:i] = 65535
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda pixels: to_image(pixels, range="bits:12"), images * 5))
    for i, image in enumerate(done):
        assert image.info["range_clipped"] == (i % 40) / 1600


NUMBERS = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(deadline=None, max_examples=300)
@given(NUMBERS, NUMBERS)
@example(-0.0, 1e-320)
@example(0.0, 2.0**60)
def test_a_spelling_reads_back_and_is_the_only_one(a: float, b: float):
    low, high = min(a, b), max(a, b)
    if low == high or not np.isfinite(high - low):
        return
    text = canonical_range(f"{low!r}:{high!r}")
    assert parse_range(text) == ValueRange(low, high)
    assert canonical_range(text) == text
    assert "-0:" not in text


def test_the_words_of_the_recipe_follow_the_range():
    assert color_rules(None) == color_rules(parse_range("full"))
    rules = color_rules(parse_range("-1000:400.5"))
    assert rules["float"] == rules["uint16"] == "-1000..400.5 to 0..255, clipped, rounded"
    assert rules["uint8"] == "as is, whatever the range"
    assert rules["alpha"] == "over white"
