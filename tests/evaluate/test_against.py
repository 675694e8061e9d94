"""Two probes on the same images, against the plain counts."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.against import against
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats


def draw(seed, n=60, k=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, k, n)
    new, old = (np.where(rng.random(n) < p, y, rng.integers(0, k, n)) for p in (0.8, 0.6))
    return y, new, old


@given(st.integers(0, 10**6), st.integers(5, 80))
@settings(deadline=None, max_examples=50)
def test_a_held_out_set_is_plain_counting(seed, n):
    y, new, old = draw(seed, n)
    found = against(y, new[None], old[None], np.arange(n), held_out=True)
    assert found.difference["value"] == pytest.approx(np.mean(new == y) - np.mean(old == y))
    assert (found.new, found.old) == (
        pytest.approx(np.mean(new == y)),
        pytest.approx(np.mean(old == y)),
    )
    assert np.array_equal(found.mended, np.flatnonzero((new == y) & (old != y)))
    assert np.array_equal(found.broken, np.flatnonzero((new != y) & (old == y)))
    flipped = len(found.mended) + len(found.broken)
    expected = stats.binomtest(len(found.mended), flipped, 0.5).pvalue if flipped else 1.0
    assert found.p == pytest.approx(expected)
    assert (
        -1 <= found.difference["low"] <= found.difference["value"] <= found.difference["high"] <= 1
    )
    # Worse is said just where the exact test says it.
    assert found.worse == (found.difference["high"] < 0)
    if found.worse:
        assert found.p < 0.05


def test_a_probe_that_is_clearly_worse_is_called_worse():
    y, good, bad = draw(0, 400)
    assert against(y, bad[None], good, np.arange(400), held_out=True).worse
    assert not against(y, good[None], bad, np.arange(400), held_out=True).worse
    same = against(y, good[None], good, np.arange(400), held_out=True)
    assert (same.difference["value"], same.p, same.worse) == (0, 1.0, False)
    assert same.difference["low"] < 0 < same.difference["high"]


def test_copies_count_once_and_folds_count_for_less():
    y, new, old = draw(3, 50)
    once = against(y, new[None], old, np.arange(50), held_out=True)
    many = np.repeat(np.arange(50), 4)
    copied = against(y[many], new[many][None], old[many], many, held_out=True)
    assert copied.n == once.n == 50
    for name in ("value", "low", "high"):
        assert copied.difference[name] == pytest.approx(once.difference[name])
    folds = against(y, np.stack([new, new]), old, np.arange(50), held_out=False)
    assert folds.difference["low"] < once.difference["low"]
    assert folds.difference["high"] > once.difference["high"]


def test_a_class_that_the_old_probe_does_not_know_is_a_wrong_answer():
    y, new, _ = draw(5, 30)
    found = against(y, new[None], np.full(30, -2), np.arange(30), held_out=True)
    assert found.old == 0
