"""Malformed files and bombs, in small; in full by ``python tests/faults/run.py malformed bombs --full``."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture
def experiment(monkeypatch):
    """Loads one of the experiments."""

    def load(name):
        path = Path(__file__).parent / "experiments" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(f"experiment_{name}", path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.mark.parametrize("name", ["malformed", "bombs"])
def test_it_holds(experiment, tmp_path, name):
    module = experiment(name)
    found = module.run(tmp_path, lambda sentence: None, **module.SMALL)
    assert found["held"], found["told"]
