"""A contestant's process: it answers, fails, hangs, dies and ends without taking the bench along."""

import io
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from bottleneck_probe.bench import child, contestant, process
from bottleneck_probe.bench.contestant import Spec
from bottleneck_probe.bench.process import ContestantError, Process, memory_watched
from bottleneck_probe.errors import EngineError

with_proc = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks into /proc")
SPEC = Spec("ceilings", "ceilings", None, None, "cpu", "")


class Loud:
    """Does what it is told."""

    def __init__(self, spec):
        self.spec = spec

    def prepare(self):
        print("a library's greeting on stdout")
        return {"name": self.spec.name}

    def fail(self, how):
        raise EngineError("no such engine", next="another") if how == "ours" else KeyError("x")


def test_requests_are_answered_one_by_one_and_a_failure_is_an_answer(monkeypatch, capsys):
    monkeypatch.setattr(child, "build", Loud)
    asked = [
        {"call": "prepare", "arguments": {}},
        {"call": "fail", "arguments": {"how": "ours"}},
        {"call": "fail", "arguments": {"how": "theirs"}},
        {"call": "prepare", "arguments": {}},
    ]
    answers = io.StringIO()
    child.serve(SPEC, io.StringIO("".join(json.dumps(each) + "\n" for each in asked)), answers)
    first, ours, theirs, last = (json.loads(line) for line in answers.getvalue().splitlines())
    assert first == last == {"result": {"name": "ceilings"}}
    assert ours["error"]["what"] == "no such engine"
    assert ours["error"]["next"] == "another"
    assert theirs["error"] == {"what": "KeyError: 'x'"}
    assert "Traceback" in capsys.readouterr().err


def test_every_kind_can_be_built_and_has_what_is_asked_of_it(tmp_path):
    for kind in contestant.KINDS:
        built = contestant.build(Spec("x", kind, None, None, "cpu", str(tmp_path)))
        asked = ("prepare", "run") if kind != "ceilings" else ("prepare", "check", "decode")
        assert all(callable(getattr(built, name)) for name in asked)


def test_a_spec_survives_its_way_through_a_pipe():
    spec = Spec("a", "ours", "resnet50", None, "cpu", "/x", "openvino", "bf16", 8, 2)
    assert Spec(**json.loads(json.dumps(spec.to_json()))) == spec


def _started(tmp_path, spec=SPEC):
    return Process(spec, tmp_path / "cache", tmp_path / "log")


def _runs(pid):
    """Whether a process is there and not only waiting to be buried."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@with_proc
def test_a_real_process_answers_and_ends(tmp_path):
    spec = Spec("ceilings", "ceilings", None, None, "cpu", str(tmp_path))
    running = _started(tmp_path, spec)
    try:
        with memory_watched(running.pid) as peak:
            found = running.call("write", d=16, seconds=0.2)
        assert found["images"] >= 4096
        assert found["seconds"] >= 0.2
        assert list(tmp_path.glob("*.h5")) == []
        assert peak
        assert 5e6 < peak[0] < 4e9
        with pytest.raises(ContestantError, match="AttributeError"):
            running.call("fly")
        # It goes on after a failure.
        assert running.call("write", d=16, seconds=0.0)["images"] == 4096
    finally:
        running.close()
    assert not _runs(running.pid)


@with_proc
def test_a_process_that_dies_says_its_last_words(tmp_path, monkeypatch):
    running = _started(tmp_path)
    os.kill(running.pid, 9)
    (tmp_path / "log").write_text("warming up\nout of memory\n")
    with pytest.raises(ContestantError, match="died: out of memory"):
        running.call("prepare")
    running.close()


@with_proc
def test_one_that_does_not_answer_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "TIMEOUT_S", 0.3)
    running = _started(tmp_path)
    os.kill(running.pid, 19)  # SIGSTOP
    began = time.monotonic()
    with pytest.raises(ContestantError, match="no answer within"):
        running.call("prepare")
    running.kill()
    assert time.monotonic() - began < 5
    assert not _runs(running.pid)


@with_proc
def test_it_ends_by_itself_when_its_bench_is_killed(tmp_path):
    """Its stdin ends: nothing is left running, and nothing has to be cleaned up by hand."""
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from bottleneck_probe.bench.contestant import Spec\n"
        "from bottleneck_probe.bench.process import Process\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "spec = Spec('ceilings', 'ceilings', None, None, 'cpu', str(folder))\n"
        "running = Process(spec, folder / 'cache', folder / 'log')\n"
        "running.call('write', d=8, seconds=0.0)\n"
        "print(running.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as bench:
        pid = int(bench.stdout.readline())
        assert _runs(pid)
        bench.kill()
    until = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _runs(pid)


def test_memory_of_children_counts(tmp_path):
    """A loader's workers hold images of their own."""
    below = "x = b'x' * 80_000_000; import time; time.sleep(20)"
    code = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {below!r}])\n"
        "time.sleep(20)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True) as top:
        with memory_watched(top.pid) as peak:
            until = time.monotonic() + 10
            while (not peak or peak[0] < 80_000_000) and time.monotonic() < until:
                time.sleep(0.05)
        os.killpg(top.pid, 9)
    assert peak[0] > 80_000_000


def test_features_are_saved_after_the_clock_has_stopped(tmp_path):
    path = tmp_path / "features.npy"
    found = contestant.timed(lambda: np.ones((3, 2)), str(path))
    assert found["images"] == 3
    assert found["seconds"] < 1
    assert np.load(path).dtype == np.float32
