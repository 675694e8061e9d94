# ruff: noqa: PT012, SIM117 (what fails is the end of a block that writes)
import errno
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from bottleneck_probe.cache import atomic, media, orphans
from bottleneck_probe.errors import CacheError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_content_and_nothing_else(tmp_path):
    target = tmp_path / "new" / "x.h5"
    with atomic.replace_atomically(target) as file:
        file.write(b"half")
        assert not target.exists()
        file.write(b" whole")
    assert target.read_bytes() == b"half whole"
    assert names(target.parent) == ["x.h5"]


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt(), OSError("other")])
def test_after_any_exception_the_old_file_stays_and_the_temporary_one_goes(tmp_path, error):
    target = tmp_path / "x.h5"
    target.write_bytes(b"old")
    with pytest.raises(type(error)) as caught, atomic.replace_atomically(target) as file:
        file.write(b"new")
        raise error
    assert caught.value is error
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["x.h5"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full"),
        (errno.EDQUOT, "over quota"),
        (errno.EFBIG, "ulimit"),
        (errno.EROFS, "no permission"),
        (errno.EACCES, "no permission"),
        (errno.EIO, "EIO"),
    ],
    ids=lambda value: errno.errorcode.get(value, "") if isinstance(value, int) else "",
)
def test_any_failing_call_becomes_an_error_that_names_file_and_cause(
    tmp_path, monkeypatch, call, number, words
):
    target = tmp_path / "x.h5"
    target.write_bytes(b"old")

    def fail(*args, **options):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(CacheError, match=words) as caught:
            with atomic.replace_atomically(target) as file:
                file.write(b"new")
    assert "x.h5" in str(caught.value)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["x.h5"]


def test_an_error_that_the_writing_library_swallowed_still_counts(tmp_path, monkeypatch):
    """HDF5's close raises nothing after a failed write; the descriptor remembers it."""
    target = tmp_path / "x.h5"

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(CacheError, match="disk full"), atomic.replace_atomically(target) as file:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", fail)
            with suppress(OSError):
                file.write(b"lost")
    assert names(tmp_path) == []


def test_short_writes_are_continued(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda number, data: write(number, data[:3]))
    with atomic.replace_atomically(tmp_path / "x") as file:
        assert file.write(b"0123456789") == 10
    assert (tmp_path / "x").read_bytes() == b"0123456789"


def test_a_late_flush_cannot_reach_the_next_owner_of_the_descriptor(tmp_path):
    with atomic.replace_atomically(tmp_path / "x") as file:
        file.write(b"x")
    with pytest.raises(OSError, match="Bad file"):
        file.write(b"late")


