"""The quick decoder of JPEG files: the pixels and the reasons are Pillow's, whatever the file."""

import io
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.images import decode as decoding
from bottleneck_probe.images import jpeg as module
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.decode import decode, decode_pixels
from bottleneck_probe.images.jpeg import decode_rgb, shrink_for, shrunk, trusted
from bottleneck_probe.images.payload import to_image, to_pixels
from bottleneck_probe.images.plugins import open_header
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image


@cache
def photograph(width: int = 150, height: int = 97, grain: int = 12) -> Image.Image:
    """Soft shapes with some noise: every frequency occurs, as in a photograph."""
    rng = np.random.default_rng(width * 1000 + height)
    coarse = rng.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), np.uint8)
    soft = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    noisy = soft + rng.normal(0, grain, soft.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **{"quality": 90, **options})
    return file.getvalue()


def outcome(read: Callable[[bytes], object], data: bytes) -> tuple[str, np.ndarray]:
    """A reason, or pixels."""
    try:
        return "", np.asarray(read(data))
    except BadImage as bad:
        return str(bad), np.zeros(0)


def assert_same(data: bytes, name: str = "") -> str:
    """The outcome through Pillow alone and the quick one are one and the same; its reason."""
    reason, expected = outcome(decode, data)
    quick_reason, found = outcome(lambda d: decode_pixels(d)[0], data)
    assert (quick_reason, name) == (reason, name)
    np.testing.assert_array_equal(found, expected, name)
    return reason


KINDS = {
    "baseline": {},
    "progressive": {"progressive": True},
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "RGB": {"keep_rgb": True},
    "restarts": {"restart_marker_rows": 1},
    "coarse": {"quality": 10},
    "optimised": {"optimize": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(150, 97), (16, 16), (1, 1), (3, 200), (257, 8)])
def test_every_kind_is_decoded_quickly_and_to_the_same(kind: str, size: tuple[int, int]):
    data = encoded(photograph(*size), **KINDS[kind])
    assert decode_rgb(data, open_header(data, "JPEG")) is not None
    assert assert_same(data) == ""


def test_grey():
    data = encoded(photograph().convert("L"))
    pixels = decode_rgb(data, open_header(data, "JPEG"))
    assert pixels is not None
    assert (pixels == pixels[:, :, :1]).all()
    assert assert_same(data) == ""


def test_cmyk_is_pillows():
    data = encoded(photograph().convert("CMYK"))
    assert decode_rgb(data, open_header(data, "JPEG")) is None
    assert assert_same(data) == ""


@pytest.mark.parametrize("orientation", range(10))
def test_turned_alike(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert assert_same(encoded(photograph(), exif=exif.tobytes())) == ""


def test_real_files(test_data: Path):
    """Photographs, all orientations, and files broken in every way that was found so far."""
    reasons = []
    for folder in ("ants-bees", "exif-orientation", "malformed"):
        for path in sorted((test_data / folder).rglob("*")):
            data = path.read_bytes() if path.is_file() else b""
            if data[:3] == b"\xff\xd8\xff":
                reasons.append(assert_same(data, str(path)))
    assert len(reasons) > 400
    assert any(reasons)


KEPT = [
    encoded(photograph(90, 61), **KINDS[kind]) for kind in ("baseline", "progressive", "restarts")
]


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(KEPT), st.integers(0, 2**32), st.integers(0, 12), st.floats(0, 1))
@example(KEPT[0], 0, 0, 1.0)
def test_damaged_files_end_alike(data: bytes, seed: int, flips: int, kept: float):
    """Bits turned over anywhere behind the first marker, and the end cut off."""
    rng, damaged = random.Random(seed), bytearray(data)
    for _ in range(flips):
        damaged[rng.randrange(3, len(damaged))] ^= 1 << rng.randrange(8)
    cut = len(damaged) if kept > 0.9 else 3 + int(kept * len(damaged))
    assert_same(bytes(damaged[:cut]))


@pytest.mark.parametrize("more", [b"rubbish", KEPT[0], b"\xff\xd9"], ids=["rubbish", "file", "end"])
def test_what_follows_the_image(more: bytes):
    assert assert_same(KEPT[0] + more) == ""
    assert assert_same(KEPT[0][:-2] + more) is not None


