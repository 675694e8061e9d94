"""What tests of several folders share; `conftest.py` puts this folder on the path."""

from __future__ import annotations

import importlib.util
import io
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py

_STUB = Path(__file__).parent / "extraction" / "stub.py"


def load(path: Path, name: str) -> ModuleType:
    """A file beside the tests as a module, once."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def load_stub() -> ModuleType:
    """The module `extraction/stub.py`."""
    return load(_STUB, "bottleneck_test_stub")


def extractor(calls: Any, default: Path | None = None) -> Callable[..., Any]:
    """Runs an extraction as the command does; its counts must agree with what was computed.

    Parameters
    ----------
    calls : Calls
        Of the stub.
    default : Path, optional
        The output where none is stated.
    """
    from bottleneck_probe.extraction import api
    from bottleneck_probe.reporter import Silent

    def extract(images: Any, output: Any = default, **options: Any) -> Any:
        calls.forwards = calls.started = 0
        stated = {"backbone": "stub", "engine": "eager", "batch_size": 1, **options}
        found = api.find_images(images, previous=lambda: api.previous(images, output, stated))
        result = api.run(found, output=output, reporter=Silent(), **stated)
        assert result.computed == calls.forwards
        assert result.computed + result.reused + result.quarantined == result.seen
        return result

    return extract


def tar_of(pairs: Iterable[tuple[str, bytes]]) -> bytes:
    """A tar of names and contents."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in pairs:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return file.getvalue()


def effort(work: Callable[[], object]) -> tuple[int, int]:
    """What a piece of work costs, without a clock: lines of Python that run, and peak bytes.

    Run once before, so that what is made once only does not count. Loops in C are seen by the memory
    that they need, if at all.
    """
    work()
    lines, before = 0, sys.gettrace()

    def trace(frame: object, event: str, argument: object) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return trace

    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    tracemalloc.start()
    try:
        work()
        return lines, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def flip(path: Path, at: int, bit: int = 2) -> None:
    """Turn over one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def offset(path: Path, name: str) -> int:
    """Where the values of a dataset lie in a feature file."""
    with h5py.File(path) as h5:
        return int(h5[name].id.get_offset())
