"""A file over a descriptor: what libraries ask of it, and the first error, which it keeps."""

import errno
import io
import os

import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import atomic
from bottleneck_probe.cache.descriptor import Descriptor
from bottleneck_probe.errors import CacheError


@pytest.fixture
def opened(tmp_path):
    """An empty file."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
    with Descriptor(os.open(tmp_path / "x", flags, 0o600)) as file:
        yield file


def failing(number):
    """A call of the system that fails."""

    def fail(*args):
        raise OSError(number, os.strerror(number))

    return fail


def test_python_and_hdf5_read_and_write_through_it(opened, tmp_path):
    buffered = io.BufferedRandom(opened)
    buffered.write(b"one\ntwo\n")
    buffered.seek(4)
    assert buffered.readline() == b"two\n"
    assert buffered.read() == b""
    buffered.truncate(4)
    assert os.fstat(opened.fileno()).st_size == 4
    buffered.detach()
    opened.truncate(0)
    with h5py.File(opened, "w") as h5:
        h5["x"] = np.arange(1000)
    opened.sync()
    with h5py.File(tmp_path / "x") as h5:
        np.testing.assert_array_equal(h5["x"][:], np.arange(1000))
    assert opened.error is None


def test_a_file_may_be_closed_twice_and_its_number_is_not_used_again(opened, tmp_path):
    opened.close()
    other = os.open(tmp_path / "x", os.O_RDONLY)
    opened.close()  # would close what has got its number since
    os.fstat(other)
    os.close(other)
    assert opened.error is None


def test_an_error_of_close_is_kept_and_told(tmp_path, monkeypatch):
    """Network disks may say "over quota" as late as there."""
    target, real = tmp_path / "x.h5", os.close
    target.write_bytes(b"old")

    def close(descriptor):
        real(descriptor)
        if descriptor == number:
            failing(errno.EDQUOT)()

    number = -1

    def write():
        nonlocal number
        with atomic.replace_atomically(target) as file:
            file.write(b"new")
            number = file.fileno()
            monkeypatch.setattr(os, "close", close)

    with pytest.raises(CacheError, match=r"over quota: .*EDQUOT in close") as caught:
        write()
    monkeypatch.undo()
    assert "x.h5" in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.h5"]
    assert target.read_bytes() == b"old"


def test_a_failed_truncate_tells_how_long_the_file_would_be(opened, monkeypatch):
    opened.write(b"12345")
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", failing(errno.EFBIG))
        for length, reach in ((900, 900), (None, 900), (1000, 1000)):
            with pytest.raises(OSError, match="too large"):
                opened.truncate(length)
            assert opened.reach == reach
    assert (opened.error.errno, opened.call) == (errno.EFBIG, "ftruncate")


def test_the_first_error_is_the_one_that_counts(opened, monkeypatch):
    """What follows a full disk says less about it."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(errno.ENOSPC))
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(OSError, match="No space left"):
            opened.write(b"12345")
        with pytest.raises(OSError, match=r"Input/output|I/O"):
            opened.truncate(100)
    opened.write(b"now there is room")
    with pytest.raises(OSError, match="No space left") as caught:
        opened.sync()
    assert caught.value is opened.error
    assert (opened.call, opened.reach) == ("write", 100)
