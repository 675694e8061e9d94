"""Fixtures shared by all tests."""

import os
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from bottleneck_probe.engines import devices

sys.path.insert(0, str(Path(__file__).parent))

from common import load_stub


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real test images that is not part of the repository."""
    folder = os.environ.get("BOTTLENECK_TEST_DATA")
    if not folder:
        pytest.skip("BOTTLENECK_TEST_DATA is not set: no folder of real test images here")
    return Path(folder)


@pytest.fixture(autouse=True)
def _own_user_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch):
    """Exported networks go to one folder per test session, never to the user's own."""
    base = tmp_path_factory.getbasetemp() / "user-cache"
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(base))
    # An exception that no user can mend ends a test as what it is, not as an exit code of 1.
    monkeypatch.setenv("BOTTLENECK_TRACEBACK", "1")


@pytest.fixture
def stub() -> ModuleType:
    """The module `extraction/stub.py`."""
    return load_stub()


@pytest.fixture
def calls(stub: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Installs the stub backbone; counts how often its engine ran."""
    return stub.install(monkeypatch.setattr, monkeypatch.setitem)


@pytest.fixture
def opened_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """`verify` tries a file out in no process of its own, which takes a third of a second.

    Only tests with `child` in their names have that process.
    """
    if "child" not in request.node.name:
        monkeypatch.setattr("bottleneck_probe.cache.verifying.try_out", lambda path: None)


@pytest.fixture
def examined_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch):
    """A damaged file is examined in this process, but for tests with `child` in their names."""
    from bottleneck_probe.cache import examining

    def lines(source, skip):
        said = []
        try:
            examining.examine_here(source, said.append, frozenset(skip))
        except examining.BROKEN as error:
            said.append({"kind": "fault", "fault": f"HDF5 cannot open it ({error})"})
        yield from said
        yield {"kind": "ended", "fault": ""}

    if "child" not in request.node.name:
        monkeypatch.setattr(examining, "_lines", lines)


_real_precisions = devices.cpu_precisions


@pytest.fixture(scope="session", autouse=True)
def _a_plain_processor():
    """Tests see a processor without bfloat16, so that `auto` means the same on every machine.

    Those that are about faster precisions put another one in its place, or `real_processor`. For the
    whole session, since module-scoped fixtures extract features too.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(devices, "cpu_precisions", lambda: ("fp32",))
        yield


@pytest.fixture
def real_processor(monkeypatch: pytest.MonkeyPatch):
    """The processor as it is."""
    monkeypatch.setattr(devices, "cpu_precisions", _real_precisions)


@pytest.fixture(autouse=True)
def _own_signals():
    """Commands that run inside a test end with both ignored; a background job ignores Ctrl-C."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
