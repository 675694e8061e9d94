"""The control with shuffled labels: a permutation, image by image, and chance where nothing is to learn."""

import numpy as np
import pytest
from bottleneck_probe.evaluate import evaluate
from bottleneck_probe.evaluate.sanity import judge, shuffle_labels


def test_labels_are_dealt_anew_among_labelled_images_and_copies_keep_one():
    y = np.array([0, 1, 2, -1] * 30)
    keys = np.zeros((120, 32), np.uint8)
    keys[:, 0] = np.arange(120) // 8 * 4 + np.arange(120) % 4  # rows i and i + 4 are one image
    shuffled = shuffle_labels(y, keys, 0)
    assert np.array_equal(shuffled == -1, y == -1)
    assert np.array_equal(np.bincount(shuffled[y >= 0]), np.bincount(y[y >= 0]))
    first = np.arange(120).reshape(15, 2, 4)
    assert np.array_equal(shuffled[first[:, 0]], shuffled[first[:, 1]])
    assert not np.array_equal(shuffled, y)
    assert np.array_equal(shuffled, shuffle_labels(y, keys, 0))
    assert not np.array_equal(shuffled, shuffle_labels(y, keys, 1))


@pytest.mark.parametrize("counts", [(60, 60), (100, 20), (40, 40, 40)])
def test_the_interval_of_shuffled_labels_holds_chance(counts):
    rng = np.random.default_rng(0)
    y = np.repeat(np.arange(len(counts)), counts)
    X = (rng.normal(size=(len(y), 20)) + 3 * np.eye(len(counts), 20)[y]).astype(np.float32)
    classes = [str(c) for c in range(len(counts))]
    held = []
    for seed in range(4):
        result = evaluate(X, shuffle_labels(y, None, seed), classes=classes, repeats=1)
        found = judge(result.metrics, len(counts))
        assert found["chance"] == pytest.approx(1 / len(counts))
        held.append(found["holds"])
    assert sum(held) >= 3
    # The control can fail: with the true labels it does not hold chance.
    assert not judge(evaluate(X, y, classes=classes, repeats=1).metrics, len(counts))["holds"]