def test_a_symbolic_link_stays_one(tmp_path):
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "x.h5"
    real.write_bytes(b"old")
    link = tmp_path / "x.h5"
    try:
        link.symlink_to(real)
    except OSError:
        pytest.skip("no symbolic links here")
    with atomic.replace_atomically(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"


def test_a_name_of_255_bytes_works(tmp_path):
    target = tmp_path / ("x" * 252 + ".h5")
    with atomic.replace_atomically(target) as file:
        file.write(b"x")
    assert target.exists()


@pytest.mark.parametrize(
    ("age_s", "owned", "left"), [(3600, False, False), (3600, True, True), (0, False, True)]
)
def test_only_the_temporary_files_of_killed_runs_are_removed(tmp_path, age_s, owned, left):
    target = tmp_path / "x.h5"
    orphan, descriptor = orphans.create(target)
    if not owned:
        os.close(descriptor)
    os.utime(orphan, (time.time() - age_s,) * 2)
    with atomic.replace_atomically(target) as file:
        file.write(b"x")
    assert orphan.exists() is left
    if owned:
        os.close(descriptor)


@pytest.mark.skipif(orphans.fcntl is None, reason="locks of POSIX")
def test_who_holds_the_lock_of_the_target_removes_young_orphans_too(tmp_path):
    target = tmp_path / "x.h5"
    dead, descriptor = orphans.create(target)
    os.close(descriptor)
    alive, descriptor = orphans.create(target)
    other, closed = orphans.create(tmp_path / "y.h5")
    os.close(closed)
    orphans.remove_beside(target)
    assert [path.exists() for path in (dead, alive, other)] == [False, True, True]
    orphans.remove_in(tmp_path)
    assert [path.exists() for path in (alive, other)] == [True, False]
    os.close(descriptor)


def test_without_locks_only_an_old_temporary_file_is_removed(tmp_path, monkeypatch):
    """On a disk without locks nobody can say whether the owner of a file lives."""
    if orphans.fcntl is None:
        pytest.skip("locks of POSIX")

    def none(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(orphans.fcntl, "flock", none)
    for age_s, left in ((60, True), (orphans.UNKNOWN_AGE_S + 60, False)):
        orphan, descriptor = orphans.create(tmp_path / "x.h5")
        os.close(descriptor)
        os.utime(orphan, (time.time() - age_s,) * 2)
        orphans.remove_beside(tmp_path / "x.h5")
        assert orphan.exists() is left


def test_on_windows_only_an_open_temporary_file_cannot_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(orphans, "fcntl", None)
    target = tmp_path / "x.h5"
    (dead, _), (alive, _) = found = [orphans.create(target) for _ in range(2)]
    for _, descriptor in found:
        os.close(descriptor)
    real = os.unlink

    def windows(path):
        if path == alive:
            raise PermissionError(errno.EACCES, "used by another process")
        real(path)

    monkeypatch.setattr(os, "unlink", windows)
    orphans.remove_beside(target)
    assert [path.exists() for path in (dead, alive)] == [False, True]


def test_on_windows_a_folder_cannot_be_opened_and_that_is_fine(tmp_path, monkeypatch):
    real = os.open

    def windows(path, *args, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", windows)
    monkeypatch.setattr(orphans, "fcntl", None)
    with atomic.replace_atomically(tmp_path / "x") as file:
        file.write(b"x")
    assert (tmp_path / "x").read_bytes() == b"x"


def test_a_file_system_that_cannot_sync_folders_is_fine_but_a_broken_disk_is_not(
    tmp_path, monkeypatch
):
    for number, fails in ((errno.EINVAL, False), (errno.EIO, True)):

        def fail(descriptor, number=number):
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            if fails:
                with pytest.raises(OSError, match="rror"):
                    atomic.sync_folder(tmp_path)
            else:
                atomic.sync_folder(tmp_path)


def test_on_windows_an_open_file_cannot_be_replaced_and_the_error_says_who_to_close(
    tmp_path, monkeypatch
):
    target = tmp_path / "x.h5"
    target.write_bytes(b"old")
    tries = []

    def open_elsewhere(source, destination):
        error = PermissionError(errno.EACCES, "Access is denied")
        error.winerror = 5
        tries.append(error)
        raise error

    monkeypatch.setattr(atomic, "REPLACE_PAUSE_S", 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", open_elsewhere)
        with pytest.raises(CacheError, match="has it open") as caught:
            with atomic.replace_atomically(target) as file:
                file.write(b"new")
    assert len(tries) == atomic.REPLACE_TRIES
    assert "close the notebook" in caught.value.next
    assert names(tmp_path) == ["x.h5"]


def test_on_windows_a_virus_scanner_is_waited_for(tmp_path, monkeypatch):
    real, tries = os.replace, []

    def scanned(source, destination):
        tries.append(1)
        if len(tries) < 3:
            error = PermissionError(errno.EACCES, "in use")
            error.winerror = 32
            raise error
        real(source, destination)

    monkeypatch.setattr(atomic, "REPLACE_PAUSE_S", 0)
    monkeypatch.setattr(os, "replace", scanned)
    with atomic.replace_atomically(tmp_path / "x") as file:
        file.write(b"x")
    assert (tmp_path / "x").exists()


def test_macos_syncs_fully_and_falls_back_where_a_disk_cannot(tmp_path, monkeypatch):
    calls = []

    def full(descriptor, command):
        calls.append(command)
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(media, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=full))
    with (tmp_path / "x").open("wb") as file:
        atomic.sync(file.fileno())
    assert calls == [51]


def test_macos_needs_no_second_sync_where_the_full_one_succeeded(tmp_path, monkeypatch):
    synced = []
    full = SimpleNamespace(F_FULLFSYNC=51, fcntl=lambda *call: synced.append(call))
    monkeypatch.setattr(media, "fcntl", full)
    monkeypatch.setattr(os, "fsync", lambda descriptor: pytest.fail("synced twice"))
    with (tmp_path / "x").open("wb") as file:
        atomic.sync(file.fileno())
        assert synced == [(file.fileno(), 51)]


def test_a_failed_sync_is_not_tried_again_in_another_way(tmp_path, monkeypatch):
    """After a failure the system may have dropped the data, and the next fsync would succeed."""

    def broken(descriptor, command):
        raise OSError(errno.EIO, "Input/output error")

    synced = []
    monkeypatch.setattr(media, "fcntl", SimpleNamespace(F_FULLFSYNC=51, fcntl=broken))
    monkeypatch.setattr(os, "fsync", synced.append)
    with (tmp_path / "x").open("wb") as file, pytest.raises(OSError, match="Input/output"):
        atomic.sync(file.fileno())
    assert synced == []


def test_the_message_names_the_call_and_a_failed_fsync_happens_once(tmp_path, monkeypatch):
    calls = []

    def fail(descriptor):
        calls.append(descriptor)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(CacheError, match=r"x could not be written: .*EIO in fsync"):
        with atomic.replace_atomically(tmp_path / "x") as file:
            file.write(b"x")
            with suppress(OSError):
                file.sync()  # whoever wrote did not pass the error on
    assert len(calls) == 1
    assert names(tmp_path) == []


def test_new_folders_are_synced_in_the_folders_above_them(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(media, "sync_folder", synced.append)
    media.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a"]
    media.make_folder(tmp_path / "a" / "b")
    assert len(synced) == 2


def test_a_check_that_fails_keeps_the_file_out_of_sight(tmp_path):
    seen = []

    def check(written):
        seen.append(written.read_bytes())
        raise CacheError("not what was meant")

    with pytest.raises(CacheError, match="not what was meant"):
        with atomic.replace_atomically(tmp_path / "x", check=check) as file:
            file.write(b"whole")
    assert seen == [b"whole"]
    assert names(tmp_path) == []


def test_a_full_disk_is_told_with_what_is_needed(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    for needs, words in ((5_000_000, r"needs 5\.0 MB"), (0, "needs 3 bytes")):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(
                CacheError, match=f"disk full: {words}, has .* at .*ENOSPC in write"
            ):
                with atomic.replace_atomically(tmp_path / "x", needs=needs) as file:
                    file.write(b"abc")


def test_too_little_space_is_told_in_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(media.shutil, "disk_usage", lambda place: SimpleNamespace(free=300_000_000))
    atomic.require_space(tmp_path / "not" / "yet", 300_000_000)
    with pytest.raises(CacheError, match=r"needs 1\.2 GB, has 300\.0 MB at"):
        atomic.require_space(tmp_path / "not" / "yet", 1_200_000_000)


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (1_200_000_000, "1.2 GB"),
        (5 * 10**15, "5.0 PB"),
        (7 * 10**18, "7000.0 PB"),
    ],
)
def test_sizes_are_told_in_the_units_of_disks(count, words):
    assert atomic.size(count) == words


def test_a_file_size_limit_ends_in_an_error_and_no_litter(tmp_path):
    """RLIMIT_FSIZE makes write fail with EFBIG, as a full disk would, in the middle of HDF5."""
    pytest.importorskip("resource")
    code = f"""
import resource
import numpy as np
from bottleneck_probe import BottleneckError, Features
features = Features.from_arrays(np.ones((2000, 64)))
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
try:
    features.save({str(tmp_path / "x.h5")!r})
except BottleneckError as error:
    print("told:", error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "x.h5 grew larger" in done.stdout
    assert names(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CacheError, match="no permission"):
            with atomic.replace_atomically(tmp_path / "x.h5") as file:
                file.write(b"x")
    finally:
        tmp_path.chmod(0o755)
