"""Files that nothing vouches for are tried in another process, which may crash or hang."""

import os
import signal
import sys
import time
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import checks, child
from bottleneck_probe.errors import CacheError


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(checks, "_whole", type(checks._whole)())


@pytest.fixture
def older(written):
    """A file as versions before the trailer wrote it."""
    path, X, rows = written()
    with h5py.File(path, "r+"):
        pass
    return path, X, rows


def test_a_file_without_a_trailer_is_tried_once(older, monkeypatch):
    path, X, _ = older
    tried = []
    real = child.require_survived
    monkeypatch.setattr(
        child, "require_survived", lambda *args: (tried.append(args[1]), real(*args))[1]
    )
    found = bp.open(path)
    np.testing.assert_array_equal(found.features[:], X)
    bp.open(path)
    assert tried == [path]


HANG = "import sys, time\nsys.stdin.buffer.read(1)\nwhile True: pass"
SLEEP = "import time\ntime.sleep(60)"
CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
ODD = "print('[1, 2]')"
TRACEBACK = "raise RuntimeError('something else')"


@pytest.mark.parametrize(
    ("code", "limit_s", "words"),
    [
        (CRASH, None, r"HDF5 crashed \(SIGSEGV, signal 11\) while reading it"),
        (HANG, 3.0, r"did not answer within 3 s"),
        (SLEEP, 1.0, r"did not answer within 1 s"),
        (ODD, None, "ended with status 0"),
        (TRACEBACK, None, "ended with status 1 while reading it: RuntimeError: something else"),
    ],
    ids=["crash", "hang", "sleep", "odd", "traceback"],
)
def test_what_happened_to_the_child_is_said(older, tmp_path, monkeypatch, code, limit_s, words):
    if sys.platform == "win32" and code is CRASH:
        pytest.skip("no signals there")
    (tmp_path / "in_its_place.py").write_text(code)
    monkeypatch.setattr(child, "_MODULE", "in_its_place")
    monkeypatch.syspath_prepend(str(tmp_path))
    path, _, _ = older
    if limit_s is not None:
        monkeypatch.setattr(child, "TIME_LIMIT_S", limit_s)
    started = time.monotonic()
    with pytest.raises(CacheError, match=words) as caught:
        bp.open(path)
    assert time.monotonic() - started < 20
    assert str(path) in caught.value.what
    assert caught.value.next


def test_a_loop_inside_hdf5_ends_after_a_few_seconds_of_computing(monkeypatch):
    """A real file of ours with eight flipped bytes, which HDF5 2.0 reads for ever."""
    pytest.importorskip("resource")
    path = Path(__file__).parents[1] / "kept" / "hangs-hdf5.h5"
    monkeypatch.setattr(child, "CPU_LIMIT_S", 1.0)
    started = time.monotonic()
    with pytest.raises(CacheError, match=r"came to no end within 1 s of computing|damaged"):
        bp.open(path)
    assert time.monotonic() - started < 30


def test_a_stranger_s_file_is_tried_whatever_its_trailer_says(written, monkeypatch):
    """`info` and `verify` do so: a trailer says that nothing was damaged, not who made it."""
    path, _, _ = written()
    tried = []
    monkeypatch.setattr(child, "require_survived", lambda file, path: tried.append(path))
    checks.try_out(path)
    assert tried == [path]
    with checks.opened(path):
        pass
    assert tried == [path]


def test_info_and_verify_try_in_a_child(written, monkeypatch):
    from bottleneck_probe.cache.verifying import verify
    from bottleneck_probe.cli.main import bottleneck
    from click.testing import CliRunner

    path, _, _ = written()
    tried = []
    monkeypatch.setattr(child, "require_survived", lambda file, path: tried.append(path.name))
    assert CliRunner().invoke(bottleneck, ["info", str(path), "--json"]).exit_code == 0
    assert verify(path).ok
    assert tried == ["ants.h5"] * 2


def test_modules_beside_the_file_are_not_imported(older, tmp_path, monkeypatch):
    """A folder of a stranger's may hold an h5py.py."""
    path, X, _ = older
    (tmp_path / "h5py.py").write_text("raise SystemExit('stranger')")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(bp.open(path).features[:], X)


def test_the_child_ends_with_its_limits_and_leaves_nothing(older, tmp_path):
    path, _, _ = older
    before = sorted(os.listdir(tmp_path))
    bp.open(path)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals there")
def test_how_a_child_ended_in_words():
    assert child._ended(-signal.SIGBUS, b"") == "crashed (SIGBUS, signal 7) while reading it"
    assert child._ended(-signal.SIGKILL, b"") == "came to no end within 5 s of computing"
    assert child._ended(-signal.SIGXCPU, b"") == "came to no end within 5 s of computing"
    assert child._ended(3, "wörter".encode()) == "ended with status 3 while reading it: wörter"