def test_a_cut_file_is_refused_although_the_quick_decoder_only_warns():
    data = encoded(photograph())
    assert assert_same(data[: len(data) // 2]).startswith("truncated after")


def test_limits_hold_before_pixels_take_memory():
    with pytest.raises(BadImage, match=r"150x97 = 0\.0146 MP, over the limit"):
        to_pixels(encoded(photograph()), max_pixels=100)


@settings(deadline=None, max_examples=100)
@given(st.integers(8, 260), st.integers(8, 260), st.sampled_from([1, 2, 4, 8]), st.booleans())
def test_both_decoders_shrink_alike(width: int, height: int, shrink: int, grey: bool):
    """What the quick one refuses comes from Pillow, and must be the same image."""
    image = photograph(width, height)
    data = encoded(image.convert("L") if grey else image)
    found = decode_rgb(data, open_header(data, "JPEG"), shrink)
    expected = decoding._decode(data, "JPEG", 10**8, None, shrink)
    if shrink > 1 and max(width, height) < 16:
        assert found is None  # two scales of libjpeg give one size there
        return
    assert found is not None
    assert expected.size == shrunk(image.size, shrink)
    np.testing.assert_array_equal(found, np.asarray(expected))


@pytest.mark.parametrize("size", [(w, h) for w in range(2, 19) for h in (2, 3, 5, 8, 15, 17)])
def test_the_smallest_images_shrink_alike(size: tuple[int, int]):
    """Noise of 3x3 pixels, of which two scales of libjpeg leave 2x2."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    data = encoded(Image.fromarray(noise))
    for shrink in (each for each in (2, 4, 8) if each <= min(size)):
        needed = tuple(side // 2 for side in shrunk(size, shrink))
        if not min(needed):
            continue
        found = decode_pixels(data, target=lambda _, needed=needed: needed)[0]
        real = shrink_for(size, needed)
        np.testing.assert_array_equal(
            found, np.asarray(decoding._decode(data, "JPEG", 10**8, None, real))
        )


@given(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), st.tuples(*[st.integers(1, 700)] * 2))
def test_twice_the_needed_size_remains(size: tuple[int, int], needed: tuple[int, int]):
    shrink = shrink_for(size, needed)
    left = shrunk(size, shrink)
    if shrink > 1:
        assert left[0] >= 2 * needed[0]
        assert left[1] >= 2 * needed[1]
    if shrink < 8:
        less = shrunk(size, 2 * shrink)
        assert less[0] < 2 * needed[0] or less[1] < 2 * needed[1]


def test_pixels_that_are_still_in_use_are_not_written_over():
    """Memory is used again, but never under somebody's hands: not even under a view of it."""
    first = to_pixels(encoded(photograph())).array[10:20, ::3]
    kept = first.copy()
    shown = Image.fromarray(to_pixels(encoded(photograph(90, 61))).array)
    shown_kept = np.array(shown)
    for side in (150, 151, 97):
        to_pixels(encoded(photograph(side, side)))
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(np.asarray(shown), shown_kept)


def test_memory_is_used_again_once_it_is_free():
    data = encoded(photograph())

    def place() -> int:
        return to_pixels(data).array.ctypes.data

    assert place() == place()


@pytest.fixture
def impatient():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("impatient")
def test_every_thread_has_memory_of_its_own():
    files = [encoded(photograph(100 + i, 90)) for i in range(6)]
    expected = [np.array(to_image(data)) for data in files]
    wrong: list[int] = []

    def work(i: int) -> None:
        for _ in range(20):
            if not np.array_equal(to_pixels(files[i]).array, expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_header_that_says_another_size_is_not_trusted():
    """Decoders that disagree on where the image begins must not be mixed."""
    data = encoded(photograph())
    header = open_header(data, "JPEG")
    assert decode_rgb(data, header) is not None
    header._size = (150, 96)
    assert decode_rgb(data, header) is None


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch):
    """As at the first JPEG file of a process."""
    monkeypatch.setattr(module, "_verdict", [])


@pytest.mark.usefixtures("untried")
def test_the_decoders_of_this_installation_agree():
    assert trusted()


@pytest.mark.usefixtures("untried")
def test_another_decoder_is_noticed_and_not_used(monkeypatch: pytest.MonkeyPatch):
    """A simplejpeg built with another libjpeg would change features without a word."""
    real = module._decode

    def other(*args: object) -> np.ndarray:
        pixels = real(*args)  # type: ignore[arg-type]
        pixels[0, 0, 0] ^= 1
        return pixels

    monkeypatch.setattr(module, "_decode", other)
    data = encoded(photograph())
    with pytest.warns(RuntimeWarning, match="not those of Pillow's own decoder"):
        found = to_pixels(data).array
    np.testing.assert_array_equal(found, np.asarray(to_image(data)))
    to_pixels(data)  # a second warning would be an error


@pytest.mark.usefixtures("untried")
def test_without_simplejpeg_pillow_decodes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    data = encoded(photograph())
    with pytest.warns(RuntimeWarning, match="simplejpeg cannot be used here .*ModuleNotFound"):
        found = to_pixels(data).array
    np.testing.assert_array_equal(found, np.asarray(to_image(data)))


def test_other_formats_do_not_even_import_it():
    code = (
        "import sys; from bottleneck_probe.images.decode import decode_pixels\n"
        "decode_pixels(b'P6 2 1 255 ' + bytes(6)); assert 'simplejpeg' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
