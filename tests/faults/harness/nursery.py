"""Commands in processes that start at once: a warm server forks a child for each.

`bottleneck` with the stub backbone takes a second to start, nearly all of it imports; a test that
kills it 200 times has no use for them. The server imports everything and runs a small extraction
once; each of its forks is then a process of its own, as new as one that was started by hand.

POSIX only. As a program (``python nursery.py``) this file is the server.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
TIMEOUT_S = 120.0


@dataclass
class Child:
    """One command that was started.

    Attributes
    ----------
    pid : int
    folder : pathlib.Path
        Where what it says is kept.
    """

    nursery: Nursery
    pid: int
    folder: Path
    code: int | None = None

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal; nothing where it has ended."""
        if self.code is None:
            os.kill(self.pid, number)  # not collected yet, so the number is still its own

    def wait(self, timeout_s: float = TIMEOUT_S) -> int | None:
        """Its exit code, negative for a signal; None if it still runs after `timeout_s`."""
        if self.code is None:
            self.code = self.nursery.ask({"wait": self.pid, "timeout_s": timeout_s})["code"]
        return self.code

    @property
    def out(self) -> str:
        """Its standard output."""
        return (self.folder / "out").read_text("utf-8")

    @property
    def err(self) -> str:
        """Its standard error."""
        return (self.folder / "err").read_text("utf-8")

    @property
    def reply(self) -> dict[str, Any]:
        """Its JSON reply; empty if there is none."""
        return dict(json.loads(self.out)) if self.out.strip() else {}

    @property
    def forwards(self) -> int:
        """How many batches its engine computed, a kill notwithstanding."""
        return (self.folder / "forwards").stat().st_size

    @property
    def stored(self) -> int:
        """How many rows were given to a shard, sealed or not."""
        return (self.folder / "stored").stat().st_size

    @property
    def is_born(self) -> bool:
        """Whether it has begun with the command."""
        return (self.folder / "born").exists()

    @property
    def trace(self) -> Path:
        """What the shim has noted."""
        return self.folder / "trace"


class _Server:
    """The process that forks, one for all experiments of this process."""

    current: subprocess.Popen[str] | None = None

    @classmethod
    def get(cls) -> subprocess.Popen[str]:
        """The one that there is, else a new one."""
        if cls.current is None:
            cls.current = subprocess.Popen(
                [sys.executable, str(HERE)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                text=True,
            )
            atexit.register(cls.end)
        return cls.current

    @classmethod
    def end(cls) -> None:
        """Let it go; its children have ended."""
        assert cls.current is not None
        for stream in (cls.current.stdin, cls.current.stdout):
            assert stream is not None
            stream.close()
        cls.current.wait(30)


class Nursery:
    """Starts commands; use it in a ``with`` block.

    Parameters
    ----------
    folder : pathlib.Path
        For what the children say and for a user's cache of their own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._process = _Server.get()
        self._children: list[Child] = []

    def __enter__(self) -> Nursery:
        return self

    def __exit__(self, *exception: object) -> None:
        for child in self._children:  # of an experiment that failed half-way
            if child.code is None:
                child.kill()
                child.wait()

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """One exchange with the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the server of children has ended")
        return dict(json.loads(line))

    def start(self, *arguments: object, **settings: Any) -> Child:
        """Start ``bottleneck ARGUMENTS``.

        Parameters
        ----------
        *arguments : object
        **settings
            ``delay_s`` of a batch; ``seal_after_s`` and ``seal_at_bytes``; ``shim``, see `shim`;
            ``limits``, such as ``{"RLIMIT_NOFILE": 128}``; ``barrier``, a file to wait for;
            ``host``, a name to go by; ``whole_exit``, to leave as slowly as Python does.
        """
        folder = self.folder / f"child-{len(self._children)}"
        folder.mkdir()
        for name in ("out", "err", "forwards", "stored", "trace"):
            (folder / name).touch()
        job = {"arguments": [str(each) for each in arguments], "folder": str(folder), **settings}
        self._children.append(Child(self, self.ask({"start": job})["pid"], folder))
        return self._children[-1]

    def run(self, *arguments: object, **settings: Any) -> Child:
        """Start a command and wait for its end."""
        child = self.start(*arguments, **settings)
        if child.wait() is None:
            child.kill()
            child.wait()
            raise RuntimeError(f"no end after {TIMEOUT_S} s: {arguments}: {child.err}")
        return child


def _serve() -> None:
    """The server: reads questions, line by line, until nobody asks any more."""
    sys.path.insert(0, str(HERE.parents[2] / "extraction"))
    _warm()
    for line in sys.stdin:
        question = json.loads(line)
        if "start" in question:
            pid = os.fork()
            if not pid:
                return _be_born(question["start"])
            answer: dict[str, Any] = {"pid": pid}
        else:
            answer = {"code": _collect(question["wait"], question["timeout_s"])}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _collect(pid: int, timeout_s: float) -> int | None:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    return None


def _warm() -> None:
    """Import all that a command needs, by running one."""
    import stub
    from bottleneck_probe.cache import features, lock, shards  # noqa: F401
    from bottleneck_probe.cli.main import bottleneck
    from bottleneck_probe.engines import devices

    stub.install(setattr, dict.__setitem__)
    devices.cpu_precisions = lambda: ("fp32",)
    with tempfile.TemporaryDirectory() as place:
        os.environ["BOTTLENECK_CACHE_DIR"] = place
        stub.paint(Path(place) / "photos" / "a" / "1.png", 1)
        stub.paint(Path(place) / "photos" / "b" / "2.png", 2)
        output = os.path.join(place, "x.h5")
        arguments = ["extract", os.path.join(place, "photos"), "-o", output, "--json"]
        saved, devnull = os.dup(1), os.open(os.devnull, os.O_WRONLY)
        os.dup2(devnull, 1)
        try:
            bottleneck([*arguments, "--backbone", "stub", "--engine", "eager"])
        except SystemExit as end:
            if end.code:
                raise RuntimeError("the first command failed") from end
        finally:
            sys.stdout.flush()
            os.dup2(saved, 1)
            os.close(saved)
            os.close(devnull)
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)


