"""Metrics of labels and numbers: scikit-learn's and SciPy's values, and intervals that hold."""

from __future__ import annotations

import numpy as np
import pytest
from bottleneck_probe.evaluate import multilabel_metrics, regression_metrics
from bottleneck_probe.evaluate.target_measure import measure_labels, measure_values
from bottleneck_probe.evaluate.thresholds import best_f1, label_thresholds
from bottleneck_probe.evaluate.unit_bootstrap import unit_intervals
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)


def drawn(seed: int, m: int, k: int, unknown: float = 0.0, digits: int = 1):
    """Labels and probabilities with ties."""
    rng = np.random.default_rng(seed)
    Y = (rng.random((m, k)) < rng.uniform(0.2, 0.7, k)).astype(float)
    P = np.clip(np.round(0.5 * rng.random((m, k)) + 0.3 * Y + 0.1, digits), 0.01, 0.99)
    Y[rng.random((m, k)) < unknown] = np.nan
    return Y, P


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 9999), m=st.integers(4, 40), weighted=st.booleans())
def test_ranking_metrics_are_scikit_learns(seed: int, m: int, weighted: bool):
    Y, P = drawn(seed, m, 1, unknown=0.2)
    y, p = Y[:, 0], P[:, 0]
    W = np.random.default_rng(seed).integers(0, 3, (2, m)).astype(float)
    W = W if weighted else np.ones((2, m))
    known = ~np.isnan(y)
    right, all_pairs = multilabel_metrics.pairs(y, p, W)
    for i, w in enumerate(W):
        there = known & (w > 0)
        ours = multilabel_metrics.average_precision(y, p, W)[i]
        if not (y[there] == 1).any():
            assert np.isnan(ours)
            continue
        assert ours == pytest.approx(
            average_precision_score(y[there], p[there], sample_weight=w[there])
        )
        if (y[there] == 0).any():
            theirs = roc_auc_score(y[there], p[there], sample_weight=w[there])
            assert right[i] / all_pairs[i] == pytest.approx(theirs)


def test_all_metrics_of_labels_are_scikit_learns():
    Y, P = drawn(3, 60, 4)
    answers = P >= 0.45
    folds = np.zeros((1, 60), int)
    found = multilabel_metrics.all_metrics(Y, P[None], answers[None], folds, np.ones((1, 60)))
    assert found["map"][0] == pytest.approx(average_precision_score(Y, P))
    assert found["auroc"][0] == pytest.approx(roc_auc_score(Y, P))
    assert found["micro_f1"][0] == pytest.approx(f1_score(Y, answers, average="micro"))
    assert found["macro_f1"][0] == pytest.approx(f1_score(Y, answers, average="macro"))
    assert found["log_loss"][0] == pytest.approx(
        np.mean([log_loss(Y[:, i], P[:, i]) for i in range(4)])
    )


def test_a_label_without_a_positive_counts_in_no_mean_and_an_unknown_cell_nowhere():
    Y, P = drawn(4, 40, 3)
    Y[:, 2] = 0
    two = multilabel_metrics.all_metrics(
        Y[:, :2], P[None, :, :2], P[None, :, :2] > 0.5, np.zeros((1, 40), int), np.ones((1, 40))
    )
    three = multilabel_metrics.all_metrics(
        Y, P[None], P[None] > 0.5, np.zeros((1, 40), int), np.ones((1, 40))
    )
    for name in ("map", "auroc", "macro_f1"):
        assert two[name] == three[name]
    Y[:, 2] = np.nan
    gone = multilabel_metrics.all_metrics(
        Y, P[None], P[None] > 0.5, np.zeros((1, 40), int), np.ones((1, 40))
    )
    for name in multilabel_metrics.METRICS:
        assert gone[name] == pytest.approx(two[name])


def test_auroc_compares_pairs_of_one_fold():
    """Shifts between folds, which mean nothing, change nothing."""
    Y, P = drawn(5, 60, 2, digits=6)
    folds = np.arange(60)[None] % 3
    shifted = P / 3 + folds[0][:, None] / 3
    weights = np.ones((1, 60))
    plain = multilabel_metrics.per_label_ranking(Y, P, folds[0], weights)
    moved = multilabel_metrics.per_label_ranking(Y, shifted, folds[0], weights)
    np.testing.assert_allclose(plain[1], moved[1])
    assert np.abs(plain[0] - moved[0]).max() > 0.01


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999), m=st.integers(3, 30))
def test_metrics_of_numbers_are_those_of_rows_that_are_repeated(seed: int, m: int):
    rng = np.random.default_rng(seed)
    y = np.round(rng.normal(size=m), 1)
    p = np.round(y + rng.normal(size=m), 1)
    w = rng.integers(0, 3, m)
    rows = np.repeat(np.arange(m), w)
    if len(np.unique(y[rows])) < 2 or len(np.unique(p[rows])) < 2:
        return
    found = regression_metrics.all_metrics(y, p[None], np.zeros((1, m), int), w[None].astype(float))
    a, b = y[rows], p[rows]
    assert found["r2"][0] == pytest.approx(r2_score(a, b))
    assert found["mae"][0] == pytest.approx(mean_absolute_error(a, b))
    assert found["rmse"][0] == pytest.approx(root_mean_squared_error(a, b))
    assert found["spearman"][0] == pytest.approx(spearmanr(a, b).statistic)


