"""Random histories of a folder of images: a directory holds what one file of the same runs would."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FULL = {"histories": 1000, "seed": 0}
SMALL = {"histories": 3, "seed": 0}


def run(folder: Path, tell: Callable[[str], None], *, histories: int, seed: int) -> dict[str, Any]:
    """Each history has up to six steps, of up to three changes each, and two runs a step."""
    tests = _tests()
    faults: list[str] = []
    runs = 0
    for number in range(seed, seed + histories):
        rng = np.random.default_rng(number)
        steps = [
            [tests.STEPS[i] for i in rng.integers(len(tests.STEPS), size=rng.integers(1, 4))]
            for _ in range(rng.integers(1, 7))
        ]
        rows, small = (2, 5, 1 << 16)[rng.integers(3)], (3, 32)[rng.integers(2)]
        place = folder / f"history-{number}"
        place.mkdir(parents=True)
        try:
            runs += tests.check_history(place, number, rows, small, steps)
        except Exception as error:
            faults.append(f"history {number}: {type(error).__name__}: {str(error)[:300]}")
        shutil.rmtree(place)
        if number % 50 == 49:
            tell(f"{number + 1 - seed} histories, {runs} runs, {len(faults)} faults")
    return {
        "histories": histories,
        "runs": runs,
        "faults": faults,
        "held": not faults,
        "told": f"{histories} histories, {runs} runs in each form: {len(faults)} times another answer",
    }


def _tests() -> Any:
    name = "bottleneck_test_histories"
    if name not in sys.modules:
        path = Path(__file__).parents[2] / "cache" / "directory" / "test_histories.py"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    from bottleneck_probe.engines import devices

    devices.cpu_precisions = lambda: ("fp32",)
    return sys.modules[name]
