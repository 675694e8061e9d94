"""Files of more than 8 bits a channel: with a range, every bit of them counts."""

import io
import struct
import zlib

import numpy as np
import pytest
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.decode import decode
from bottleneck_probe.images.payload import key_of, narrow_range, payload, to_image
from PIL import Image

RNG = np.random.default_rng(0)
COLOR = RNG.integers(0, 4096, (30, 40, 3), dtype=np.uint16)  # 12 of 16 bits
GREY = COLOR[:, :, 0]


def png(pixels: np.ndarray, color: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of 16 bits a channel, written by hand: Pillow writes grey alone."""

    def chunk(name: bytes, data: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + crc

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(
    pixels: np.ndarray, order: str = "<", *, deflate: bool = False, orientation: int = 1
) -> bytes:
    """A TIFF of 16 bits a channel in colour, in one strip."""
    height, width, channels = pixels.shape
    strip = pixels.astype(f"{order}u2").tobytes()
    strip = zlib.compress(strip) if deflate else strip
    tags = [
        (256, 3, [width]),
        (257, 3, [height]),
        (258, 3, [16] * channels),
        (259, 3, [8 if deflate else 1]),
        (262, 3, [2]),
        (273, 4, [8]),
        (274, 3, [orientation]),
        (277, 3, [channels]),
        (278, 4, [height]),
        (279, 4, [len(strip)]),
        *([(338, 3, [2])] if channels == 4 else []),
    ]
    end = 8 + len(strip)
    extra_at, extra, entries = end + 2 + 12 * len(tags) + 4, b"", b""
    for tag, kind, values in tags:
        data = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(data) > 4:
            extra, data = extra + data, struct.pack(f"{order}I", extra_at + len(extra))
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + data.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, end)
    return head + strip + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + extra


def saved(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.dstack([pixels, np.full(pixels.shape[:2], 65535, dtype=np.uint16)])


def ppm(magic: str, pixels: np.ndarray, largest: int = 4095) -> bytes:
    head = f"{magic} {pixels.shape[1]} {pixels.shape[0]} {largest} ".encode()
    return head + pixels.astype(">u2").tobytes()


FILES = {
    "png-rgb": png(COLOR, 2),
    "png-rgba": png(with_alpha(COLOR), 6),
    "png-grey": png(GREY, 0),
    "png-grey-alpha": png(with_alpha(GREY), 4),
    "tiff-rgb": tiff(COLOR),
    "tiff-rgb-big-endian": tiff(COLOR, ">"),
    "tiff-rgb-deflate": tiff(COLOR, deflate=True),
    "tiff-rgb-deflate-big-endian": tiff(COLOR, ">", deflate=True),
    "tiff-rgba": tiff(with_alpha(COLOR)),
    "tiff-grey": saved(GREY, "TIFF"),
    "ppm": ppm("P6", COLOR),
    "pgm": ppm("P5", GREY),
    "pgm-16": ppm("P5", GREY, 65535),
    "pgm-text": b"P2 40 30 4095 " + " ".join(str(v) for v in GREY.ravel()).encode(),
    "jpeg-2000": saved(GREY, "JPEG2000"),
}


@pytest.mark.parametrize("range", ["bits:12", "100:300", "0:65535"])
@pytest.mark.parametrize("name", FILES)
def test_the_file_is_scaled_by_its_own_values(name: str, range: str):
    pixels = np.dstack([GREY] * 3) if {"grey", "pgm", "2000"} & {*name.split("-")} else COLOR
    image = to_image(FILES[name], range=range)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(to_image(pixels, range=range)))
    low, high = {"bits:12": (0, 4095), "100:300": (100, 300), "0:65535": (0, 65535)}[range]
    beyond = (pixels < low) | (pixels > high)
    assert image.info["range_clipped"] == pytest.approx(beyond.mean())


@pytest.mark.parametrize("name", FILES)
def test_twelve_of_sixteen_bits_are_told(name: str):
    """A PGM or PPM that says it has 12 bits is scaled by that, and has nothing to be told of."""
    states_its_bits = name in ("pgm", "pgm-text", "ppm")
    assert narrow_range(decode(FILES[name])) is not states_its_bits
    assert not narrow_range(decode(FILES[name], range="bits:12"))


def test_transparency_is_found_among_all_sixteen_bits():
    pixels = np.full((2, 2, 3), (1, 2, 3), dtype=np.uint16)
    pixels[0, 0], pixels[1, 1] = (300, 2, 3), (300, 2, 4)
    hidden = decode(png(pixels, 2, (b"tRNS", struct.pack(">3H", 300, 2, 3))), range="bits:12")
    assert hidden.getpixel((0, 0)) == (255, 255, 255)
    assert hidden.getpixel((1, 1)) == (19, 0, 0)
    grey = decode(png(pixels[:, :, 0], 0, (b"tRNS", struct.pack(">H", 300))), range="0:3000")
    assert [grey.getpixel(at)[0] for at in ((0, 0), (1, 0))] == [255, 0]
    soft = with_alpha(pixels)
    soft[0, 0, 3] = 0
    assert decode(png(soft, 6), range="bits:12").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_file_is_turned_once(orientation: int):
    data = tiff(COLOR, orientation=orientation)
    upright = Image.open(io.BytesIO(data))  # Pillow turns TIFFs itself
    expected = np.asarray(decode(data, range="0:65535"))
    assert expected.shape == np.asarray(upright).shape
    assert abs(expected.astype(int) - np.asarray(upright)).max() <= 1  # high byte, or rounded


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"P3 1 1 4095 1 2 3 ", "PPM in plain text"),
        (FILES["jpeg-2000"].replace(b"\x01\x0f\x01\x01", b"\x01\x0b\x01\x01"), "JPEG 2000"),
    ],
    ids=["text", "jpeg-2000"],
)
def test_what_cannot_be_had_in_full_is_a_reason_and_no_guess(data: bytes, kind: str):
    decode(data)
    with pytest.raises(BadImage, match=f"^{kind}.*--range.*PNG or TIFF"):
        decode(data, range="bits:12")


def test_eight_bit_files_are_left_alone():
    pixels = (COLOR >> 4).astype(np.uint8)
    for kind in ("PNG", "TIFF", "PPM", "BMP", "JPEG2000"):
        data = saved(pixels, kind)
        np.testing.assert_array_equal(decode(data, range="3:9"), decode(data))
        assert not decode(data, range="3:9").info


WIDE_IMAGES = {
    "I;16": Image.fromarray(GREY),
    "I": Image.fromarray(GREY.astype(np.int32)),
    "F": Image.fromarray(GREY.astype(np.float32)),
}


@pytest.mark.parametrize("mode", WIDE_IMAGES)
def test_pillow_images_in_memory_keep_their_values(mode: str):
    """They were brought to 8 bits before they were hashed, so a range would have come too late."""
    image = WIDE_IMAGES[mode]
    assert image.mode == mode
    content = payload(image)
    np.testing.assert_array_equal(content, np.asarray(image))
    expected = to_image(GREY, range="bits:12")
    np.testing.assert_array_equal(to_image(content, range="bits:12"), expected)
    other = image.copy()
    other.putpixel((0, 0), int(GREY[0, 0]) ^ 1)
    assert key_of(payload(other)) != key_of(content)


@pytest.mark.parametrize("mode", WIDE_IMAGES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pillow_images_in_memory_are_turned(mode: str, orientation: int):
    from PIL import ImageOps

    image = WIDE_IMAGES[mode].copy()
    image.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(payload(image), np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("mode", WIDE_IMAGES)
def test_pillow_images_in_memory_keep_their_transparency(mode: str):
    image = WIDE_IMAGES[mode].copy()
    image.info["transparency"] = int(GREY[3, 5])
    shown = np.asarray(to_image(payload(image), range="0:65535"))
    assert (shown[GREY[3, 5] == GREY] == 255).all()
    assert (shown[GREY[3, 5] != GREY] < 20).all()
