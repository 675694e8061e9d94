"""A trial of an HDF5 file in another process, which may crash or hang in this one's place.

HDF5 is written in C and reads a damaged file in good faith: a wrong length in a heap has sent it
into an endless loop that no signal ends, and others have found crashes. A file without a good
trailer (`trailer`) is therefore opened in a child first. The child reads the very descriptor that
the parent goes on with, so nobody can put another file there meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from .. import helper
from ..errors import CacheError

if TYPE_CHECKING:
    import h5py

# A small file takes 0.2 s, nearly all of it Python's start. An endless loop ends at the limit on what
# is computed, where the system has one; the rest of the time is for a slow disk or a busy machine.
TIME_LIMIT_S = 60.0 if find_spec("resource") else 20.0
CPU_LIMIT_S = 5.0
BYTES_PER_S = 20e6
# What the child may take beyond what it has when it begins: more than any step below needs.
MEMORY_BYTES = 1 << 30
_MODULE = "bottleneck_probe.cache.child"


def require_survived(file: BinaryIO, path: Path, limit_s: float | None = None) -> None:
    """Raise a CacheError unless a child process could open an HDF5 file and read what is in it.

    Parameters
    ----------
    file : binary file
        Open for reading; its position afterwards is anywhere.
    path : Path
        For the message.
    limit_s : float, optional
        Seconds, and more for a large file; by default 60, or 20 where computing cannot be limited.
    """
    more_s = os.fstat(file.fileno()).st_size / BYTES_PER_S
    limit_s = more_s + (TIME_LIMIT_S if limit_s is None else limit_s)
    if not sys.executable:  # embedded in another program: there is nothing to start
        return
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", _MODULE, os.fspath(path), str(CPU_LIMIT_S + more_s)],
            stdin=file,
            capture_output=True,
            timeout=limit_s,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _fatal(path, f"did not answer within {limit_s:.0f} s") from None
    except OSError as error:
        raise CacheError(
            f"{path} could not be tried: no process could be started ({error.strerror})",
            where=str(path),
            next="close other programs, or raise `ulimit -u`",
        ) from error
    try:
        answer = json.loads(done.stdout)
        told = None if answer is None else {name: str(answer[name]) for name in _PARTS}
    except (ValueError, TypeError, KeyError):
        raise _fatal(path, _ended(done.returncode, done.stderr)) from None
    if told is not None:
        raise CacheError(told.pop("what"), **told)
    if done.returncode:
        raise _fatal(path, _ended(done.returncode, done.stderr))


_PARTS = ("what", "expected", "where", "next")


def environment() -> dict[str, str]:
    """Of the child: text as Python has it, whatever the terminal's, and no plugins of HDF5."""
    return helper.environment(PYTHONIOENCODING="utf-8:surrogateescape", HDF5_PLUGIN_PRELOAD="::")


def _ended(code: int, errors: bytes) -> str:
    # At its hard limit the system kills outright; nobody else kills the child but for its memory.
    if code in (-getattr(signal, "SIGXCPU", 0), -getattr(signal, "SIGKILL", 0)) and code:
        return f"came to no end within {CPU_LIMIT_S:.0f} s of computing"
    if code < 0:
        with suppress(ValueError):
            return f"crashed ({signal.Signals(-code).name}, signal {-code}) while reading it"
        return f"crashed (signal {-code}) while reading it"
    lines = errors.decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"ended with status {code} while reading it" + (f": {last[:200]}" if last else "")


def _fatal(path: Path, what: str) -> CacheError:
    return CacheError(
        f"{path} is damaged, or was made to do harm: HDF5 {what}",
        where=str(path),
        next="`bottleneck cache repair` saves the rows that are whole; or extract again under another "
        "name",
    )


def main() -> None:
    """Read the HDF5 file on standard input; say null, or what is wrong with it, as JSON."""
    import h5py

    from . import checks

    helper.end_with_parent()
    path = Path(sys.argv[1])
    told: dict[str, str] | None = None
    limit(float(sys.argv[2]))
    try:
        with checks.explained(path), h5py.File(sys.stdin.buffer, "r") as h5:
            checks.require_plain(h5, sys.stdin.buffer, path)
            touch(h5, path)
    except CacheError as error:
        told = error.to_dict()
    except MemoryError:
        told = CacheError(
            f"{path} needs over {MEMORY_BYTES >> 20} MiB for a part of it", where=str(path)
        ).to_dict()
    print(json.dumps(told), flush=True)
    os._exit(0)  # HDF5's own end may trip over what it has read


def touch(h5: h5py.File, path: Path) -> None:
    """Read what a reader might: all attributes, all texts, and all that has to be unpacked."""
    import h5py

    text_bytes = 0
    length = os.fstat(sys.stdin.fileno()).st_size
    for item in [h5, *_items(h5)]:
        for name in item.attrs:
            item.attrs[name]
        if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "OSUiufb":
            continue
        text = h5py.check_string_dtype(item.dtype)
        if item.dtype.kind == "O" and text is None:
            continue  # references and lists, which no reader of ours asks for
        if item.chunks is None and text is None:
            continue
        for block in _blocks(item):
            if text is not None:
                text_bytes += sum(map(len, block.ravel().tolist()))
                if text_bytes > 2 * length:
                    raise checks_refused(path, item.name)


def checks_refused(path: Path, name: str) -> CacheError:
    """The error for texts that together are longer than the file; raise what it returns."""
    from .structure import refused

    return refused(path, name.lstrip("/"), "holds more text than fits into the file")


def _items(group: h5py.Group) -> Iterator[Any]:
    import h5py

    for name in group:
        item = group[name]
        yield item
        if isinstance(item, h5py.Group):
            yield from _items(item)


def _blocks(dataset: h5py.Dataset) -> Iterator[Any]:
    """The values of a dataset, some MB at a time; of text few at a time."""
    if not dataset.ndim:
        return
    row = max(1, dataset.dtype.itemsize)
    for side in dataset.shape[1:]:
        row *= int(side)
    rows = max(1, (16 << 20) // row)
    if dataset.dtype.kind == "O":
        rows = min(rows, 256)
    if dataset.chunks:  # a chunk is unpacked again for each read that touches it
        rows = max(rows, dataset.chunks[0])
    for start in range(0, len(dataset), rows):
        yield dataset[start : start + rows]


def limit(cpu_s: float) -> None:
    """Take away from this process what reading a file does not need, where the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    taken = MEMORY_BYTES
    with suppress(OSError, ValueError, IndexError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        taken += pages * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (taken, taken))
    seconds = math.ceil(time.process_time() + cpu_s)
    for name, limit in (("RLIMIT_CORE", 0), ("RLIMIT_FSIZE", 0), ("RLIMIT_CPU", seconds)):
        with suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (limit, limit))


if __name__ == "__main__":
    main()
