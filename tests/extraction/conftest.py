"""The stub backbone, for tests of what surrounds a network."""

import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from bottleneck_probe.extraction import prepare
from bottleneck_probe.extraction.glance import glance
from bottleneck_probe.images.payload import key_of
from bottleneck_probe.images.sample import Sample
from common import load
from PIL import Image


@pytest.fixture(scope="session")
def lanes() -> ModuleType:
    """The module `lanes.py`: engines, sinks and lanes for tests of the pipeline alone."""
    return load(Path(__file__).with_name("lanes.py"), "bottleneck_test_lanes")


@pytest.fixture
def photos(stub: ModuleType, tmp_path: Path):
    """Makes a folder of images, each of a colour of its own: two classes, taken in turn."""

    def make(n: int, *, first: int = 0, folder: str = "photos") -> Path:
        root = tmp_path / folder
        for number in range(first, first + n):
            stub.paint(root / ("ants", "bees")[number % 2] / f"{number:05d}.png", number)
        return root

    return make


class Hung:
    """Makes the decoder hang at some images until the test is over, or for a minute.

    Attributes
    ----------
    began, release : threading.Event
        The first one hangs; let all go on.
    ended : list of bytes
        Keys of those that came to an end: as long as there is none, nobody has waited for them.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.release = threading.Event(), threading.Event()
        self.ended: list[bytes] = []
        self._after_s: dict[bytes, float] = {}
        self._spin = False
        self._real = prepare.decoded
        monkeypatch.setattr(prepare, "decoded", self._decoded)

    def __call__(self, *contents: Any, spin: bool = False, after_s: float = 60) -> None:
        """Hang at these bytes or pixels; `spin` uses a processor meanwhile."""
        self._after_s |= dict.fromkeys(map(key_of, contents), after_s)
        self._spin = spin

    def _decoded(self, content: Any, *rest: Any) -> Any:
        key = key_of(content)
        if key in self._after_s:
            self.began.set()
            until = time.perf_counter() + self._after_s[key]
            while not self.release.is_set() and time.perf_counter() < until:
                if not self._spin:
                    self.release.wait(0.05)
            self.ended.append(key)
        return self._real(content, *rest)


@pytest.fixture
def warm(lanes: ModuleType, stub: ModuleType, _compiled: list[bool]) -> None:
    """Kernels are compiled when they are first used: no image under short limits waits for that."""
    if not _compiled:
        png = io.BytesIO()
        Image.new("RGB", (12, 9)).save(png, "PNG")
        samples = [*lanes.in_memory([0]), Sample("a PNG", png.getvalue())]
        ways = [lanes.plain(), stub.stub_preprocessing()]
        for prepared in glance(samples, ways, workers=1):
            assert all(framed.reason is None for framed in prepared.framed.values())
        _compiled.append(True)


@pytest.fixture(scope="session")
def _compiled() -> list[bool]:
    return []


@pytest.fixture
def hung(monkeypatch: pytest.MonkeyPatch, warm: None) -> Iterator[Hung]:
    """A `Hung`."""
    made = Hung(monkeypatch)
    yield made
    made.release.set()


@pytest.fixture
def interrupt_when() -> Iterator[Callable[..., None]]:
    """Sends Ctrl-C from another thread once all of some events have happened."""
    over = threading.Event()

    def arm(*events: threading.Event) -> None:
        def send() -> None:
            if all(event.wait(60) for event in events) and not over.is_set():
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=send, daemon=True).start()

    yield arm
    over.set()
