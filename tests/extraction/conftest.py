"""The stub backbone, for tests of what surrounds a network."""

from pathlib import Path
from types import ModuleType

import pytest
from common import load


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
