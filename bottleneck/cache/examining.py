"""A damaged feature file, dataset by dataset: what of it is still what was written.

Where `reading` stops at the first fault, this goes on, and so may meet whatever HDF5 does with a
broken structure. It therefore runs in a process of its own (``python -m ...examining FILE``), which
says on stdout what it begins and what it found, a JSON object a line. When it dies or falls silent
the parent knows at which dataset, and starts another one without that.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..helper import end_with_parent
from . import child
from .examination import BROKEN, Examination, examine_here
from .scanning import Scan, Tell

# A child that says nothing for so long hangs: it reports every few megabytes.
SILENCE_S = 20.0
# Each start leaves out one more dataset; a file that breaks them all is not worth more.
MAX_STARTS = 12


def examine(path: str | os.PathLike[str], tell: Tell | None = None) -> Examination:
    """Look at everything in a file that can be looked at, in another process.

    Parameters
    ----------
    path : str or path-like
    tell : callable, optional
        Is told bytes as they are done.

    Returns
    -------
    Examination
        Without any scan if HDF5 cannot even open the file; `faults` then says why.
    """
    found = Examination()
    for _ in range(MAX_STARTS):
        at, fault = "", ""
        for line in _lines(Path(path), list(found.scans)):
            kind = line["kind"]
            if kind == "begin":
                at = line["name"]
            elif kind == "bytes" and tell:
                tell(line["n"])
            elif kind == "scan":
                found.scans[line["scan"]["name"]] = Scan(**line["scan"])
                at = ""
            elif kind == "rest":
                for name, value in line["rest"].items():
                    setattr(found, name, value)
                found.faults = list(dict.fromkeys(found.faults))
                at = ""
            elif kind == "ended":
                fault = line["fault"]
            elif kind == "fault":
                found.faults.append(line["fault"])
        if not fault:
            return found
        if not at:
            found.faults.append(f"HDF5 {fault} while opening it")
            return found
        found.scans[at] = Scan(at, fault=f"HDF5 {fault} while reading it")
    found.faults.append("HDF5 fails at too many of its datasets")
    return found


def _lines(path: Path, skip: list[str]) -> Iterator[dict[str, Any]]:
    """What a child says, line by line; the last one is how it ended."""
    root = __package__.rpartition(".")[0]
    cpu_s = child.CPU_LIMIT_S + os.stat(path).st_size / child.BYTES_PER_S
    module = f"{root}.cache.examining"
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", module, os.fspath(path.absolute()), str(cpu_s), *skip],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=child.environment(),
    )
    said: queue.Queue[bytes] = queue.Queue()

    def listen() -> None:
        assert worker.stdout is not None
        for line in worker.stdout:
            said.put(line)
        said.put(b"")

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        while True:
            try:
                line = said.get(timeout=SILENCE_S)
            except queue.Empty:
                yield {"kind": "ended", "fault": f"hung for {SILENCE_S:.0f} s"}
                return
            if not line:
                break
            with suppress(ValueError):
                yield json.loads(line)
        code = worker.wait(timeout=SILENCE_S)
        yield {"kind": "ended", "fault": "" if code == 0 else _how(code)}
    finally:
        if worker.poll() is None:
            worker.kill()
        worker.wait()
        listener.join(timeout=1)
        if worker.stdout is not None and not listener.is_alive():
            worker.stdout.close()


def _how(code: int) -> str:
    if code in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)) and code:
        return "came to no end"
    return f"crashed (signal {-code})" if code < 0 else f"failed (exit {code})"


def main() -> None:
    """Examine the file of the first argument, without the datasets behind the second."""
    end_with_parent()
    child.limit(float(sys.argv[2]))

    def say(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)

    try:
        examine_here(Path(sys.argv[1]), say, frozenset(sys.argv[3:]))
    except BROKEN as error:
        say({"kind": "fault", "fault": f"HDF5 cannot open it ({error})"})


if __name__ == "__main__":
    main()
