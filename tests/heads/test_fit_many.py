"""Heads fitted together are the heads that are fitted one after the other."""

import numpy as np
import pytest
from bottleneck_probe.heads import LinearSVMHead, LogisticHead
from bottleneck_probe.heads.fit_many import fit_heads, fits_together
from bottleneck_probe.heads.fitted import fit_head
from sklearn.exceptions import ConvergenceWarning


def features(n, d, k, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, d)) + 2 * rng.normal(size=(k, d))[y] / np.sqrt(d)
    X[:, -1] = 3
    return (2 * X + 1).astype(np.float32), y


def parts_of(n, sizes, seed=1):
    rng = np.random.default_rng(seed)
    return [np.sort(rng.permutation(n)[:size]) for size in sizes]


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("d", [8, 90])
@pytest.mark.parametrize("scaling", ["scalar", "standard", "l2"])
@pytest.mark.parametrize("weight", [None, "balanced"])
def test_together_as_one_after_the_other(k, d, scaling, weight):
    X, y = features(40, d, k)
    rows = parts_of(40, [30, 31, 26, 30])
    C, temperatures = [1e-3, 0.1, 1.0, 50.0], [1.0, 2.0, 0.5, 1.0]
    heads = [LogisticHead(C=c, class_weight=weight) for c in C]
    assert fits_together(heads, y, rows, d) == [[0, 1, 2, 3]]
    options = {"n_classes": k, "scaling": scaling}
    together = fit_heads(heads, X, y, rows, temperatures=temperatures, **options)
    for head, own, ours, t in zip(heads, rows, together, temperatures, strict=True):
        alone = LogisticHead(C=head.C, class_weight=weight)
        theirs = fit_head(alone, X[own], y[own], temperature=t, **options)
        assert ours.head is head
        assert head.converged_
        assert head.objective_ == pytest.approx(alone.objective_, rel=1e-9)
        assert head.coef_ == pytest.approx(alone.coef_, abs=1e-4 * np.abs(alone.coef_).max())
        assert ours.predict_proba(X) == pytest.approx(theirs.predict_proba(X), abs=1e-4)


def test_a_missing_class_and_large_parts_are_fitted_apart():
    X, y = features(60, 5, 3)
    rows = [np.arange(50), np.flatnonzero(y != 1), np.arange(10, 60), np.flatnonzero(y != 0)]
    heads = [LogisticHead(C=0.1) for _ in rows]
    parts = fits_together(heads, y, rows, 5)
    assert parts == [[0, 2], [1, 3]]
    for part in parts:
        found = fit_heads([heads[i] for i in part], X, y, [rows[i] for i in part], n_classes=3)
        for i, fitted in zip(part, found, strict=True):
            theirs = fit_head(LogisticHead(C=0.1), X[rows[i]], y[rows[i]], n_classes=3)
            assert fitted.predict_proba(X) == pytest.approx(theirs.predict_proba(X), abs=1e-4)
    assert fits_together([LinearSVMHead(), LogisticHead()], y, rows[:2], 5) == [[0], [1]]
    assert fits_together([LogisticHead(tol=1e-3), LogisticHead()], y, rows[:2], 5) == [[0], [1]]
    large = np.tile(np.arange(60), 4000)
    assert fits_together(heads[:2], y, [large, large], 5) == [[0], [1]]


def test_a_fit_that_stops_early_is_told_and_kept():
    X, y = features(30, 10, 2)
    heads = [LogisticHead(C=100.0, max_iter=1) for _ in range(2)]
    with pytest.warns(ConvergenceWarning, match="stopped after 1 iterations"):
        fit_heads(heads, X, y, parts_of(30, [20, 20]), n_classes=2)
    assert not any(head.converged_ for head in heads)
