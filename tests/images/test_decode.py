"""Decoding: every format by its content, every fault as one readable reason."""

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.images import headers
from bottleneck_probe.images.decode import BadImage, decode, from_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """A smooth picture in which no two corners are alike, so that turns show."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 40 + x * 200 // width, 30 + y * 200 // height
    blue = np.where((x < width // 3) & (y < height // 3), 220, 60)
    return Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width: int, height: int, bits: int, color: int, raw: bytes, *chunks: tuple) -> bytes:
    """A PNG written by hand: what Pillow cannot write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    stride = len(raw) // height if height else 0
    rows = b"".join(b"\0" + raw[i * stride : (i + 1) * stride] for i in range(height))
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


LOSSLESS = [
    ("PNG", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_lzw"}),
    ("TIFF", {"big_tiff": True}),
    ("PPM", {}),
    ("WEBP", {"lossless": True}),
    ("JPEG2000", {"irreversible": False}),
]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_formats_give_back_every_pixel(kind: str, options: dict):
    image = picture()
    np.testing.assert_array_equal(np.asarray(decode(encoded(image, kind, **options))), image)


@pytest.mark.parametrize("kind", ["JPEG", "AVIF", "GIF"])
def test_lossy_formats_come_near(kind: str):
    image = picture()
    difference = np.asarray(decode(encoded(image, kind)), dtype=float) - np.asarray(image)
    assert np.abs(difference).mean() < 6


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_orientations_come_out_upright(kind: str, orientation: int):
    image = picture()
    # How the sensor saw it, if the viewer has to turn it by `orientation` (EXIF 2.3, tag 274):
    # the inverse turn, done on the array.
    undo: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    stored = Image.fromarray(np.ascontiguousarray(undo[orientation](np.asarray(image))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = decode(encoded(stored, kind, exif=exif.tobytes()))
    assert result.size == image.size
    difference = np.abs(np.asarray(result, dtype=float) - np.asarray(image))
    assert difference.max() == 0 if kind == "PNG" else difference.mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_impossible_orientations_count_as_upright(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(), "PNG", exif=exif.tobytes())
    np.testing.assert_array_equal(np.asarray(decode(data)), picture())


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=60), st.booleans())
def test_broken_exif_never_loses_the_image(junk: bytes, header: bool):
    """Any bytes in the EXIF block of a JPEG, also behind a valid TIFF header."""
    exif = b"Exif\0\0" + (b"II\x2a\0\x08\0\0\0" if header else b"") + junk
    plain = encoded(picture(), "JPEG")
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    assert sorted(decode(plain[:2] + segment + plain[2:]).size) == [40, 60]


def test_exif_that_makes_pillow_raise(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image.Image, "getexif", lambda self: {}[0])
    np.testing.assert_array_equal(np.asarray(decode(encoded(picture(), "PNG"))), picture())


def test_exif_orientation_photographs(test_data: Path):
    for kind in ("Landscape", "Portrait"):
        folder = test_data / "exif-orientation"
        images = [decode((folder / f"{kind}_{i}.jpg").read_bytes()) for i in range(9)]
        assert {image.size for image in images} == {images[1].size}
        small = [np.asarray(image.resize((600, 450)), dtype=float) for image in images]
        assert max(np.abs(other - small[1]).mean() for other in small) <= 3


def test_malformed_files_decode_or_say_why(test_data: Path, capfd: pytest.CaptureFixture[str]):
    files = [path for path in sorted((test_data / "malformed").rglob("*")) if path.is_file()]
    decoded = 0
    for path in files:
        try:
            image = decode(path.read_bytes())
        except BadImage as error:
            reason = str(error)
            assert reason
            assert reason.isprintable()
        else:
            assert image.mode == "RGB"
            decoded += 1
    assert len(files) > 1000
    assert 200 < decoded < 400  # Pillow 13 reads 288 of 1,282
    # libtiff writes to the terminal by itself; only Pillow's wheels let us stop it.
    if list(Path(Image.__file__).parent.parent.glob("pillow.libs/libtiff*")):
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "PPM", "GIF", "TIFF"])
@pytest.mark.parametrize("lenient", [False, True])
def test_truncated(kind: str, lenient: bool, monkeypatch: pytest.MonkeyPatch):
    """Also if the host program lets Pillow show truncated images."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", lenient)
    noise = np.random.default_rng(0).integers(1, 256, (200, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(BadImage, match=r"truncated|broken"):
        decode(data[: len(data) * 3 // 4])
    assert ImageFile.LOAD_TRUNCATED_IMAGES is lenient


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_says_how_much_is_there(kind: str):
    noise = np.random.default_rng(0).integers(1, 256, (400, 200, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(BadImage, match=r"^truncated after (7[0-9]) % of its (rows|bytes)$"):
        decode(data[: len(data) * 3 // 4])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"<!doctype html><title>404</title>", "HTML, not an image"),
        (b"nothing to see here", "text, not an image"),
        (b"\0" * 500, "only zero bytes"),
        (b"8BPS\0\x01" + bytes(30), "Photoshop PSD, not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript, not an image"),
        (b"SIMPLE  =                    T", "FITS, not an image"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", r"bottleneck-probe\[heif\]"),
        (b"\0" * 128 + b"DICM" + bytes(50), "pip install pydicom.*pixel_array"),
        (b"ZISRAWFILE" + bytes(50), "pip install czifile"),
    ],
)
def test_what_is_no_image_here(data: bytes, reason: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)  # as if not installed
    with pytest.raises(BadImage, match=reason):
        decode(data)


@pytest.mark.filterwarnings("ignore:.*deprecated.*:DeprecationWarning")  # Pillow's, of some writers
def test_only_the_formats_of_a_list_are_decoded():
    """Pillow reads many more; each is a decoder that a stranger's file could look for a hole in."""
    Image.init()
    accepted, refused = set(), {}
    for kind in sorted(Image.SAVE):
        for mode in ("RGB", "P", "1"):
            try:
                data = encoded(Image.new(mode, (64, 64)), kind)
            except (OSError, ValueError):
                continue  # not written by this Pillow, or not of this mode
            try:
                decode(data)
                accepted.add(kind)
            except BadImage as bad:
                refused[kind] = str(bad)
            break
    lossless = {kind for kind, _ in LOSSLESS}
    assert accepted == {*lossless, "JPEG", "MPO", "AVIF", "GIF"}
    assert {"EPS", "ICO", "PCX", "SGI", "TGA"} <= set(refused)
    for kind, reason in refused.items():
        assert re.search(r"not an image|no image format known here", reason), kind


