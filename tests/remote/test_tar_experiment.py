"""The small form of the experiment ``tars``; ``python tests/faults/run.py tars --full`` is the other."""

import importlib.util
from pathlib import Path

RUN = Path(__file__).parents[1] / "faults" / "run.py"


def test_it_holds(tmp_path):
    spec = importlib.util.spec_from_file_location("bottleneck_faults_for_tars", RUN)
    faults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faults)
    result = faults.small("tars", tmp_path)
    assert result["held"], result