def _be_born(job: dict[str, Any]) -> None:
    """In the fork: become the command."""
    import resource
    import socket

    folder = Path(job["folder"])
    os.environ["BOTTLENECK_CACHE_DIR"] = str(folder.parent / "user-cache")
    for number, name, flags in ((0, os.devnull, 0), (1, folder / "out", 1), (2, folder / "err", 1)):
        descriptor = os.open(name, flags)
        os.dup2(descriptor, number)
        os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    import stub
    from bottleneck_probe.cache import shards
    from bottleneck_probe.cli.main import main

    calls = stub.install(setattr, dict.__setitem__)
    calls.delay_s = job.get("delay_s", 0.0)
    counter = os.open(folder / "forwards", os.O_WRONLY | os.O_APPEND)
    write = os.write
    calls.on_call = lambda _: write(counter, b"x")
    stored, append = os.open(folder / "stored", os.O_WRONLY | os.O_APPEND), shards.Shards.append

    def noted(self: shards.Shards, keys: Any, *rest: Any) -> Path | None:
        write(stored, b"x" * len(keys))
        return append(self, keys, *rest)

    shards.Shards.append = noted  # type: ignore[method-assign]
    shards.SEAL_AFTER_S = job.get("seal_after_s", shards.SEAL_AFTER_S)
    shards.SEAL_AT_BYTES = job.get("seal_at_bytes", shards.SEAL_AT_BYTES)
    for name, value in job.get("limits", {}).items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if "host" in job:
        socket.gethostname = lambda: job["host"]
    if "shim" in job:
        import importlib.util

        spec = importlib.util.spec_from_file_location("shim", HERE.with_name("shim.py"))
        assert spec is not None
        assert spec.loader is not None
        shim = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shim)
        shim.install(job["shim"], folder / "trace")
    while "barrier" in job and not os.path.exists(job["barrier"]):
        time.sleep(0.0005)
    sys.argv = ["bottleneck", *job["arguments"]]
    os.close(os.open(folder / "born", os.O_CREAT | os.O_WRONLY))
    if job.get("whole_exit"):
        return main()
    try:
        main()
    except SystemExit as end:
        # As Python does it, but for the 0.4 s in which it takes each object of a warm process apart.
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))


if __name__ == "__main__":
    _serve()
