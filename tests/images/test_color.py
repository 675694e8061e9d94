"""How pixels become 8-bit RGB."""

import colorsys

import numpy as np
import pytest
from bottleneck_probe.images.color import COLOR_RULES, BadImage, array_to_rgb, eight_bit, to_rgb
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.arange(65536, dtype=np.uint16)
    out = eight_bit(ramp)
    np.testing.assert_array_equal(out, np.floor(ramp / 257 + 0.5).astype(np.uint8))
    assert abs(out.mean() - ramp.mean() / 257) < 0.01


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0, 1e9], ids=["1", "255", "65535", "wide"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_ramps_are_monotone_and_fill_the_range(scale: float, dtype: type):
    ramp = np.linspace(0, scale, 1000).astype(dtype)
    out = eight_bit(ramp).astype(float)
    assert (np.diff(out) >= 0).all()
    assert (out[0], out[-1]) == (0, 255)
    np.testing.assert_allclose(out, ramp / scale * 255, atol=0.6)


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.int16, np.int32, np.int64, np.uint32, np.float16, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=6),
        elements={"allow_nan": False, "allow_infinity": False},
    )
)
def test_order_of_brightness_is_kept(pixels: np.ndarray):
    """A brighter pixel never becomes a darker one, at any type and range."""
    out = eight_bit(pixels)
    assert out.dtype == np.uint8
    assert out.shape == pixels.shape
    order = np.argsort(pixels, axis=None, kind="stable")
    assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()


def test_narrow_ranges_are_kept():
    np.testing.assert_array_equal(eight_bit(np.array([0, 7, 255], dtype=np.int64)), [0, 7, 255])
    np.testing.assert_array_equal(eight_bit(np.array([True, False])), [255, 0])
    np.testing.assert_array_equal(eight_bit(np.array([-100, 0, 100])), [0, 128, 255])
    np.testing.assert_array_equal(eight_bit(np.array([-5, -5])), [0, 0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(value: float):
    with pytest.raises(BadImage, match="not finite"):
        eight_bit(np.array([0.5, value]))


@pytest.mark.parametrize("dtype", [complex, object, "U3", "datetime64[s]"])
def test_no_numbers(dtype: object):
    with pytest.raises(BadImage, match="pixels of type"):
        eight_bit(np.zeros((2, 2), dtype=dtype))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "La", "RGBa"])
def test_hidden_colours_never_show(mode: str):
    image = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    if mode == "La":
        image = image.convert("LA").convert("La")
    else:
        image = image.convert(mode)
    assert set(to_rgb(image).get_flattened_data()) == {(255, 255, 255)}


def test_half_transparent_lies_over_white():
    assert to_rgb(Image.new("RGBA", (1, 1), (200, 0, 100, 128))).getpixel((0, 0)) == (227, 127, 177)


def test_opaque_alpha_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    opaque = np.dstack([pixels, np.full((20, 30), 255, dtype=np.uint8)])
    np.testing.assert_array_equal(np.asarray(array_to_rgb(opaque)), pixels)


def test_lab_against_the_formulas():
    """CIELAB (D50) to sRGB by its defining equations, Bradford adaptation included."""
    lab = np.array([[[60, 30, -20], [30, -15, 25], [80, 5, 5], [50, 0, 0]]], dtype=float)
    fy = (lab[..., 0] + 16) / 116
    f = np.stack([fy + lab[..., 1] / 500, fy, fy - lab[..., 2] / 200], axis=-1)
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    xyz *= np.array([0.96422, 1.0, 0.82521])
    to_linear = np.array(
        [
            [3.1338561, -1.6168667, -0.4906146],
            [-0.9787684, 1.9161415, 0.0334540],
            [0.0719453, -0.2289914, 1.4052427],
        ]
    )
    linear = np.clip(xyz @ to_linear.T, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    stored = np.stack([lab[..., 0] * 2.55, lab[..., 1], lab[..., 2]], -1).round().astype(np.int16)
    image = Image.frombytes("LAB", (4, 1), (stored & 0xFF).astype(np.uint8).tobytes())
    np.testing.assert_allclose(np.asarray(to_rgb(image)), srgb * 255, atol=3)


def test_cmyk_is_pillows_own():
    image = Image.new("CMYK", (2, 2), (10, 200, 30, 40))
    np.testing.assert_array_equal(np.asarray(to_rgb(image)), np.asarray(image.convert("RGB")))


def test_grey_and_palette():
    assert to_rgb(Image.new("L", (1, 1), 77)).getpixel((0, 0)) == (77, 77, 77)
    assert to_rgb(Image.new("1", (1, 1), 1)).getpixel((0, 0)) == (255, 255, 255)
    hue = Image.new("HSV", (1, 1), (85, 255, 255))
    red, green, blue = (round(255 * v) for v in colorsys.hsv_to_rgb(85 / 255, 1, 1))
    np.testing.assert_allclose(to_rgb(hue).getpixel((0, 0)), (red, green, blue), atol=3)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
@pytest.mark.parametrize("dtype", [np.uint8, bool, np.uint16, np.float32])
def test_arrays(shape: tuple[int, ...], dtype: type):
    image = array_to_rgb(np.ones(shape, dtype=dtype))
    assert (image.mode, image.size) == ("RGB", (6, 4))


def test_array_channels_stay_in_order():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(np.asarray(array_to_rgb(pixels[::-1])), pixels[::-1])
    deep = pixels.astype(np.uint16) * 257
    np.testing.assert_array_equal(np.asarray(array_to_rgb(deep)), pixels)
    np.testing.assert_array_equal(np.asarray(array_to_rgb(deep.astype(">u2"))), pixels)


@pytest.mark.parametrize("shape", [(), (5,), (3, 8, 8), (4, 4, 2), (2, 4, 4, 3), (0, 5), (5, 0, 3)])
def test_shapes_that_are_no_image(shape: tuple[int, ...]):
    with pytest.raises(BadImage, match="shape"):
        array_to_rgb(np.zeros(shape, dtype=np.uint8))


def test_channels_first_get_a_hint():
    with pytest.raises(BadImage, match=r"transpose\(1, 2, 0\)"):
        array_to_rgb(np.zeros((3, 8, 8), dtype=np.uint8))


def test_rules_are_plain_text():
    assert all(isinstance(value, str) for value in COLOR_RULES.values())