def test_a_missing_decoder_names_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch):
    from PIL import features

    data = encoded(picture(), "AVIF")
    monkeypatch.setattr(features, "check", lambda name: name != "avif")
    with pytest.raises(BadImage, match="pip install --upgrade pillow"):
        decode(data)


def test_size_is_checked_before_pixels(monkeypatch: pytest.MonkeyPatch):
    bomb = png(13000, 13000, 8, 2, b"")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(BadImage) as caught:
        decode(bomb)
    assert str(caught.value) == "13000x13000 = 169 MP, over the limit of 100 MP (--max-pixels)"
    with pytest.raises(BadImage, match="100000x100000 = 10000 MP"):
        decode(png(100000, 100000, 8, 2, b""))


def test_the_limit_is_ours_alone(monkeypatch: pytest.MonkeyPatch):
    """The host's `Image.MAX_IMAGE_PIXELS` neither refuses nor admits an image."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(encoded(picture(), "PNG")).size == (60, 40)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with pytest.raises(BadImage, match=r"over the limit of 0\.001 MP"):
        decode(encoded(picture(), "PNG"), max_pixels=1000)


@pytest.mark.parametrize("lossless", [False, True])
def test_webp_size_from_its_header(lossless: bool):
    image = picture(123, 45)
    assert headers.webp_size(encoded(image, "WEBP", lossless=lossless)) == (123, 45)
    extended = encoded(image.convert("RGBA"), "WEBP", lossless=lossless, exif=b"II*\0" + bytes(9))
    assert extended[12:16] == b"VP8X"
    assert headers.webp_size(extended) == (123, 45)
    assert headers.webp_size(b"RIFF\0\0\0\0WEBP") == (0, 0)


def test_sixteen_bit_grey_is_scaled():
    ramp = np.arange(65536, dtype=">u2").reshape(256, 256)
    for data in (
        png(256, 256, 16, 0, ramp.tobytes()),
        encoded(Image.fromarray(ramp.astype("<u2")), "TIFF"),
        b"P5 256 256 65535 " + ramp.tobytes(),
    ):
        grey = np.asarray(decode(data))[:, :, 0].ravel().astype(int)
        assert (np.diff(grey) >= 0).all()
        np.testing.assert_allclose(grey, np.arange(65536) / 257, atol=0.51)


def test_a_dark_sixteen_bit_pgm_stays_dark():
    """Pillow gives it as 32-bit integers, whose range would be guessed from the values."""
    data = b"P5 2 1 65535 " + np.array([0, 200], dtype=">u2").tobytes()
    assert set(decode(data).get_flattened_data()) == {(0, 0, 0), (1, 1, 1)}


def test_sixteen_bit_colour_is_scaled():
    ramp = np.repeat(np.arange(65536, dtype=">u2"), 3)
    grey = np.asarray(decode(png(256, 256, 16, 2, ramp.tobytes())))[:, :, 0].ravel().astype(int)
    assert (np.diff(grey) >= 0).all()
    assert abs(grey.mean() - 127.5) < 1


def test_float_tiff():
    ramp = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    grey = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF")))[:, :, 0]
    np.testing.assert_array_equal(grey.ravel(), np.arange(256))
    ramp[3, 3] = np.nan
    with pytest.raises(BadImage, match="not finite"):
        decode(encoded(Image.fromarray(ramp), "TIFF"))


@pytest.mark.parametrize("kind", ["Adobe CMYK", "CMYK without a marker", "YCCK"])
def test_inks_of_a_jpeg_are_those_of_the_formula(kind: str):
    """Adobe stores them inverted, YCCK their first three as luma and chroma besides."""
    # A colour for each block of 8 x 8, which JPEG keeps as it is.
    inks = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
    inks = inks.repeat(8, axis=0).repeat(8, axis=1)
    stored = inks
    if kind == "YCCK":
        # Pillow writes the inverse of what it is given, and "C" inverted twice is "R".
        luma = np.asarray(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
        stored = np.dstack([255 - luma, inks[..., 3]])
    data = bytearray(
        encoded(Image.frombytes("CMYK", (56, 48), stored.tobytes()), "JPEG", quality=100)
    )
    marker = data.index(b"\xff\xee\x00\x0eAdobe")
    if kind == "YCCK":
        data[marker + 15] = 2  # the transform, 0 until now
    elif kind == "CMYK without a marker":
        del data[marker : marker + 16]
    expected = 255 * (1 - inks[..., :3] / 255) * (1 - inks[..., 3:] / 255)
    np.testing.assert_allclose(np.asarray(decode(bytes(data))), expected, atol=3)


@pytest.mark.parametrize(
    "data",
    [
        png(2, 1, 8, 2, bytes([255, 0, 0, 0, 255, 0]), (b"tRNS", b"\0\xff\0\0\0\0")),
        png(2, 1, 8, 0, bytes([9, 200]), (b"tRNS", b"\0\x09")),
        png(2, 1, 16, 0, b"\x12\x34\x80\x00", (b"tRNS", b"\x12\x34")),
        png(2, 1, 16, 2, b"\xff\x01\0\0\0\0" + bytes(6), (b"tRNS", b"\xff\x01\0\0\0\0")),
        png(2, 1, 8, 3, b"\0\1", (b"PLTE", b"\xff\0\0\0\xff\0"), (b"tRNS", b"\0\xff")),
        png(2, 1, 8, 4, bytes([9, 0, 200, 255])),
        png(2, 1, 8, 6, bytes([255, 0, 0, 0, 0, 255, 0, 255])),
        encoded(Image.new("RGBA", (2, 1), (255, 0, 0, 0)), "WEBP", lossless=True, exact=True),
    ],
    ids=["rgb", "grey", "grey16", "rgb16", "palette", "la", "rgba", "webp"],
)
def test_transparent_pixels_are_white(data: bytes):
    assert decode(data).getpixel((0, 0)) == (255, 255, 255)


def test_one_bit_transparency():
    data = png(8, 1, 1, 0, b"\x0f", (b"tRNS", b"\0\0"))  # black is transparent, so all is white
    assert set(decode(data).get_flattened_data()) == {(255, 255, 255)}


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_the_first_frame_counts(kind: str):
    first, second = Image.new("RGB", (9, 9), (250, 0, 0)), Image.new("RGB", (9, 9), (0, 0, 250))
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(first, kind, save_all=True, append_images=[second], **options)
    assert decode(data).getpixel((4, 4)) == (250, 0, 0)


def test_metadata_is_not_carried_on():
    data = png(2, 1, 8, 2, bytes(6), (b"tRNS", bytes(6)))
    assert not decode(data).info


def test_a_text_bomb_is_a_reason():
    text = zlib.compress(b"x" * 10_000_000)
    with pytest.raises(BadImage, match="broken PNG"):
        decode(png(2, 1, 8, 2, bytes(6), (b"zTXt", b"k\0\0" + text)))


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]), st.data())
def test_damage_never_escapes_as_another_error(kind: str, data: st.DataObject):
    file = bytearray(encoded(picture(20, 15), kind))
    for _ in range(data.draw(st.integers(1, 6))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = decode(bytes(file), max_pixels=10**6)
    except BadImage:
        return
    assert image.mode == "RGB"


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 40))
def test_all_small_sizes(width: int, height: int):
    image = picture(width, height)
    np.testing.assert_array_equal(np.asarray(decode(encoded(image, "PNG"))), image)


def test_pil_images_are_turned_and_checked_too(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().save(tmp_path / "a.png", exif=exif.tobytes())
    with Image.open(tmp_path / "a.png") as image:
        assert from_pixels(image).size == (40, 60)
    with pytest.raises(BadImage, match="over the limit"):
        from_pixels(picture(), max_pixels=100)
    with pytest.raises(BadImage, match="over the limit"):
        from_pixels(np.zeros((100, 100)), max_pixels=100)
    with pytest.raises(BadImage, match="a dict"):
        from_pixels({})


def test_a_truncated_pil_image(tmp_path: Path):
    data = encoded(picture(300, 300), "PNG")
    with Image.open(io.BytesIO(data[: len(data) // 2])) as image, pytest.raises(BadImage):
        from_pixels(image)


@pytest.mark.skipif(os.name == "nt", reason="file descriptors of a subprocess")
def test_decoding_imports_no_heavy_package():
    import subprocess
    import sys

    code = (
        "import sys, bottleneck_probe.images.decode as d; d.decode(b'P6 1 1 255 abc');"
        "print({'torch', 'pandas', 'sklearn', 'h5py', 'scipy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
