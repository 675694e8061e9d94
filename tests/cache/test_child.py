"""Files that nothing vouches for are tried in another process, which may crash or hang."""

import errno
import io
import json
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

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


HANG = (
    "import sys, time\nsys.stdin.buffer.read(1)\nuntil = time.monotonic() + 60\n"
    "while time.monotonic() < until: pass"
)
SLEEP = "import time\ntime.sleep(60)"
CRASH = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)"
ODD = "print('[1, 2]')"
TRIPPED = "print('null', flush=True)\nraise SystemExit(3)"
TRACEBACK = "raise RuntimeError('something else')"


@pytest.mark.parametrize(
    ("code", "limit_s", "words"),
    [
        (CRASH, None, r"HDF5 crashed \(SIGSEGV, signal 11\) while reading it"),
        (HANG, 3.0, r"did not answer within 3 s"),
        (SLEEP, 1.0, r"did not answer within 1 s"),
        (ODD, None, "ended with status 0"),
        (TRIPPED, None, "ended with status 3 while reading it"),
        (TRACEBACK, None, "ended with status 1 while reading it: RuntimeError: something else"),
    ],
    ids=["crash", "hang", "sleep", "odd", "tripped", "traceback"],
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
    with pytest.raises(CacheError, match=words) as caught:
        bp.open(path)
    assert str(path) in caught.value.what
    assert caught.value.next


def test_a_loop_inside_hdf5_ends_after_a_few_seconds_of_computing(monkeypatch):
    """A real file of ours with eight flipped bytes, which HDF5 2.0 reads for ever."""
    pytest.importorskip("resource")
    path = Path(__file__).parents[1] / "kept" / "hangs-hdf5.h5"
    monkeypatch.setattr(child, "CPU_LIMIT_S", 1.0)
    with pytest.raises(
        CacheError, match=r"came to no end within 1 s of computing|damaged"
    ) as caught:
        bp.open(path)
    assert "did not answer" not in caught.value.what  # it was not the clock that ended it


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
    unnamed = next(n for n in range(1, 99) if n not in set(signal.Signals))
    assert child._ended(-unnamed, b"") == f"crashed (signal {unnamed}) while reading it"
    assert child._ended(3, b"") == "ended with status 3 while reading it"
    assert child._ended(3, "wörter".encode()) == "ended with status 3 while reading it: wörter"


def test_a_system_that_starts_no_process_is_told_apart_from_a_damaged_file(older, monkeypatch):
    path, _, _ = older

    def none_left(*args, **options):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "run", none_left)
    with pytest.raises(
        CacheError, match=r"could not be tried: .*\(Resource temporarily unavail"
    ) as caught:
        bp.open(path)
    assert "damaged" not in str(caught.value)
    assert "ulimit -u" in caught.value.next


@pytest.mark.parametrize("executable", ["", None])
def test_a_program_that_embeds_python_has_nothing_to_start_and_reads_all_the_same(
    older, monkeypatch, executable
):
    path, X, _ = older

    def refuse(*args, **options):
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(sys, "executable", executable)
    np.testing.assert_array_equal(bp.open(path).features[:], X)
    with h5py.File(path, "r+") as h5:
        h5["link"] = h5py.SoftLink("/keys")
    with pytest.raises(CacheError, match="link points outside"):
        bp.open(path)


@pytest.fixture
def tried_here(monkeypatch, capsys):
    """What the child says of a file, run in this process, which keeps its limits and does not end."""

    class Ended(Exception):
        pass

    def end(status):
        raise Ended(status)

    def say(path):
        done = []
        with monkeypatch.context() as patch, path.open("rb") as file:
            # As `python -m` does: the module anew, under the name of a program.
            patch.delitem(sys.modules, child.__name__)
            patch.setattr("bottleneck_probe.helper.end_with_parent", lambda: done.append("parent"))
            patch.setitem(sys.modules, "resource", None)
            patch.setattr(sys, "argv", ["child", str(path), "7.5"])
            patch.setattr(sys, "stdin", io.TextIOWrapper(file))
            patch.setattr(os, "_exit", end)
            with pytest.raises(Ended) as caught:
                runpy.run_module(child.__name__, run_name="__main__", alter_sys=False)
            sys.stdin.detach()
        assert caught.value.args == (0,)
        assert done == ["parent"]
        return json.loads(capsys.readouterr().out)

    return say


