"""The process that examines a file: what it says, how it ends, and what is made of that."""

import json
import os
import runpy
import signal
import subprocess
import sys

import pytest
from bottleneck_probe.cache import examining
from bottleneck_probe.cache.examining import examine
from common import flip


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a script of the shell in the place of the process."""
    if sys.platform == "win32":
        pytest.skip("no shell there that runs a script by its name")
    file = tmp_path / "python"
    monkeypatch.setattr(sys, "executable", str(file))

    def put(script):
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return put


def said(**line):
    return f"echo '{json.dumps(line)}'"


def test_what_the_process_says_is_put_together_and_odd_lines_are_passed_over(written, program):
    path, _, _ = written()
    program(
        "\n".join(
            [
                "echo 'HDF5-DIAG: some library speaks up'",
                said(kind="begin", name="keys"),
                said(kind="bytes", n=70),
                said(kind="bytes", n=26),
                said(kind="scan", scan={"name": "keys", "rows": 3}),
                said(kind="rest", rest={"vouched": True, "faults": ["a", "b", "a"]}),
            ]
        )
    )
    told: list[int] = []
    found = examine(path, told.append)
    assert told == [70, 26]
    assert (list(found.scans), found.scans["keys"].rows) == (["keys"], 3)
    assert (found.vouched, found.faults) == (True, ["a", "b"])
    assert examine(path) == found


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ("exit 3", "HDF5 failed (exit 3) while opening it"),
        ("kill -SEGV $$", "HDF5 crashed (signal 11) while opening it"),
        (said(kind="fault", fault="HDF5 cannot open it (mine)"), "HDF5 cannot open it (mine)"),
    ],
)
def test_a_file_that_cannot_be_opened_is_tried_once(written, program, tmp_path, script, fault):
    path, _, _ = written()
    program(f"echo >> {tmp_path / 'starts'}\n{script}")
    found = examine(path)
    assert (found.faults, found.scans) == ([fault], {})
    assert (tmp_path / "starts").read_bytes() == b"\n"


def test_after_too_many_crashes_no_further_one_is_tried(written, program, monkeypatch):
    """Each start is told what those before it ended at."""
    path, _, _ = written()
    monkeypatch.setattr(examining, "MAX_STARTS", 3)
    # The arguments: -P -m MODULE FILE SECONDS, then what is left out.
    program('shift 5\necho "{\\"kind\\": \\"begin\\", \\"name\\": \\"n$#\\"}"\nexit 1')
    found = examine(path)
    assert {name: scan.fault for name, scan in found.scans.items()} == {
        f"n{number}": "HDF5 failed (exit 1) while reading it" for number in range(3)
    }
    assert found.faults == ["HDF5 fails at too many of its datasets"]


def test_a_pipe_that_somebody_else_still_holds_is_not_waited_for(
    written, program, tmp_path, monkeypatch
):
    """A process that the killed one has started may have it; it is left open for who listens."""
    path, _, _ = written()
    monkeypatch.setattr(examining, "SILENCE_S", 0.3)
    started = []
    real = subprocess.Popen

    def start(*args, **options):
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    gone = tmp_path / "gone"
    wait = f"while [ ! -e {gone} ] && [ $n -lt 1500 ]; do n=$((n + 1)); sleep 0.02; done"
    program(f"(n=0; {wait}) &")
    try:
        found = examine(path)
        assert found.faults == ["HDF5 hung for 0 s while opening it"]
        (worker,) = started
        assert worker.returncode is not None
        assert not worker.stdout.closed
    finally:
        gone.touch()
    worker.stdout.close()  # waits for who listens, whom the end of the pipe ends


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no signals there")
def test_how_a_process_ended_in_words():
    assert examining._how(-signal.SIGKILL) == "came to no end"
    assert examining._how(-signal.SIGXCPU) == "came to no end"
    assert examining._how(-signal.SIGABRT) == "crashed (signal 6)"
    assert examining._how(2) == "failed (exit 2)"


@pytest.fixture
def lines_of(monkeypatch, capsys):
    """What the process says of a file, run in this one, which keeps its limits."""

    def lines(path, *skip):
        done: list[object] = []
        with monkeypatch.context() as patch:
            # As `python -m` does: the module anew, under the name of a program.
            patch.delitem(sys.modules, examining.__name__)
            patch.setattr("bottleneck_probe.helper.end_with_parent", lambda: done.append("parent"))
            patch.setattr("bottleneck_probe.cache.child.limit", done.append)
            patch.setattr(sys, "argv", ["examining", os.fspath(path), "7.5", *skip])
            runpy.run_module(examining.__name__, run_name="__main__")
        assert done == ["parent", 7.5]
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return lines


def test_the_process_says_what_it_begins_and_what_it_found(written, lines_of):
    path, _, _ = written()
    found = lines_of(path, "keys", "attributes")
    begun = [line["name"] for line in found[::2]]
    assert begun == [line["scan"]["name"] for line in found[1::2]]
    assert "features" in begun
    assert not {"keys", "attributes"} & set(begun)
    assert lines_of(path)[-1]["rest"]["vouched"] is True


def test_of_what_hdf5_cannot_open_the_process_says_why(written, lines_of):
    path, _, _ = written()
    flip(path, path.read_bytes().index(b"SNOD"))
    (line,) = lines_of(path)
    assert line["kind"] == "fault"
    assert line["fault"].startswith("HDF5 cannot open it (")
    path.write_bytes(b"no HDF5")
    (line,) = lines_of(path)
    assert line["fault"].startswith("HDF5 cannot open it (")
