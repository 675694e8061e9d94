"""Small features with splits, which every protocol can be run on in a second or two."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from preset_data import Data, make


@pytest.fixture(scope="session")
def data() -> Data:
    return make({"train": 30, "val": 8, "test": 40})


@pytest.fixture(scope="session")
def no_val() -> Data:
    return make({"train": 40, "test": 40}, seed=3)
