"""Sources are read once, without waiting, and their keys are their content."""

import errno
import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.images import payload as module
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.payload import key_of, payload, read, to_image
from PIL import Image

posix = pytest.mark.skipif(os.name == "nt", reason="POSIX file types and permissions")


def test_bytes_as_they_are(tmp_path: Path):
    content = bytes(range(256)) * 50 + b"\r\n\x1a"  # Windows' text mode would change the end
    (tmp_path / "a").write_bytes(content)
    assert read(str(tmp_path / "a")) == content
    assert payload(tmp_path / "a") == content
    assert key_of(content) == blake3(content).digest()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing.jpg", "no such file"), ("a\0b.jpg", "no such file"), ("", "no such file")],
)
def test_missing(tmp_path: Path, name: str, reason: str):
    with pytest.raises(BadImage, match=reason):
        read(str(tmp_path / name) if name else "")


@posix
def test_a_file_below_a_file_and_a_name_too_long(tmp_path: Path):
    (tmp_path / "a").touch()
    with pytest.raises(BadImage, match="no such file"):
        read(str(tmp_path / "a" / "b.jpg"))
    with pytest.raises(BadImage, match="ENAMETOOLONG"):
        read(str(tmp_path / ("x" * 300)))


@posix
def test_links(tmp_path: Path):
    (tmp_path / "a.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    for name in ("a.jpg", "loop.jpg"):
        with pytest.raises(BadImage, match="broken link"):
            read(str(tmp_path / name))


@posix
def test_nothing_blocks_on_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    os.mkfifo(tmp_path / "fifo.jpg")
    (tmp_path / "folder.jpg").mkdir()
    monkeypatch.chdir(tmp_path)  # a socket's path may have 100 characters at most
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        for name in ("fifo.jpg", "folder.jpg", "socket.jpg", "/dev/zero"):
            with pytest.raises(BadImage, match="not a regular file"):
                read(str(tmp_path / name))


@posix
def test_a_fifo_that_replaces_the_file_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").touch()
    regular = os.stat(tmp_path / "b.jpg")
    real = os.stat
    fifo = str(tmp_path / "a.jpg")
    monkeypatch.setattr(module.os, "stat", lambda p, **k: regular if p == fifo else real(p, **k))
    caught: list[BadImage] = []

    def work() -> None:
        try:
            read(fifo)
        except BadImage as error:
            caught.append(error)

    # In a thread, so that a blocked open fails the test instead of holding it up for ever.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(5)
    assert [str(error) for error in caught] == ["not a regular file"]


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.EACCES, "no permission"), (errno.EIO, "cannot be read: EIO")]
)
def test_errors_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
):
    (tmp_path / "a").touch()

    def fail(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(module.os, "open", fail)
    with pytest.raises(BadImage, match=reason):
        read(str(tmp_path / "a"))


def changing(path: Path, times: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let `path` change `times` times, each time between the first look and the last."""
    real, calls = os.fstat, [0]

    def fstat(descriptor: int) -> os.stat_result:
        status = real(descriptor)
        if calls[0] < 2 * times and calls[0] % 2 == 0:
            path.write_bytes(b"new" * (calls[0] + 1))
            os.utime(path, ns=(1, 1000 + calls[0]))
        calls[0] += 1
        return status

    monkeypatch.setattr(module.os, "fstat", fstat)
    return calls


def test_changed_once_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    changing(path, 1, monkeypatch)
    assert read(str(path)) == b"new"


def test_changed_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    changing(path, 9, monkeypatch)
    with pytest.raises(BadImage, match="changed while read"):
        read(str(path))


def test_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "a").write_bytes(b"12345")
    monkeypatch.setattr(module, "MAX_BYTES", 4)
    with pytest.raises(BadImage, match="over the limit"):
        read(str(tmp_path / "a"))


def test_keys_of_arrays_follow_type_shape_and_values():
    base = np.arange(24, dtype=np.uint8).reshape(4, 6)
    others = [base.reshape(6, 4), base + 1, base.astype(np.uint16), base.T, base[:, :, None]]
    keys = {key_of(array) for array in [base, *others]}
    assert len(keys) == 6
    assert key_of(base) == blake3(b"|u1(4,6)\n" + base.tobytes()).digest()


def test_keys_do_not_follow_how_an_array_lies_in_memory():
    base = np.arange(24, dtype=np.uint16).reshape(4, 6)
    assert key_of(np.asfortranarray(base)) == key_of(base)
    assert key_of(base[::-1][::-1]) == key_of(base)
    assert key_of(base.astype(">u2")) == key_of(base)


def test_a_pil_image_is_its_rgb_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    content = payload(Image.fromarray(pixels))
    np.testing.assert_array_equal(content, pixels)
    assert key_of(content) == key_of(pixels)


def test_tensors():
    torch = pytest.importorskip("torch")
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)
    np.testing.assert_array_equal(payload(tensor), pixels)
    with pytest.raises(BadImage, match="already normalised"):
        payload(tensor.float() / 255)


def test_callables_are_asked_when_needed():
    assert payload(lambda: b"abc") == b"abc"

    def fail() -> None:
        raise RuntimeError("disk\nlost")

    with pytest.raises(BadImage, match="RuntimeError: disk lost"):
        payload(fail)
    with pytest.raises(BadImage, match="a dict"):
        payload(dict)


def test_the_image_of_both_kinds():
    pixels = np.full((5, 7, 3), 9, dtype=np.uint8)
    for content in (pixels, b"P6 7 5 255 " + pixels.tobytes()):
        image = to_image(content)
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (7, 5), (9, 9, 9))
    with pytest.raises(BadImage, match="over the limit"):
        to_image(pixels, max_pixels=3)
