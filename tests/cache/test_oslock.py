# ruff: noqa: SIM117 (what fails is the end of a block that writes)
"""The system's own lock: of POSIX, of Windows through `filelock`, and of disks that fail."""

import errno
import os
from types import SimpleNamespace

import pytest
from bottleneck_probe.cache import oslock
from bottleneck_probe.cache.lock import writing
from bottleneck_probe.cache.oslock import OsLock
from bottleneck_probe.errors import CacheError


@pytest.fixture
def windows(monkeypatch):
    """The way of Windows, whose locks `filelock` takes as well as those of any other system."""
    monkeypatch.setattr(oslock, "fcntl", None)
    monkeypatch.setattr(oslock, "sys", SimpleNamespace(platform="win32"))


@pytest.mark.usefixtures("windows")
def test_on_windows_one_has_it_at_a_time_and_a_lock_that_is_ours_proves_it(tmp_path):
    file = tmp_path / ".x.h5.lock"
    first, second = OsLock(file), OsLock(file)
    assert (first.state, first.proves) == ("held", True)
    assert (second.state, second.proves) == ("busy", False)
    second.release()  # has nothing to give back
    assert OsLock(file).state == "busy"
    taken = first._windows  # kept here: what nobody knows any more is given back without a release
    first.release()
    assert not taken.is_locked
    assert OsLock(file).state == "held"


@pytest.mark.usefixtures("windows")
def test_on_windows_a_second_writer_is_refused_and_the_next_one_is_not(tmp_path):
    with writing(tmp_path / "x.h5"):
        with pytest.raises(CacheError, match="in use by"), writing(tmp_path / "x.h5", timeout_s=0):
            pytest.fail("two writers at once")
    with writing(tmp_path / "x.h5", timeout_s=0):
        pass


@pytest.mark.usefixtures("windows")
def test_on_windows_a_folder_that_takes_no_file_is_told_and_not_waited_for(tmp_path, monkeypatch):
    """There `filelock` says of a file that cannot be made the same as of one that is locked."""
    import filelock

    def refused(lock, timeout):
        raise filelock.Timeout(lock.lock_file)

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with (
        pytest.raises(CacheError, match=r"no permission to write .*x\.h5"),
        writing(tmp_path / "x.h5", timeout_s=0),
    ):
        pytest.fail("without a lock")


@pytest.mark.skipif(oslock.fcntl is None, reason="locks of POSIX")
def test_an_error_of_the_disk_is_neither_a_lock_nor_a_disk_without_locks(tmp_path, monkeypatch):
    locked, closed, real = [], [], os.close

    def broken(descriptor, flags):
        locked.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    def close(descriptor):
        closed.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(oslock.fcntl, "flock", broken)
    monkeypatch.setattr(oslock.os, "close", close)
    with pytest.raises(CacheError, match=r"x\.h5 could not be written: .*EIO"):
        with writing(tmp_path / "x.h5"):
            pytest.fail("without a lock")
    assert len(locked) == 1
    assert locked[0] in closed


@pytest.mark.parametrize(("platform", "local"), [("win32", True), ("darwin", False)])
def test_without_a_list_of_mounts_only_windows_vouches_for_its_locks(
    tmp_path, monkeypatch, platform, local
):
    def none(*args):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(oslock, "sys", SimpleNamespace(platform=platform))
    monkeypatch.setattr(oslock, "open", none, raising=False)
    assert oslock.is_local(tmp_path) is local
