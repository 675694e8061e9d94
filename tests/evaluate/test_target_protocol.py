"""The honest score of labels and numbers: folds, choices inside them, chance, copies, groups."""

from __future__ import annotations

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate.target_choice import choose_target
from bottleneck_probe.evaluate.target_plan import label_folds, plan_targets, value_folds
from bottleneck_probe.evaluate.target_protocol import (
    TargetResult,
    best_constant,
    evaluate_targets,
    residual_quantile,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

NAMES = ["ant", "bee", "cow"]


def problem(n: int = 60, d: int = 12, seed: int = 0, noise: float = 0.5):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d)).astype(np.float32)
    Z = X[:, :3] + noise * rng.normal(size=(n, 3))
    levels = np.array([0.0, 0.5, 0.8])
    return X, (levels < Z).astype(float), Z[:, :1] * 4 + 10


def labels(X: np.ndarray, Y: np.ndarray, **options: object) -> TargetResult:
    options = {"repeats": 1, "names": NAMES[: Y.shape[1]], **options}
    return evaluate_targets(X, Y, task="multilabel", **options)


def number(X: np.ndarray, y: np.ndarray, **options: object) -> TargetResult:
    return evaluate_targets(X, y, task="regression", **{"repeats": 1, "names": ["age"], **options})


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 9999),
    n=st.integers(5, 60),
    folds=st.integers(2, 6),
    grouped=st.booleans(),
)
def test_folds_are_whole_groups_and_labels_are_spread(seed, n, folds, grouped):
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, 3)) < [0.5, 0.2, 0.05]).astype(float)
    Y[rng.random(Y.shape) < 0.1] = np.nan
    groups = rng.integers(0, max(n // 3, folds), n) if grouped else np.arange(n)
    folds = min(folds, len(np.unique(groups)))
    found = label_folds(Y, groups, folds, np.random.default_rng(seed))
    assert found.min() >= 0
    assert found.max() < folds
    assert len(np.unique(np.stack([groups, found]), axis=1)[0]) == len(np.unique(groups))
    if not grouped:
        sizes = np.bincount(found, minlength=folds)
        assert sizes.max() <= -(-n // folds)
        rarest = Y[:, 2] == 1
        if rarest.sum():
            spread = np.bincount(found[rarest], minlength=folds)
            assert spread.max() - spread.min() <= 1


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 9999), n=st.integers(10, 60), folds=st.integers(2, 5))
def test_each_fold_has_low_and_high_numbers(seed, n, folds):
    values = np.random.default_rng(seed).normal(size=n)
    found = value_folds(values, np.arange(n), folds, np.random.default_rng(seed))
    ranks = values.argsort().argsort()
    for fold in range(folds):
        mine = np.sort(ranks[found == fold])
        assert np.diff(mine).max(initial=0) < 2 * folds
        assert mine[0] < folds
        assert mine[-1] >= n - 2 * folds


def test_a_clear_case_is_found_and_is_better_than_the_baseline():
    X, Y, y = problem()
    found = labels(X, Y)
    assert found.metrics["map"]["value"] > 0.7 > 0.55 > found.baseline["map"]["value"]
    assert found.metrics["map"]["low"] > found.baseline["map"]["value"]
    value = number(X, y)
    assert value.metrics["r2"]["value"] > 0.6
    assert -0.2 < value.baseline["r2"]["value"] <= 0
    assert value.metrics["mae"]["high"] < value.baseline["mae"]["value"]


def test_nothing_is_learned_from_noise():
    held, r2 = {"auroc": 0, "spearman": 0}, []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(60, 8)).astype(np.float32)
        auroc = labels(X, (rng.random((60, 3)) < 0.4).astype(float)).metrics["auroc"]
        held["auroc"] += auroc["low"] <= 0.5 <= auroc["high"]
        metrics = number(X, rng.normal(size=(60, 1))).metrics
        held["spearman"] += metrics["spearman"]["low"] <= 0 <= metrics["spearman"]["high"]
        r2.append(metrics["r2"]["value"])
    assert min(held.values()) >= 8
    assert -0.2 < np.mean(r2) <= 0.02


def test_labels_of_rows_that_a_fold_scores_take_no_part_in_its_choice():
    """Otherwise the answer for a row would change with its own label."""
    X, Y, y = problem()
    for targets, run in ((Y, labels), (y, number)):
        n = len(X)
        splits = np.array(["train"] * 45 + ["test"] * 15)
        before = run(X, targets, splits=splits)
        changed = targets.copy()
        changed[45:] = changed[45:][::-1]
        after = run(X, changed, splits=splits)
        np.testing.assert_array_equal(before.oof.repeat_predictions, after.oof.repeat_predictions)
        np.testing.assert_array_equal(before.oof.repeat_answers, after.oof.repeat_answers)
        assert before.oof.rows.tolist() == list(range(45, n))
        assert before.protocol == "holdout"


