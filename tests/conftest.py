"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


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
