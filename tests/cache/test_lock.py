# ruff: noqa: SIM117 (what fails is the end of a block that writes)
import os
import socket
import subprocess
import sys
import threading

import pytest
from bottleneck_probe.cache import lock as module
from bottleneck_probe.cache.lock import writing
from bottleneck_probe.errors import CacheError


@pytest.fixture
def held(tmp_path):
    """A feature file that another process is writing; gives its name and the process."""
    code = f"""
import sys
from bottleneck_probe.cache.lock import writing
with writing({str(tmp_path / "x.h5")!r}):
    print("locked", flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"locked\n"
        yield tmp_path / "x.h5", child
        child.kill()


def test_a_second_writer_is_told_who_holds_the_file(held):
    path, child = held
    words = f"in use by pid {child.pid} on host '{socket.gethostname()}'"
    with pytest.raises(CacheError, match=words), writing(path, timeout_s=0):
        pass
    told = []
    with pytest.raises(CacheError, match=words), writing(path, timeout_s=0.3, waiting=told.append):
        pass
    assert len(told) == 1
    assert words in told[0]


def test_a_second_writer_goes_on_when_the_first_one_ends(held):
    path, child = held
    told = []

    def wait(sentence):
        told.append(sentence)
        threading.Timer(0.3, child.stdin.close).start()

    with writing(path, timeout_s=60, waiting=wait):
        assert child.wait(60) == 0
    assert len(told) == 1


def test_the_lock_of_a_killed_writer_is_free(held, monkeypatch):
    path, child = held
    child.kill()
    child.wait()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: pytest.fail("it waits"))
    with writing(path):
        pass


def test_the_lock_is_free_again_after_an_error_inside(tmp_path):
    path = tmp_path / "new" / "x.h5"
    with pytest.raises(RuntimeError), writing(path):
        raise RuntimeError
    with writing(path, timeout_s=0):
        pass


def test_a_holder_that_cannot_be_read_is_another_run(held):
    """On Windows the locked region of a file cannot be read by others."""
    path, _ = held
    lock = path.with_name(".x.h5.lock")
    lock.write_text("half a li")
    with pytest.raises(CacheError, match="in use by another run"), writing(path, timeout_s=0):
        pass


def test_a_folder_that_cannot_be_made_is_an_error_in_plain_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="could not be written"):
        with writing(tmp_path / "file" / "x.h5"):
            pass


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write all")
def test_a_read_only_folder_is_told(tmp_path):
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(CacheError, match="no permission"), writing(tmp_path / "x.h5"):
            pass
    finally:
        tmp_path.chmod(0o755)
