"""Small features with splits, which every protocol can be run on in a second or two."""

from typing import NamedTuple

import numpy as np
from bottleneck_probe.evaluate.result import Result
from bottleneck_probe.presets.run import evaluate_preset


class Data(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    classes: list[str]
    splits: np.ndarray

    def part(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        rows = self.splits == name
        return self.X[rows].astype(np.float64), self.y[rows]


def make(counts: dict[str, int], n_classes: int = 4, d: int = 12, seed: int = 0) -> Data:
    """Nonnegative, overlapping clusters; `counts` rows of each class in each split, in any order."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 0.9, (n_classes, d))
    y = np.repeat(np.arange(n_classes), sum(counts.values()))
    splits = np.array(
        [name for _ in range(n_classes) for name, n in counts.items() for _ in range(n)]
    )
    X = np.maximum(centres[y] + rng.normal(0, 1.2, (len(y), d)) + 0.5, 0).astype(np.float32)
    order = rng.permutation(len(y))
    return Data(X[order], y[order], [f"c{i}" for i in range(n_classes)], splits[order])


def run(name: str, data: Data, **options: object) -> Result:
    """A preset on them."""
    return evaluate_preset(
        name, data.X, data.y, classes=data.classes, splits=data.splits, **options
    )


def headline(result: Result) -> dict[str, float]:
    """Its numbers by name."""
    return {row["name"]: row["value"] for row in result.extra["preset"]["headline"]}


def plain_ap(positive: np.ndarray, scores: np.ndarray) -> float:
    """Area under the precision envelope, read off point by point."""
    order = np.argsort(scores)[::-1]
    points, hits = [], 0
    for rank, i in enumerate(order, 1):
        hits += bool(positive[i])
        points.append((hits / positive.sum(), hits / rank))
    area = last = 0.0
    for recall, _ in points:
        if recall > last:
            area += (recall - last) * max(p for r, p in points if r >= recall)
            last = recall
    return area