def test_thresholds_are_chosen_among_the_training_rows():
    X, Y, _ = problem(200, noise=1.0)
    splits = np.array(["train"] * 150 + ["test"] * 50)
    found = labels(X, Y, splits=splits)
    assert found.fitted.thresholds.shape == (3,)
    p = found.oof.repeat_predictions[0]
    np.testing.assert_array_equal(
        found.oof.repeat_answers[0], p >= found.fitted.thresholds.astype(np.float32)
    )
    ours = f1_score(Y[150:], found.oof.repeat_answers[0], average="macro")
    assert found.metrics["macro_f1"]["value"] == pytest.approx(ours)
    assert (found.fitted.thresholds < 0.5).sum() >= 2  # rare labels are answered below one half


def test_copies_never_stand_on_both_sides_and_the_score_does_not_rise():
    X, Y, y = problem(40, noise=3.0, seed=5)
    keys = np.zeros((40, 32), np.uint8)
    keys[:, 0] = np.arange(40)
    twice = np.concatenate([np.arange(40), np.arange(40)])
    for targets, run, name in ((Y, labels, "auroc"), (y, number, "r2")):
        once = run(X, targets, keys=keys)
        double = run(X[twice], targets[twice], keys=keys[twice])
        images = double.oof.images
        for folds in double.oof.repeat_folds:
            assert len(np.unique(np.stack([images, folds]), axis=1)[0]) == 40
        leaking = run(X[twice], targets[twice])
        assert leaking.metrics[name]["value"] > double.metrics[name]["value"] + 0.1
        assert double.metrics[name]["value"] < once.metrics[name]["value"] + 0.15


