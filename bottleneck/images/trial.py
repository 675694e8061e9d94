"""Images decoded in a process of their own, which may crash in the caller's place: bytes in, a verdict out.

Run as a program it is that process: requests on standard input, each a line of JSON and the bytes of a
file, and a line of JSON back for each.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any, BinaryIO

from ..helper import end_with_parent, environment
from .limits import Limits

# Of a processor; 6 times as long on the clock, as for the decoding threads of a run.
TIMEOUT_S = 10.0
_BUSY = 6
# Python and Pillow start in half a second; on a machine that has no memory left it takes longer.
_START_S = 60.0
# What an image of the largest allowed size may take beside its file: 16 bits a channel, four channels,
# and the same again while it is converted.
_BYTES_A_PIXEL = 32
_LEAST_MEMORY = 512 << 20
_MODULE = f"{__package__}.trial"


class Trial:
    """A process that decodes; started when it is needed, and again after an image has ended it.

    A context: the process does not outlive it.

    Parameters
    ----------
    limits : Limits
        Of pixels and time; memory follows from them.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._timeout_s = limits.decode_timeout_s or TIMEOUT_S
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def reason(self, content: bytes) -> str | None:
        """What ends or holds up a process that decodes a file and does nothing else.

        Parameters
        ----------
        content : bytes
            The whole file.

        Returns
        -------
        str or None
            None where it decodes, or is refused in an ordinary way. A process that dies must do so
            twice, the second time fresh: the first may have been ended by somebody else.

        Raises
        ------
        OSError
            If no such process can be started.
        """
        died = None
        for attempt in range(2):
            if attempt or self._process is None:
                self._end()
                self._start()
            answer, died = self._ask(content)
            if answer is not None:
                told = answer.get("reason")
                return None if told is None else str(told)
            if died is None:
                self._end()
                return f"decoding took over {self._timeout_s:g} s"
        self._end()
        return died

    def _start(self) -> None:
        if not sys.executable:
            raise OSError("this program has no Python of its own to start")
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=_listen, args=(self._process, self._answers), daemon=True).start()
        if not self._answer(_START_S):
            self._end()
            raise OSError("a process to decode images in does not start")

    def _ask(self, content: bytes) -> tuple[dict[str, Any] | None, str | None]:
        """The answer; or why the process died; or neither, if it did not answer in time."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        memory = _LEAST_MEMORY + 2 * len(content) + _BYTES_A_PIXEL * self._limits.max_pixels
        request = {
            "bytes": len(content),
            "max_pixels": self._limits.max_pixels,
            "timeout_s": self._timeout_s,
            "memory": memory,
        }
        with suppress(OSError):  # it died while it was being told: the answer says so
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.write(content)
            process.stdin.flush()
        line = self._answer(_BUSY * self._timeout_s)
        if line:
            with suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    return answer, None
        if line is None:
            return None, None
        try:
            code = process.wait(_START_S)
        except subprocess.TimeoutExpired:
            return None, None
        return None, _why(code, self._timeout_s)

    def _answer(self, within_s: float) -> bytes | None:
        """A line, an empty one if there will be none, None if it takes too long."""
        try:
            return self._answers.get(timeout=within_s)
        except queue.Empty:
            return None

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):  # what it was not told any more
                    pipe.close()


def _listen(process: subprocess.Popen[bytes], answers: queue.SimpleQueue[bytes]) -> None:
    assert process.stdout is not None
    with suppress(OSError, ValueError):  # closed on our side
        for line in process.stdout:
            answers.put(line)
    answers.put(b"")


def _why(code: int, timeout_s: float) -> str:
    """What the way in which a process ended says about the image.

    Examples
    --------
    >>> _why(-11, 10), _why(3, 10)
    ('decoder crashed (signal 11)', 'decoder crashed (exit code 3)')
    """
    if code >= 0:  # Windows tells its faults so: 0xc0000005
        return f"decoder crashed (exit code {code if code < 256 else hex(code)})"
    if -code == getattr(signal, "SIGXCPU", None):
        return f"decoding took over {timeout_s:g} s"
    if -code == getattr(signal, "SIGKILL", None):
        return f"decoder crashed (signal {-code}: killed, most likely because memory ran out)"
    return f"decoder crashed (signal {-code})"


def main() -> None:
    """Decode what standard input brings until it ends."""
    from .color import BadImage
    from .payload import to_pixels

    _prefer_me()
    end_with_parent()
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    _say(answers, {"ready": True})
    for line in requests:
        request = json.loads(line)
        content = requests.read(request["bytes"])
        _limit(request)
        reason = None
        try:
            to_pixels(content, max_pixels=request["max_pixels"])
        except BadImage as bad:
            if isinstance(bad.__cause__, MemoryError):
                reason = f"needs more memory than {request['memory'] / 1e9:.1f} GB to decode"
        except MemoryError:
            reason = f"needs more memory than {request['memory'] / 1e9:.1f} GB to decode"
        _say(answers, {"reason": reason})


def _say(answers: BinaryIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _limit(request: dict[str, Any]) -> None:
    """Bound this process's memory and computing time for the next image, where the system can."""
    try:
        import resource
    except ImportError:  # Windows: the clock of the parent alone
        return
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError, ValueError):
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent_s = used.ru_utime + used.ru_stime
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(spent_s + request["timeout_s"]) + 1, hard))
    with suppress(OSError, ValueError, IndexError):
        with open("/proc/self/statm", encoding="ascii") as file:
            pages = int(file.read().split()[0])
        taken = pages * os.sysconf("SC_PAGE_SIZE") + request["memory"]
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (taken, hard))


def _prefer_me() -> None:
    """Where memory runs out, the system ends this process and not the one that started it (Linux)."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


if __name__ == "__main__":
    main()
