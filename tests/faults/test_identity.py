"""The experiments on identity and tables in their small form; ``run.py NAME --full`` is the whole one."""

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def faults():
    """The module `run.py`."""
    place = Path(__file__).with_name("run.py")
    spec = importlib.util.spec_from_file_location("bottleneck_fault_runner", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["edits", "steps", "renames", "tables"])
def test_it_holds_in_its_small_form(name, faults, tmp_path):
    result = faults.small(name, tmp_path)
    assert result["held"], json.dumps(result, indent=1)
    json.dumps(result)
