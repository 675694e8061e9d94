"""The small form of the experiment `chance`; and that it would see copies on both sides."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from run import experiment, small

# Nobody knows which images are copies, and the head is one that learns by heart.
UNKNOWN = {"keys": None, "holdout": None, "head": "knn", "head_options": {"k": 1}}


def test_intervals_of_random_labels_hold_chance(tmp_path):
    found = small("chance", tmp_path)
    assert found["held"], found["misses"]
    assert set(found["by_kind"]) == {
        f"{kind}, {metric}"
        for kind in experiment("chance").KINDS
        for metric in experiment("chance").METRICS
    }


def test_it_sees_copies_that_are_not_known(tmp_path, monkeypatch):
    """Without keys a copy of a training image is answered by heart, and scores far above chance."""
    module = experiment("chance")
    real = module.evaluate
    monkeypatch.setattr(module, "evaluate", lambda X, y, **options: real(X, y, **options | UNKNOWN))
    found = module.run(tmp_path, lambda sentence: None, runs=12)
    assert not found["held"]
    assert {kind for _, kind, *_ in found["misses"]} >= {"copies"}
