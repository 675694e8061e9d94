"""The small form of the experiment on large directories; in full: ``run.py directory --full``."""

import importlib.util
from pathlib import Path


def test_a_directory_of_twenty_thousand_rows(tmp_path):
    path = Path(__file__).parent / "experiments" / "directory.py"
    spec = importlib.util.spec_from_file_location("experiment_directory", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.run(tmp_path / "run", lambda sentence: None, **module.SMALL)
    assert found["held"], found
