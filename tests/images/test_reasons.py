"""Reasons are for people: no decoder's jargon where a plain word will do, one line each."""

import io
import re

import pytest
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.formats import describe
from bottleneck_probe.images.payload import fetch, to_pixels
from bottleneck_probe.images.reasons import reason_for, truncated
from PIL import Image

# What Pillow says of the malformed files, and nobody can act on.
JARGON = (
    "cannot identify",
    "not identified by this driver",
    "broken data stream",
    "unpack",
    "index out of range",
    "buffer of at least",
    "decoder error",
    "decoder object",
    "data stream contents",
    "cannot load this image",
    "driver",
    "b'",
)


def test_reasons_of_all_malformed_files(test_data):
    reasons = set()
    n_good = 0
    for file in sorted((test_data / "malformed").rglob("*")):
        if not file.is_file():
            continue
        try:
            to_pixels(fetch(str(file)).content)
            n_good += 1
        except BadImage as bad:
            reasons.add(str(bad))
    assert n_good == 288
    assert len(reasons) < 135
    for reason in reasons:
        assert 10 <= len(reason) < 120, reason
        assert reason.isprintable(), reason
        assert not any(word in reason for word in JARGON), reason
        assert "100 %" not in reason
        assert not re.search(r"\b0 %", reason)


@pytest.mark.parametrize(
    ("kind", "error", "expected"),
    [
        (
            "JPEG",
            OSError("broken data stream when reading image file"),
            "its pixel data is damaged",
        ),
        ("JPEG", SyntaxError("not identified by this driver"), "its header is damaged"),
        ("PNG", SyntaxError("broken PNG file (bad header checksum in b'IHDR')"), "its IHDR block"),
        ("TIFF", SyntaxError(KeyError(320)), "it does not say the palette"),
        ("TIFF", SyntaxError("KeyError(b'\\xb2')"), r"KeyError\(b'"),
        ("BMP", OSError("Unsupported BMP pixel depth (0)"), "0 bits a pixel"),
        ("GIF", EOFError("no more images in GIF file"), "it holds no image"),
        ("PNG", ValueError("something new\n\x1b[31m in Pillow 14"), r"something new \?\[31m in"),
        ("PNG", ValueError(), "ValueError"),
    ],
)
def test_words(kind, error, expected):
    reason = reason_for(kind, error)
    assert re.search(rf"^broken {kind}: {expected}", reason), reason
    assert reason.isprintable()


@pytest.mark.parametrize("share", [0, 1e-9, 0.004, 0.5, 0.996, 1])
def test_what_is_cut_is_neither_empty_nor_whole(share):
    found = truncated(share, "rows")
    assert found.startswith("truncated after")
    assert not re.search(r"\b(0|100) %", found)


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"\x89", "1 byte, too short"),
        (b"\xff\xd8\x00\x00\xff\xee\x00\x0e", "begins like a JPEG"),
        (b"RIFF\x24\x08\x00\x00WAVEfmt ", "a film or sound"),
        (b"<!DOCTYPE html><html>", "HTML, not an image"),
        (bytes(range(40)), "no image format known here"),
    ],
)
def test_what_is_no_image(head, expected):
    assert expected in describe(head)


def test_a_file_of_75_percent():
    file = io.BytesIO()
    Image.effect_noise((200, 200), 50).save(file, "WEBP", lossless=True)
    data = file.getvalue()
    with pytest.raises(BadImage, match=r"^truncated after 75 % of its bytes$"):
        to_pixels(data[: len(data) * 3 // 4])
