"""A contestant's process, seen from the bench: started, asked with a time limit, watched, ended."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import BottleneckError
from .contestant import Spec

# Longer than a compilation of a large network on a slow machine; shorter than anyone's patience.
TIMEOUT_S = 900.0
_WATCH_EVERY_S = 0.05
_GRACE_S = 2.0


class ContestantError(BottleneckError):
    """A contestant that failed; the bench goes on without it."""


class Process:
    """One contestant in a process of its own.

    Parameters
    ----------
    spec : Spec
    cache : pathlib.Path
        Its user cache: what it exports or compiles goes there and nowhere else.
    log : pathlib.Path
        What it prints.
    """

    def __init__(self, spec: Spec, cache: Path, log: Path) -> None:
        self.spec = spec
        self._log = log
        environment = {
            **os.environ,
            "BOTTLENECK_CACHE_DIR": str(cache),
            # torch.compile's own cache, which is in the system's temporary folder: a start that is
            # called cold would find there what an earlier bench has left.
            "TORCHINDUCTOR_CACHE_DIR": str(cache / "inductor"),
            "PYTHONWARNINGS": "ignore",
        }
        package = __name__.rpartition(".")[0]
        self.started = time.perf_counter()
        with open(log, "ab") as stderr:
            self._process = subprocess.Popen(
                # -P: no module of the working folder is taken for one of a library.
                [sys.executable, "-P", "-m", f"{package}.child", json.dumps(spec.to_json())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                encoding="utf-8",
                env=environment,
                # A Ctrl-C in the terminal reaches the bench alone, which ends its children in order.
                start_new_session=True,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process; those that it starts belong to its session."""
        return self._process.pid

    def call(self, name: str, **arguments: Any) -> Any:
        """Call a method of the contestant and wait for what it returns.

        Raises
        ------
        ContestantError
            If it fails, dies, or takes longer than `TIMEOUT_S`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"call": name, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=TIMEOUT_S)
        except queue.Empty:
            raise ContestantError(f"no answer within {TIMEOUT_S:.0f} s") from None
        except OSError:
            line = ""
        if not line:
            raise ContestantError(f"its process died{self._last_words()}")
        answer = json.loads(line)
        if "error" in answer:
            error = answer["error"]
            raise ContestantError(error.pop("what"), **error)
        return answer["result"]

    def close(self) -> None:
        """Let it end, then end all that it has started."""
        self._end_requests()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """End it and all that it has started, at once."""
        if hasattr(os, "killpg"):
            with contextlib.suppress(OSError):  # the whole session is gone already
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self._end_requests()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _end_requests(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a request that it never took
            self._process.stdin.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while it was read
            for line in self._process.stdout:
                self._answers.put(line)
        self._answers.put("")

    def _last_words(self) -> str:
        try:
            lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        except OSError:
            return ""
        return f": {lines[-1]}" if lines else ""


@contextmanager
def memory_watched(pid: int) -> Iterator[list[int]]:
    """Sample the memory of a process and all below it; the list holds the peak in bytes afterwards.

    Empty where psutil is not installed. Pages that several share are counted once where the system
    tells (Linux): a loader's forked workers share most of theirs.
    """
    peak: list[int] = []
    ended = threading.Event()

    def watch() -> None:
        try:
            import psutil
        except ModuleNotFoundError:
            return
        while not ended.wait(_WATCH_EVERY_S):
            total = 0
            with contextlib.suppress(psutil.Error):
                top = psutil.Process(pid)
                for each in (top, *top.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):
                        total += _bytes_of(each)
            peak[:] = [max(total, *peak)] if peak else [total]

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()


def _bytes_of(process: Any) -> int:
    rollup = Path(f"/proc/{process.pid}/smaps_rollup")
    try:
        for line in rollup.read_text("ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return int(process.memory_info().rss)


def memory_left() -> float | None:
    """Share of the machine's memory that is free for more, 0 to 1; None without psutil."""
    try:
        import psutil
    except ModuleNotFoundError:
        return None
    memory = psutil.virtual_memory()
    return float(memory.available / memory.total)
