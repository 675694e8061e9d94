"""A command ends although a thread of its run cannot be stopped."""

import json
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


ANSWER = """
import os, signal, sys, time
from bottleneck_probe.cli.reply import Reply, answer

class Data(dict):
    def items(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
        time.sleep(0.05)
        return super().items()

def work(reporter):
    if sys.argv[2] == "interrupted":
        raise KeyboardInterrupt
    return Reply({"rows": Data(n=1), "error": Data(message="x")}, exit_code=3)

try:
    answer("extract", work, {"as_json": True, "quiet": True})
finally:
    for _ in range(2):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(("end", "code"), [("done", 3), ("interrupted", 130)])
def test_a_signal_while_the_answer_is_printed_changes_nothing(name, end, code):
    command = [sys.executable, "-c", ANSWER, name, end]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert json.loads(done.stdout)["exit_code"] == code
    assert done.stderr == ""
