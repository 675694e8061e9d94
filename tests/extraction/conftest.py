"""The stub backbone, for tests of what surrounds a network."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(stem: str = "stub") -> ModuleType:
    name = f"bottleneck_test_{stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{stem}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@pytest.fixture
def stub() -> ModuleType:
    """The module `stub.py`."""
    return _load()


@pytest.fixture(scope="session")
def lanes() -> ModuleType:
    """The module `lanes.py`: engines, sinks and lanes for tests of the pipeline alone."""
    return _load("lanes")


@pytest.fixture
def calls(stub: ModuleType, monkeypatch: pytest.MonkeyPatch):
    """Installs the stub backbone; counts how often its engine ran."""
    return stub.install(monkeypatch.setattr, monkeypatch.setitem)


@pytest.fixture
def photos(stub: ModuleType, tmp_path: Path):
    """Makes a folder of images, each of a colour of its own: two classes, taken in turn."""

    def make(n: int, *, first: int = 0, folder: str = "photos") -> Path:
        root = tmp_path / folder
        for number in range(first, first + n):
            stub.paint(root / ("ants", "bees")[number % 2] / f"{number:05d}.png", number)
        return root

    return make
