"""Confident learning: suspects are those of the definition, and flipped labels are found."""

import numpy as np
from bottleneck_probe.evaluate.doubts.label_errors import find_suspects
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(4, 40), st.integers(2, 5))
def test_suspects_are_those_of_the_definition(seed, n, k):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    p = rng.dirichlet(np.ones(k) * 0.5, n)
    found = find_suspects(y, p)
    expected = []
    for i in range(n):
        over = []
        for j in range(k):
            mine = [p[m, j] for m in range(n) if y[m] == j]
            if mine and p[i, j] >= min(sum(mine) / len(mine), 0.9) - 1e-12:
                over.append(j)
        best = max(over, key=lambda j: p[i, j], default=None)
        if best is not None and best != y[i] and p[i, best] > p[i, y[i]]:
            expected.append((p[i, y[i]] - p[i, best], i, best))
    expected.sort()
    assert sorted(found.rows.tolist()) == sorted(i for _, i, _ in expected)
    assert dict(zip(found.rows.tolist(), found.suggested.tolist(), strict=True)) == {
        i: best for _, i, best in expected
    }
    assert (np.diff(found.margins) >= 0).all()
    assert (found.p_suggested > found.p_label).all()


def test_flipped_labels_come_first():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 300)
    p = np.full((300, 3), 0.1)
    p[np.arange(300), true] = 0.8
    y = true.copy()
    flipped = rng.choice(300, 30, replace=False)
    y[flipped] = (true[flipped] + 1) % 3
    found = find_suspects(y, p)
    assert set(found.rows.tolist()) == set(flipped.tolist())
    assert (found.suggested == true[found.rows]).all()


def test_a_class_that_is_always_unsure_is_no_suspect():
    """Class 1 never gets more than 0.45: its own threshold is what counts, not one half."""
    p = np.array([[0.9, 0.1]] * 10 + [[0.56, 0.44]] * 10)
    y = np.array([0] * 10 + [1] * 10)
    assert len(find_suspects(y, p)) == 0


def test_copies_under_two_labels_come_first_whatever_their_probabilities():
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.99, 0.01], [0.01, 0.99], [0.9, 0.1]])
    y = np.array([0, 1, 1, 0, 0, 0])
    found = find_suspects(y, p, images=np.array([7, 7, 1, 2, 3, 4]))
    assert found.kinds == ["conflict", "conflict", "label"]
    assert set(found.rows[:2].tolist()) == {0, 1}
    assert found.rows[2] == 4


def test_outliers_come_last_the_farthest_first():
    p = np.array([[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.1, 0.9]])
    y = np.array([0, 1, 0, 1])
    found = find_suspects(y, p, novelty=np.array([0.1, 0.7, np.nan, 0.9]), novelty_threshold=0.5)
    assert found.rows.tolist() == [3, 1]
    assert found.kinds == ["outlier", "outlier"]


def test_a_class_without_a_label_suspects_nobody():
    p = np.array([[0.2, 0.1, 0.7], [0.3, 0.6, 0.1], [0.3, 0.6, 0.1]])
    found = find_suspects(np.array([0, 1, 1]), p)
    assert 2 not in found.suggested.tolist()
    assert np.isnan(found.thresholds[2])


def test_where_all_others_are_certain_nine_in_ten_is_enough():
    p = np.array([[0.999, 0.001]] * 20 + [[0.001, 0.999]] * 20 + [[0.93, 0.07]])
    y = np.array([0] * 20 + [1] * 21)
    assert find_suspects(y, p).rows.tolist() == [40]
