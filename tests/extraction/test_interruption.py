"""Ctrl-C and kill: what was finished is kept, and the next run goes on to the same file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import shards
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.pipeline import Interrupted
from bottleneck_probe.reporter import Silent

STATED = {"backbone": "stub", "engine": "eager", "workers": 2}


def same_rows(a: Path, b: Path) -> None:
    """Two files hold the same rows, bit for bit."""
    left, right = bp.open(a), bp.open(b)
    assert list(left.paths) == list(right.paths)
    assert list(left.labels) == list(right.labels)
    assert np.array_equal(left.keys, right.keys)
    assert left.features[:].tobytes() == right.features[:].tobytes()
    assert left.quarantine == right.quarantine
    assert left.fingerprint == right.fingerprint


@pytest.fixture
def unbroken(calls, tmp_path):
    def make(root, batch_size):
        path = tmp_path / "unbroken.h5"
        run(find_images(root), output=path, reporter=Silent(), batch_size=batch_size, **STATED)
        return path

    return make


@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupted_run_keeps_what_it_says_and_is_resumed(
    at, calls, photos, unbroken, tmp_path
):
    root = photos(23)
    (root / "ants" / "torn.png").write_bytes(b"")
    whole = unbroken(root, 4)
    output = tmp_path / "x.h5"
    calls.forwards = 0

    def interrupt(seen):
        if seen.forwards == at:
            raise KeyboardInterrupt

    calls.on_call = interrupt
    with pytest.raises(Interrupted) as caught:
        run(find_images(root), output=output, reporter=Silent(), batch_size=4, **STATED)
    assert not output.exists()
    from bottleneck_probe.backbones import registry

    sealed, _ = shards.load(tmp_path / "x.h5.parts", registry.resolve("stub").fingerprint())
    assert len(sealed) == 4 * (at - 1)
    # The torn image comes last among the ants, after 12 good ones.
    bad_by_then = int(4 * at > 12)
    assert caught.value.kept == len(sealed) + bad_by_then
    assert caught.value.total == 24
    assert f"kept {caught.value.kept} of 24" in str(caught.value)
    calls.on_call, calls.forwards = None, 0
    result = run(find_images(root), output=output, reporter=Silent(), batch_size=4, **STATED)
    assert calls.forwards == 6 - (at - 1)
    assert (result.resumed, result.computed) == (len(sealed), 23 - len(sealed))
    assert result.computed + result.reused + result.quarantined == result.seen == 24
    same_rows(output, whole)
    assert not (tmp_path / "x.h5.parts").exists()


def test_nothing_is_said_to_be_kept_when_the_engine_was_still_starting(
    calls, photos, tmp_path, monkeypatch
):
    from bottleneck_probe.engines import select

    def interrupt(choice, backbone, reporter):
        raise KeyboardInterrupt

    monkeypatch.setattr(select, "start", interrupt)
    with pytest.raises(Interrupted, match="kept 0 of 5"):
        run(find_images(photos(5)), output=tmp_path / "x.h5", reporter=Silent(), **STATED)


def test_an_interrupted_update_leaves_the_published_file_alone(calls, photos, tmp_path):
    root = photos(6)
    output = tmp_path / "x.h5"
    run(find_images(root), output=output, reporter=Silent(), batch_size=2, **STATED)
    before = output.read_bytes()
    photos(6, first=50)

    def interrupt(seen):
        if seen.forwards == 2:
            raise KeyboardInterrupt

    calls.forwards, calls.on_call = 0, interrupt
    with pytest.raises(Interrupted) as caught:
        run(find_images(root), output=output, reporter=Silent(), batch_size=2, **STATED)
    assert output.read_bytes() == before
    assert 2 + 1 <= caught.value.kept <= 12 - 2
    calls.on_call, calls.forwards = None, 0
    assert run(find_images(root), output=output, reporter=Silent(), **STATED).computed == 4


def test_a_clock_that_goes_back_has_no_effect(calls, photos, unbroken, tmp_path, monkeypatch):
    root, now = photos(12), time.time()
    whole = unbroken(root, 2)
    asked = []

    def backwards():
        asked.append(1)
        return now - 1000 * len(asked)

    def interrupt(seen):
        if seen.forwards == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "time", backwards)
    output = tmp_path / "x.h5"
    calls.forwards, calls.on_call = 0, interrupt
    with pytest.raises(Interrupted):
        run(find_images(root), output=output, reporter=Silent(), batch_size=2, **STATED)
    calls.on_call = None
    done = run(find_images(root), output=output, reporter=Silent(), batch_size=2, **STATED)
    assert (done.resumed, done.computed) == (6, 6)
    same_rows(output, whole)
    assert run(find_images(root), output=output, reporter=Silent(), **STATED).computed == 0


def test_a_signal_that_python_drops_still_ends_the_run(calls, photos, tmp_path):
    """The handler may run inside a callback of a weak reference, where exceptions are not raised."""
    from bottleneck_probe import interrupts

    def dropped(seen):
        if seen.forwards == 3:
            interrupts.note()

    calls.on_call = dropped
    with pytest.raises(Interrupted) as caught:
        run(find_images(photos(60)), output=tmp_path / "x.h5", reporter=Silent(), **STATED)
    assert caught.value.kept < 60
    calls.on_call = None
    found = find_images(photos(60))
    done = run(found, output=tmp_path / "x.h5", reporter=Silent(), **STATED)
    assert done.computed + done.reused == 60


def test_an_engine_that_fails_keeps_the_finished_rows(calls, photos, tmp_path):
    root = photos(8)

    def fail(seen):
        if seen.forwards == 3:
            raise bp.EngineError("out of memory")

    calls.on_call = fail
    with pytest.raises(bp.EngineError):
        run(find_images(root), output=tmp_path / "x.h5", reporter=Silent(), batch_size=2, **STATED)
    assert not (tmp_path / "x.h5").exists()
    calls.on_call, calls.forwards = None, 0
    done = run(
        find_images(root), output=tmp_path / "x.h5", reporter=Silent(), batch_size=2, **STATED
    )
    assert (done.resumed, done.computed, calls.forwards) == (4, 4, 2)


def child(stub, delay_s, seal_after_s, *arguments):
    """`bottleneck` with the stub backbone in another process; returns once it has started."""
    process = subprocess.Popen(
        [sys.executable, stub.__file__, str(delay_s), str(seal_after_s), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr.readline() == "ready\n"
    return process


def wait_for_a_shard(output):
    """Until the first rows are sealed, or for a minute."""
    parts = output.with_name(output.name + ".parts")
    deadline = time.monotonic() + 60
    while not list(parts.glob("*.h5")) and time.monotonic() < deadline:
        time.sleep(0.02)


posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@posix
def test_a_run_killed_at_any_instant_leaves_a_whole_file_or_none(
    stub, calls, photos, unbroken, tmp_path
):
    root = photos(40)
    whole = unbroken(root, 2)
    rng = np.random.default_rng(0)
    resumed = 0
    # One run takes about 20 x 20 ms beside its start and end; some instants lie after its end. Half
    # of them count from the first shard, so that a busy machine meets the middle of a run as well.
    for number, instant in enumerate(rng.uniform(0.02, 0.9, 8)):
        output = tmp_path / f"k{number}" / "x.h5"
        process = child(
            stub, 0.02, 0.01, "extract", root, "-o", output, "--backbone", "stub",
            "--batch-size", "2", "--engine", "eager", "--quiet",
        )  # fmt: skip
        if number % 2:
            wait_for_a_shard(output)
        time.sleep(instant / 3 if number % 2 else instant)
        process.kill()
        process.communicate()
        if output.exists():
            same_rows(output, whole)
        calls.forwards = 0
        done = run(find_images(root), output=output, reporter=Silent(), batch_size=2, **STATED)
        assert done.seen == 40
        assert done.computed + done.reused == 40
        resumed += 0 < done.resumed < 40
        same_rows(output, whole)
        assert sorted(p.name for p in output.parent.iterdir() if p.name[0] != ".") == ["x.h5"]
    assert resumed  # or the instants were badly chosen, and nothing was tried


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_command_in_order(name, stub, calls, photos, tmp_path):
    root = photos(60)
    output = tmp_path / "x.h5"
    process = child(
        stub, 0.2, 0.05, "extract", root, "-o", output, "--backbone", "stub",
        "--batch-size", "2", "--engine", "eager",
    )  # fmt: skip
    wait_for_a_shard(output)
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    kept = int(err.split("kept ")[1].split(" of 60")[0])
    assert 2 <= kept < 60
    assert "run again to go on" in err
    assert not output.exists()
    done = run(find_images(root), output=output, reporter=Silent(), batch_size=2, **STATED)
    assert done.resumed == kept
    assert done.computed == 60 - kept
