"""A command ends although a thread of its run cannot be stopped."""

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys, threading
from bottleneck_probe.extraction import crew
from bottleneck_probe.cli.main import main

atexit.register(lambda: print("an ordinary exit"))
stuck = threading.Thread(target=threading.Event().wait, name="bottleneck-forward", daemon=True)
crew._started.add(stuck)
if "stuck" in sys.argv:
    sys.argv.remove("stuck")
    stuck.start()
main()
"""


@pytest.mark.parametrize(("arguments", "code"), [(["--version"], 0), (["extract"], 2)])
@pytest.mark.parametrize("stuck", [True, False])
def test_a_thread_that_runs_on_is_left_behind(stuck, arguments, code):
    command = [sys.executable, "-c", PROGRAM, *arguments, *(["stuck"] if stuck else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    assert ("an ordinary exit" in done.stdout) == (not stuck)
    assert "bottleneck" in done.stdout + done.stderr  # what was said is not lost
