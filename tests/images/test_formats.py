"""Formats are recognised by content, and nothing that is text passes for an image."""

import io

import pytest
from bottleneck_probe.images.formats import (
    HEAD_BYTES,
    IMAGE_SUFFIXES,
    NOT_IMAGES,
    describe,
    is_image_name,
    sniff,
    suffix,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image


@pytest.mark.parametrize(
    ("pillow", "name"),
    [
        ("JPEG", "JPEG"),
        ("PNG", "PNG"),
        ("GIF", "GIF"),
        ("BMP", "BMP"),
        ("TIFF", "TIFF"),
        ("WEBP", "WebP"),
        ("PPM", "PPM"),
        ("JPEG2000", "JPEG 2000"),
        ("AVIF", "AVIF"),
    ],
)
def test_what_pillow_writes(pillow: str, name: str):
    file = io.BytesIO()
    Image.new("RGB", (5, 4)).save(file, pillow)
    assert sniff(file.getvalue()[:HEAD_BYTES]) == name


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"II\x2b\x00\x08\x00\x00\x00", "TIFF"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"\x00\x00\x00\x1cftypmif1\x00\x00\x00\x00mif1avifmiaf", "AVIF"),
        (b"\x00\x00\x00\x18ftypmif1\x00\x00\x00\x00mif1miaf", "HEIC"),
        (b"\x00" * 128 + b"DICM", "DICOM"),
        (b"ZISRAWFILE\x00\x00", "CZI"),
        (b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2", None),
        (b"BMW and Audi are cars, not bitmaps", None),
        (b"P5 is the fifth patient", None),
        (b"GIF", None),
        (b"", None),
    ],
)
def test_signatures(head: bytes, name: str | None):
    assert sniff(head) == name


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_get_an_answer(head: bytes):
    assert sniff(head) is None or isinstance(sniff(head), str)
    assert describe(head)
    assert "\n" not in describe(head)


def test_what_it_is_instead():
    assert describe(b"") == "empty file"
    assert describe(b"\n <!DOCTYPE HTML><p>404") == "HTML, not an image"
    assert describe(b"%PDF-1.7") == "PDF, not an image"
    assert describe(b"hello\nworld\n") == "text, not an image"


def test_names():
    assert suffix(".jpg") == ""  # a hidden file called jpg
    assert suffix("a.tar.gz") == ".gz"
    assert is_image_name("A.JpEg")
    assert not is_image_name("jpg")
    assert not IMAGE_SUFFIXES & NOT_IMAGES
