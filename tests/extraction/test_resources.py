"""What a run takes of the system: open files, shared memory, processes."""

import ast
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits and signals of POSIX")
STUB = Path(__file__).with_name("stub.py")


@pytest.fixture
def at_start(tmp_path, monkeypatch):
    """Lets every Python that is started from here run some code first."""

    def run(code):
        folder = tmp_path / "at-start"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return run


@pytest.mark.parametrize("workers", [1, 8])
def test_a_run_needs_fewer_than_64_files_and_4_for_each_worker(photos, tmp_path, workers):
    import resource

    limit = 64 + 4 * workers
    done = subprocess.run(
        [sys.executable, STUB, "0", "0", "extract", photos(60), "-o", tmp_path / "x.h5"]
        + ["--backbone", "stub", "--workers", str(workers), "--batch-size", "2", "--json"],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == 60


# No copy of a process in the middle of its work, whose CUDA and threads would be half of what they
# were; and nothing in shared memory, of which a container has 64 MB.
WATCH = """
import os, sys

def hook(event, arguments):
    if event in ("os.fork", "os.forkpty") or (
        event == "open" and str(arguments[0]).startswith("/dev/shm")
    ):
        print("SEEN", event, arguments, file=sys.stderr, flush=True)

sys.addaudithook(hook)
"""


def _little_shared_memory():
    """What starts a program with 64 MB of it; nothing where this user may not mount."""
    wrapped = ["unshare", "-m", "sh", "-c"]
    mount = "mount -t tmpfs -o size=64m tmpfs /dev/shm"
    try:
        done = subprocess.run([*wrapped, mount], capture_output=True, check=False)
    except OSError:
        return []
    return [] if done.returncode else [*wrapped, f'{mount} && exec "$@"', "sh"]


def test_a_run_makes_no_copies_of_its_process_and_needs_no_shared_memory(
    photos, tmp_path, at_start
):
    at_start(WATCH)
    done = subprocess.run(
        [*_little_shared_memory(), sys.executable, STUB, "0", "0", "extract", photos(60)]
        + ["-o", tmp_path / "x.h5", "--backbone", "stub", "--workers", "4", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["computed"] == 60
    assert "SEEN" not in done.stderr


def test_nothing_in_the_package_forks_or_starts_workers_that_do():
    """The benchmark alone runs such a loop, to be compared with it."""
    package = Path(bp.__file__).parent
    forking = {"multiprocessing", "joblib", "fork", "forkpty", "ProcessPoolExecutor", "DataLoader"}
    starting = {}
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        names = {
            each for node in ast.walk(ast.parse(path.read_text("utf-8"))) for each in _names(node)
        }
        if not name.startswith("bench/"):
            assert not names & forking, name
            if "subprocess" in names:
                starting[name] = names
    # All of them are helpers that end with their parent.
    assert set(starting) == {
        "images/trial.py",
        "cache/child.py",
        "cache/examining.py",
        "backbones/graphs/converting.py",
    }
    assert all("end_with_parent" in names for names in starting.values())


def _names(node):
    if isinstance(node, ast.Import | ast.ImportFrom):
        module = getattr(node, "module", None) or ""
        return [
            part for name in [module, *(a.name for a in node.names)] for part in name.split(".")
        ]
    return [getattr(node, "attr", "")] if isinstance(node, ast.Attribute) else []


# --- helper processes ---------------------------------------------------------------------------------

# A helper begins by looking at how much memory it has. Here it takes a lock, and then hangs.
HANGING = """
import os, sys, time

module = sys.orig_argv[sys.orig_argv.index("-m") + 1] if "-m" in sys.orig_argv else ""
if module.startswith("bottleneck_probe."):
    def hook(event, arguments):
        if event == "open" and str(arguments[0]) == "/proc/self/statm":
            import fcntl
            global held
            held = open({lock!r}, "w")
            fcntl.flock(held, fcntl.LOCK_EX)
            held.write(str(os.getpid()))
            held.flush()
            time.sleep(600)

    sys.addaudithook(hook)
"""
TRIAL = """
from bottleneck_probe.images.limits import Limits
from bottleneck_probe.images.trial import Trial
with Trial(Limits()) as trial:
    trial.reason(b"an image")
"""
OPEN = "import sys, bottleneck_probe as bp; bp.open(sys.argv[1])"
EXAMINE = """
import sys
from bottleneck_probe.cache.examining import examine
examine(sys.argv[1])
"""


def _is_free(lock):
    import fcntl

    with lock.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _until(what, limit_s=60):
    """Wait for something to become true; the limit only guards against waiting for ever."""
    end = time.monotonic() + limit_s
    while not (found := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="where a helper stops is Linux'")
@pytest.mark.parametrize("code", [TRIAL, OPEN, EXAMINE], ids=["trial", "open", "examine"])
def test_no_helper_outlives_a_run_that_is_killed(code, tmp_path, at_start):
    path = bp.Features.from_arrays(np.eye(3)).save(tmp_path / "x.h5")
    with h5py.File(path, "r+"):  # as another program leaves it: it is tried in a process of its own
        pass
    lock = tmp_path / "lock"
    at_start(HANGING.format(lock=str(lock)))
    with subprocess.Popen([sys.executable, "-c", code, path], stderr=subprocess.PIPE) as parent:
        assert _until(lambda: lock.exists() and lock.read_text()), "no helper was started"
        assert not _is_free(lock)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    if not _until(lambda: _is_free(lock)):
        os.kill(int(lock.read_text()), signal.SIGKILL)
        pytest.fail("the helper goes on")
