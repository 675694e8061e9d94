"""Sources are read once, without waiting, and their keys are their content."""

import errno
import io
import os
import socket
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.images import payload as module
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.limits import Limits
from bottleneck_probe.images.payload import (
    Fetched,
    fetch,
    key_of,
    payload,
    read,
    to_image,
    to_pixels,
)
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
    thread.join(60)
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


@posix
def test_a_file_that_may_not_be_read():
    """By the system's own refusal; root, who may read all, becomes somebody else for it."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # those of pytest are closed to others
        for name, mode in (("open.jpg", 0o644), ("closed.jpg", 0o000)):
            Path(folder, name).write_bytes(b"abc")
            os.chmod(Path(folder, name), mode)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            if not os.access(Path(folder, "open.jpg"), os.R_OK, effective_ids=root):
                pytest.skip("the folder of temporary files is closed to others")
            assert read(str(Path(folder, "open.jpg"))) == b"abc"
            with pytest.raises(BadImage, match=r"^no permission$"):
                read(str(Path(folder, "closed.jpg")))
        finally:
            if root:
                os.seteuid(0)


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


def test_the_status_is_that_of_what_was_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the file that was open, even if another one has its name by now."""
    path, other = tmp_path / "a", tmp_path / "b"
    path.write_bytes(b"old")
    other.write_bytes(b"another")
    found = os.stat(path)
    real = os.open

    def replaced(*args: object) -> int:
        descriptor = real(*args)
        os.replace(other, path)
        return descriptor

    before = fetch(path)
    assert before.content == b"old"
    assert before.status == (3, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    monkeypatch.setattr(module.os, "open", replaced)
    fetched = fetch(str(path))
    assert fetched.content == b"old"
    assert fetched.status is not None
    assert fetched.status[3] == found.st_ino != os.stat(path).st_ino


def test_a_status_that_changes_meanwhile_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A new ctime with an old size and mtime: a rename, or bytes changed and the time set back."""
    path = tmp_path / "a"
    path.write_bytes(b"old")
    real, calls = os.fstat, [0]

    def fstat(descriptor: int) -> os.stat_result:
        calls[0] += 1
        if calls[0] == 2:
            status = real(descriptor)
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
            os.chmod(path, 0o600 if status.st_mode & 0o077 else 0o644)
        return real(descriptor)

    monkeypatch.setattr(module.os, "fstat", fstat)
    assert fetch(path) == Fetched(b"old", None)


@pytest.mark.parametrize("source", [b"abc", lambda: b"abc"], ids=["bytes", "callable"])
def test_what_is_no_file_has_no_status(source: object):
    assert fetch(source) == Fetched(b"abc", None)


@posix
@pytest.mark.parametrize("said", [0, 1, 4096], ids=["none", "less", "more"])
def test_a_file_whose_size_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int):
    """Files of /proc are 0 bytes long, and some systems read less than they are asked for."""
    path = tmp_path / "a"
    path.write_bytes(bytes(range(256)) * 8)
    real, real_read = os.fstat, os.read
    descriptor = os.open(path, os.O_RDONLY)
    sized = os.stat_result((*real(descriptor)[:6], said, 0, 0, 0))
    os.close(descriptor)
    monkeypatch.setattr(module.os, "fstat", lambda descriptor: sized)
    monkeypatch.setattr(module.os, "read", lambda fd, count: real_read(fd, min(count, 700)))
    assert read(str(path)) == bytes(range(256)) * 8


def test_too_large(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    with pytest.raises(BadImage, match=r"^5 bytes, over the limit of 4 bytes \(--max-bytes\)$"):
        read(str(tmp_path / "a"), Limits(max_bytes=4))
    assert read(str(tmp_path / "a"), Limits(max_bytes=5)) == b"12345"


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


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda torch: torch.zeros(3, 8, 8, dtype=torch.bfloat16), "bfloat16: already normalised"),
        (
            lambda torch: torch.zeros(3, 8, 8, dtype=torch.uint8).to_sparse(),
            "no plain array: .*parse",
        ),
        (lambda torch: torch.zeros(3, 8, 8, dtype=torch.uint8, device="meta"), "no plain array"),
    ],
    ids=["bfloat16", "sparse", "meta"],
)
def test_tensors_without_an_array_are_bad_images(make, reason: str):
    torch = pytest.importorskip("torch")
    for source in (make(torch), lambda: make(torch)):
        with pytest.raises(BadImage, match=reason):
            payload(source)


def test_an_array_of_objects_is_a_bad_image():
    structured = np.zeros((2, 2), dtype=[("a", object)])
    for source in (np.array([[None]]), structured, lambda: np.array([[object()]])):
        with pytest.raises(BadImage, match="an array of objects; numbers were expected"):
            payload(source)


def test_a_callable_that_returns_itself_is_a_bad_image():
    class Itself:
        def __call__(self) -> object:
            return self

    with pytest.raises(BadImage, match=r"gave a function \(Itself\), no image"):
        payload(Itself())


def test_callables_are_asked_when_needed():
    assert payload(lambda: b"abc") == b"abc"

    def fail() -> None:
        raise RuntimeError("disk\nlost")

    with pytest.raises(BadImage, match="RuntimeError: disk lost"):
        payload(fail)
    with pytest.raises(BadImage, match="a dict"):
        payload(dict)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("values", ["full", "bits:4"])
def test_pixels_are_those_of_the_image(dtype: type, values: str):
    """Whatever the payload; with the share of its range that an image of more than 8 bits uses."""
    array = np.arange(35, dtype=dtype).reshape(5, 7)
    file = io.BytesIO()
    Image.fromarray(array if dtype != np.float32 else array.astype(np.uint8)).save(file, "PNG")
    for content in (array, np.stack([array] * 3, axis=2), file.getvalue()):
        image, pixels = to_image(content, range=values), to_pixels(content, range=values)
        np.testing.assert_array_equal(pixels.array, np.asarray(image))
        assert pixels.range_used == image.info.get("range_used")
        assert (pixels.array.dtype, pixels.array.shape) == (np.uint8, (5, 7, 3))


def test_the_image_of_both_kinds():
    pixels = np.full((5, 7, 3), 9, dtype=np.uint8)
    for content in (pixels, b"P6 7 5 255 " + pixels.tobytes()):
        image = to_image(content)
        assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (7, 5), (9, 9, 9))
    with pytest.raises(BadImage, match="over the limit"):
        to_image(pixels, max_pixels=3)