def test_copies_do_not_lead_the_choice_either():
    """A fit that knows its images by heart would win on inner folds that hold copies of them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 80)).astype(np.float32)
    twice = np.tile(np.arange(40), 2)
    keys = np.zeros((80, 32), np.uint8)
    keys[:, 0] = twice
    y = rng.normal(size=(40, 1))
    grouped, leaking = number(X[twice], y[twice], keys=keys), number(X[twice], y[twice])
    assert leaking.params["alpha"] < 100 < 10_000 < grouped.params["alpha"]


def test_groups_are_scored_by_others_and_widen_the_interval():
    X, _, y = problem(60)
    groups = np.arange(60) // 6
    shift = np.random.default_rng(1).normal(size=10)[groups, None] * 8
    found = number(X, y + shift, groups=groups)
    assert len(np.unique(np.stack([groups, found.oof.repeat_folds[0]]), axis=1)[0]) == 10
    assert "groups" in found.metrics["r2"]["method"]
    free = number(X, y + shift)
    width = [f.metrics["mae"]["high"] - f.metrics["mae"]["low"] for f in (found, free)]
    assert width[0] > 1.3 * width[1]


def test_unknown_rows_are_left_out_and_unknown_cells_are_not():
    X, Y, y = problem()
    Y[:5] = np.nan
    Y[5:20, 0] = np.nan
    found = labels(X, Y)
    assert found.n_unlabelled == 5
    assert found.oof.rows.tolist() == list(range(5, 60))
    assert [row["n"] for row in found.per_label] == [40, 55, 55]
    y[:3] = np.nan
    assert number(X, y).n_test == 57


def test_labels_with_few_positives_are_named():
    X, Y, _ = problem()
    Y[:, 1] = 0
    Y[:4, 1] = 1
    Y[:, 2] = 0
    notes = " ".join(labels(X, Y).notes)
    assert "fewer than 20 scored images have the label" in notes
    assert "bee (4)" in notes
    assert "no scored image has the label cow" in notes
    assert "all or none of the training images have cow" in notes


def test_tiles_answer_together():
    X, Y, y = problem(30)
    keys = np.zeros((60, 32), np.uint8)
    keys[:, 0] = np.arange(60) // 2
    both = np.repeat(np.arange(30), 2)
    X2 = X[both] + np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32) * 0.1
    for targets, run in ((Y, labels), (y, number)):
        found = run(X2, targets[both], keys=keys, views=2)
        p = found.oof.repeat_predictions[0]
        np.testing.assert_array_equal(p[::2], p[1::2])
        assert (found.n_test, found.n_train) == (30, 30)


def test_equal_input_gives_equal_arrays():
    X, Y, _ = problem(30)
    a, b = labels(X, Y, repeats=2), labels(X, Y, repeats=2)
    np.testing.assert_array_equal(a.oof.repeat_predictions, b.oof.repeat_predictions)
    np.testing.assert_array_equal(a.fitted.head.coef_, b.fitted.head.coef_)
    assert a.metrics == b.metrics
    assert a.protocol == "nested-5x2"
    other = labels(X, Y, repeats=2, seed=1)
    assert (a.oof.repeat_folds != other.oof.repeat_folds).any()


def test_a_holdout_by_hash_keeps_its_rows_when_rows_are_added():
    X, Y, _ = problem(80)
    keys = np.random.default_rng(0).integers(0, 256, (80, 32)).astype(np.uint8)
    first = labels(X[:60], Y[:60], keys=keys[:60], holdout=0.3)
    more = labels(X, Y, keys=keys, holdout=0.3)
    assert set(first.oof.rows) == {row for row in more.oof.rows if row < 60}


def test_the_residual_quantile_is_a_rank():
    y = np.arange(20.0)
    assert residual_quantile(y, np.zeros(20), np.arange(20)) == 18.0  # ceil(21 * 0.9) = 19
    assert residual_quantile(y[:9], np.zeros(9), np.arange(9)) == 8.0
    # Of fewer than 9 there is no error that 90 % stay below for sure.
    assert np.isnan(residual_quantile(y[:8], np.zeros(8), np.arange(8)))


def test_the_baseline_is_the_best_answer_that_looks_at_nothing():
    rng = np.random.default_rng(0)
    for _ in range(20):
        Y = rng.random((50, 4)) < rng.random(4)
        best = best_constant(Y.sum(axis=0).astype(float), np.full(4, 50.0))
        every = [np.array([i >> b & 1 for b in range(4)], bool) for i in range(1, 16)]
        scores = [f1_score(Y, np.tile(c, (50, 1)), average="micro", zero_division=0) for c in every]
        ours = f1_score(Y, np.tile(best, (50, 1)), average="micro", zero_division=0)
        assert ours == pytest.approx(max(scores))


def test_a_choice_goes_by_what_was_asked():
    """The first setting ranks better, the second has the smaller loss."""
    Y = np.array([[1.0], [1.0], [0.0], [0.0]] * 5)
    ranks = np.where(Y == 1, 20.1, 20.0)
    close = np.where(Y == 1, 2.0, -2.0)
    close[:2] = -2.0
    scores = [np.stack([ranks, close])] * 3
    weights = [np.ones(20)] * 3
    for metric, index in (("map", 0), ("auroc", 0), ("log_loss", 1)):
        chosen = choose_target(
            "multilabel", scores, [Y] * 3, weights, 0.5, metric=metric, select="best"
        )
        assert chosen.choice.index == index


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"head": "svm"}, "the head svm cannot do multilabel"),
        ({"metric": "r2"}, "--metric r2 says nothing about multilabel"),
        ({"scaling": "best"}, "no scaling 'best'"),
        ({"class_weight": "search"}, "--class-weight search"),
        ({"folds": 1}, "--folds is 1"),
        ({"holdout": 0.5}, "no keys"),
    ],
)
def test_what_cannot_be_is_said(options: dict, told: str):
    X, Y, _ = problem(20)
    with pytest.raises(FitError, match=told):
        labels(X, Y, **options)


def test_data_that_cannot_be_judged_are_refused():
    X, _Y, y = problem(20)
    with pytest.raises(FitError, match="age is 3 in all training images"):
        number(X, np.full((20, 1), 3.0))
    with pytest.raises(FitError, match="no label is there in some"):
        labels(X, np.ones((20, 3)))
    with pytest.raises(FitError, match="none of the 20 images has a label"):
        number(X, np.full((20, 1), np.nan))
    with pytest.raises(FitError, match="3 different images or groups"):
        number(X[:3], y[:3])
    with pytest.raises(FitError, match="none is left to train on"):
        number(X, y, splits=np.full(20, "test"))


def test_a_test_row_that_is_a_copy_of_a_training_row_is_dropped():
    _, Y, _ = problem(20)
    images = np.arange(20)
    images[19] = 0
    plan = plan_targets(
        Y,
        "multilabel",
        NAMES,
        splits=np.array(["train"] * 12 + ["test"] * 8),
        images=images,
        groups=images,
        sides=None,
        folds=5,
        repeats=1,
        seed=0,
    )
    assert plan.rows.test.tolist() == list(range(12, 19))
    assert plan.rows.n_dropped == 1
    assert "1 test image dropped" in " ".join(plan.notes)