def test_a_constant_answer_has_no_rank_correlation_and_an_r2_of_0():
    y = np.array([1.0, 2.0, 4.0, 1.5])
    found = regression_metrics.all_metrics(
        y, np.full((1, 4), y.mean()), np.zeros((1, 4), int), np.ones((1, 4))
    )
    assert np.isnan(found["spearman"][0])
    assert found["r2"][0] == pytest.approx(0)
    metrics = measure_values(
        y,
        np.full((1, 4), y.mean()),
        images=np.arange(4),
        groups=np.arange(4),
        folds=np.zeros((1, 4), int),
        held_out=True,
    )
    assert metrics["spearman"]["method"] == "undefined"


def test_the_best_threshold_is_that_of_a_plain_search():
    for seed in range(20):
        Y, P = drawn(seed, 50, 1, digits=2)
        y, p = Y[:, 0], P[:, 0]
        ours = best_f1(y, p, np.ones(50))
        best = max(f1_score(y, p >= t) for t in np.unique(p))
        assert f1_score(y, p >= ours) == pytest.approx(best)


def test_labels_with_few_positives_share_a_threshold():
    rng = np.random.default_rng(0)
    Y, P = np.zeros((200, 4)), rng.random((200, 4)) * 0.4
    Y[:60, 0] = Y[:40, 1] = Y[:4, 2] = 1
    P[:60, 0] += 0.5
    P[:40, 1] += 0.2
    found = label_thresholds(Y, P, np.ones(200))
    assert found[2] == found[3]
    assert len(set(found.tolist())) == 3


def measured(
    m: int, folds: int = 1, groups: np.ndarray | None = None, copies: int = 1, seed: int = 0
):
    Y, P = drawn(seed, m, 3, digits=6)
    Y, P = np.repeat(Y, copies, axis=0), np.repeat(P, copies, axis=0)
    images = np.repeat(np.arange(m), copies)
    fold = np.repeat(np.arange(m) % folds, copies)[None]
    return measure_labels(
        Y,
        P[None],
        P[None] > 0.45,
        images=images,
        groups=images if groups is None else np.repeat(groups, copies),
        folds=fold,
        held_out=folds == 1,
    )


def test_intervals_hold_the_value_and_are_wider_across_folds_and_for_groups():
    plain, crossed = measured(60), measured(60, folds=5)
    grouped = measured(60, groups=np.arange(60) // 6)
    for name in multilabel_metrics.METRICS:
        assert plain[name]["low"] < plain[name]["value"] < plain[name]["high"]
        assert plain[name]["low"] >= 0
    width = {
        key: found["map"]["high"] - found["map"]["low"]
        for key, found in {"plain": plain, "crossed": crossed, "grouped": grouped}.items()
    }
    assert width["crossed"] > 1.15 * width["plain"]
    assert "groups" in grouped["map"]["method"]
    assert "cross-validated" in crossed["map"]["method"]


def test_copies_count_as_one_image():
    once, thrice = measured(50), measured(50, copies=3)
    for name in multilabel_metrics.METRICS:
        for part in ("value", "low", "high"):
            assert once[name][part] == pytest.approx(thrice[name][part], abs=0.02)
        assert once[name]["value"] == pytest.approx(thrice[name]["value"])


def test_perfect_answers_have_a_width():
    Y = np.zeros((40, 2))
    Y[:12, 0] = Y[20:, 1] = 1
    found = measure_labels(
        Y,
        np.where(Y == 1, 0.9, 0.1)[None],
        (Y == 1)[None],
        images=np.arange(40),
        groups=np.arange(40),
        folds=np.zeros((1, 40), int),
        held_out=True,
    )
    for name in ("map", "auroc", "micro_f1", "macro_f1"):
        assert found[name]["value"] == found[name]["high"] == 1
        assert 0.7 < found[name]["low"] < 0.95
    assert found["log_loss"]["low"] < found["log_loss"]["value"] < found["log_loss"]["high"]


def test_the_bootstrap_of_a_mean_covers_it():
    """Of 300 draws of 40 skewed numbers about 95 % of the intervals hold the mean."""
    rng = np.random.default_rng(1)
    held = 0
    for seed in range(300):
        x = rng.gamma(2.0, 1.0, 40)
        _, low, high = unit_intervals(
            lambda w, x=x: {"mean": w @ x / w.sum(axis=1)},
            np.ones(40),
            np.arange(40),
            work=400,
            seed=seed,
        )["mean"]
        held += low <= 2.0 <= high
    assert 0.90 * 300 <= held <= 0.985 * 300