def test_of_a_file_in_order_the_child_says_nothing(older, tried_here):
    """Also if somebody added what no reader of ours asks for, and values of every kind."""
    path, _, rows = older
    assert tried_here(path) is None
    with h5py.File(path, "r+") as h5:
        h5["mine/kind"] = np.dtype("i4")
        h5["mine/references"] = np.array([h5["keys"].ref, h5.ref], h5py.ref_dtype)
        h5["mine/lists"] = np.zeros(3, [("a", "i4"), ("b", "f8")])
        h5["mine/note"] = "one text"
        h5.create_dataset("mine/squeezed", data=rows.keys, chunks=(3, 32), compression="gzip")
        h5.create_dataset("mine/texts", data=["a", "bc"] * 300, dtype=h5py.string_dtype())
    assert tried_here(path) is None


def odd_attribute(path):
    path.write_bytes((Path(__file__).parents[1] / "kept" / "odd-attribute-type.h5").read_bytes())


def broken_chunk(path):
    with h5py.File(path, "r+") as h5:
        found = h5.create_dataset("mine", data=np.arange(1000), chunks=(500,), compression="gzip")
        place = found.id.get_chunk_info(1).byte_offset
    data = bytearray(path.read_bytes())
    data[place : place + 8] = b"\xff" * 8
    path.write_bytes(data)


def long_texts(path):
    """Each entry of a chunk is the same text, which is nearly as long as the file."""
    with h5py.File(path, "r+") as h5:
        column = h5.create_dataset("mine", (3,), h5py.string_dtype(), chunks=(3,))
        column[:] = ["x" * 60_000, "y", "z"]
        h5.flush()
        place = column.id.get_chunk_info(0).byte_offset
    data = bytearray(path.read_bytes())
    data[place + 16 : place + 48] = data[place : place + 16] * 2
    assert 2 * len(data) < 3 * 60_000
    path.write_bytes(data)


def soft(path):
    with h5py.File(path, "r+") as h5:
        h5["mine"] = h5py.SoftLink("/labels")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (odd_attribute, "is damaged: HDF5 cannot read it (No NumPy equivalent"),
        (broken_chunk, "is damaged: HDF5 cannot read it ("),
        (long_texts, ": mine holds more text than fits into the file"),
        (soft, ": mine points outside the file"),
        (lambda path: path.write_bytes(path.read_bytes()[:900]), "is damaged: HDF5 cannot read it"),
    ],
    ids=["attribute", "chunk", "texts", "link", "cut"],
)
def test_what_is_wrong_with_a_file_is_said_by_the_child(written, tried_here, change, words):
    path, _, _ = written(n=3)
    with h5py.File(path, "r+") as h5:
        del h5["meta"]
    change(path)
    told = tried_here(path)
    assert told["what"].startswith(str(path))
    assert words in told["what"]
    assert told["where"]
    assert told["next"]


def test_a_file_that_needs_more_memory_than_it_may_is_said_by_the_child(
    older, tried_here, monkeypatch
):
    path, _, _ = older

    def too_much(*args):
        raise MemoryError

    monkeypatch.setattr(checks, "require_plain", too_much)
    assert tried_here(path)["what"] == f"{path} needs over 1024 MiB for a part of it"


@pytest.mark.parametrize("statm", ["250 100 20 1 0 60 0", "", None], ids=["linux", "odd", "macos"])
def test_the_child_limits_itself_to_what_reading_needs(monkeypatch, statm):
    resource = pytest.importorskip("resource")
    limits = {}

    def set_limit(which, pair):
        limits[which] = pair
        if which == resource.RLIMIT_CORE:
            raise ValueError("current limit exceeds maximum limit")

    def read_text(path, *args):
        assert path == Path("/proc/self/statm")
        if statm is None:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        return statm

    monkeypatch.setattr(resource, "setrlimit", set_limit)
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PAGE_SIZE": 4096}[name])
    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setattr(child, "time", SimpleNamespace(process_time=lambda: 1.2))
    child.limit(5.0)
    assert limits.pop(resource.RLIMIT_FSIZE) == (0, 0)  # it writes no file
    assert limits.pop(resource.RLIMIT_CPU) == (7, 7)  # beyond what it has computed
    assert limits.pop(resource.RLIMIT_CORE) == (0, 0)
    taken = child.MEMORY_BYTES + 250 * 4096
    assert limits == ({resource.RLIMIT_AS: (taken, taken)} if statm else {})
