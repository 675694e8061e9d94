"""Sizes read by hand: those that Pillow finds, and known before it takes any memory."""

import io
import struct
import tracemalloc

import numpy as np
import pytest
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.decode import decode, decode_pixels
from bottleneck_probe.images.headers import gif_is_animated, gif_size, webp_size
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image


def saved(frames, kind, **options):
    """A file of several frames."""
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], **options)
    return file.getvalue()


def pictures(n, size=(40, 30)):
    rng = np.random.default_rng(n)
    return [Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), np.uint8)) for _ in range(n)]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_several_frames_are_known_and_the_first_is_used(kind, n):
    frames = pictures(n)
    data = saved(frames, kind)
    pixels, _, several = decode_pixels(data)
    assert several == (n > 1)
    alone = np.asarray(decode(saved(frames[:1], kind)))
    if kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(pixels, np.asarray(frames[0]))
    # Lossy formats code the first of several otherwise than a single one; another frame is 85 off.
    assert np.abs(pixels.astype(float) - alone).mean() < 20


def test_other_formats_have_one():
    for kind in ("JPEG", "BMP", "PPM", "JPEG2000"):
        file = io.BytesIO()
        pictures(1)[0].save(file, kind)
        assert not decode_pixels(file.getvalue())[2]


@pytest.mark.parametrize("size", [(1, 1), (123, 45), (300, 2)])
def test_sizes(size):
    assert gif_size(saved(pictures(1, size), "GIF")) == size
    assert webp_size(saved(pictures(1, size), "WEBP")) == size
    assert webp_size(saved(pictures(3, size), "WEBP")) == size


def gif(screen, frame, disposal=2, palette=True):
    """A GIF of a few bytes that says it is large."""
    colours = bytes(6) if palette else b""
    head = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 if palette else 0, 0, 0) + colours
    control = b"!\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0])
    descriptor = b"," + struct.pack("<HHHHB", 0, 0, *frame, 0)
    return head + control + descriptor + b"\x02\x02\x4c\x01\x00;"


@pytest.mark.parametrize("screen", [(10, 10), (13000, 13000)])
@pytest.mark.parametrize("disposal", [0, 2, 3])
def test_a_gif_whose_frame_is_a_bomb(monkeypatch, screen, disposal):
    """Pillow makes room for what a frame disposes of while it opens the file."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = gif(screen, (13000, 13000), disposal)
    assert gif_size(data) == (13000, 13000)
    monkeypatch.setattr(Image.core, "fill", lambda *args: pytest.fail("took memory"))
    tracemalloc.start()
    with pytest.raises(BadImage, match="13000x13000 = 169 MP"):
        decode(data)
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()


def test_frames_of_a_gif_without_palettes():
    one = gif((4, 4), (4, 4), palette=False)
    assert not gif_is_animated(one)
    assert gif_is_animated(one[:-1] + one[13:])


@given(st.binary(max_size=60), st.integers(0, 60))
def test_any_bytes_have_some_size(data, cut):
    for start in (b"", b"GIF89a", gif((9, 9), (9, 9))[:cut], b"RIFF\0\0\0\0WEBP"):
        for size in (gif_size(start + data), webp_size(start + data)):
            assert min(size) >= 0
        assert gif_is_animated(start + data) in (True, False)
