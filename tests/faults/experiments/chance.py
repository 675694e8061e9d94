"""Random labels, with copies, splits and hold-outs: how often the interval of `fit` holds chance.

Features are noise and each image's label is drawn by lot, so that no probe can be right more often than
one time in k on other images: that is the truth which the 95 % interval has to hold. Copies of an image
keep its label, stand on both sides of splits, and would be recognised if they were let.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bottleneck_probe.evaluate import evaluate

FULL = {"runs": 500}
SMALL = {"runs": 5}

LEAST = 0.93
METRICS = ("accuracy", "balanced_accuracy")
KINDS = ("plain", "copies", "splits", "hold-out", "unlabelled")


def drawn(number: int) -> tuple[str, dict[str, Any]]:
    """One set of random labels: its kind, and the arguments of `evaluate`."""
    kind = KINDS[number % len(KINDS)]
    rng = np.random.default_rng(number)
    k, n = int(rng.integers(2, 5)), int(rng.integers(40, 121))
    X = rng.normal(size=(n, 24)).astype(np.float32)
    y = rng.integers(0, k, n).astype(np.int32)
    y[: 2 * k] = np.arange(2 * k) % k  # every class twice, or there would be no score
    keys = rng.integers(0, 256, (n, 32), dtype=np.uint8)
    splits = None
    if kind != "plain":  # some images up to four times
        order = np.repeat(np.arange(n), rng.choice([1, 1, 1, 2, 4], n))
        X, y, keys = X[order], y[order], keys[order]
    if kind == "splits":
        splits = rng.choice(["train", "train", "val", "test"], len(y))
        # Each class has an image to learn from.
        splits[np.unique(y, return_index=True)[1]] = "train"
    if kind == "unlabelled":
        y = np.where(rng.random(len(y)) < 0.2, -1, y).astype(np.int32)
    return kind, {
        "X": X,
        "y": y,
        "keys": keys,
        "splits": splits,
        "classes": [f"class {i}" for i in range(k)],
        "holdout": 0.3 if kind == "hold-out" else None,
        "repeats": 1,
    }


def run(folder: Path, tell: Callable[[str], None], *, runs: int) -> dict[str, Any]:
    """Evaluate `runs` sets of random labels."""
    held: Counter[str] = Counter()
    by_kind: Counter[str] = Counter()
    misses = []
    for number in range(runs):
        kind, arguments = drawn(number)
        result = evaluate(arguments.pop("X"), arguments.pop("y"), **arguments)
        chance = 1 / len(result.classes)
        for name in METRICS:
            found = result.metrics[name]
            if found["low"] <= chance <= found["high"]:
                held[name] += 1
                by_kind[f"{kind}, {name}"] += 1
            else:
                misses.append([number, kind, name, chance, found["low"], found["high"]])
        if number % 50 == 49:
            tell(f"{number + 1} of {runs}: {dict(held)}")
    return {
        "held": all(held[name] >= int(LEAST * runs) for name in METRICS),
        "told": f"{runs} sets of random labels, most with copies: the 95 % interval held chance for "
        + ", ".join(f"{name.replace('_', ' ')} in {held[name] / runs:.1%}" for name in METRICS),
        "by_kind": dict(sorted(by_kind.items())),
        "misses": misses,
    }
