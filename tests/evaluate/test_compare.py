"""Paired tests against independent references, and that nothing is claimed too often."""

from types import SimpleNamespace

import numpy as np
import pytest
from bottleneck_probe.evaluate import evaluate
from bottleneck_probe.evaluate.compare import Difference, _on_images, compare, recommend
from bottleneck_probe.evaluate.intervals import CV_SHRINK, with_intervals
from bottleneck_probe.evaluate.metrics import ANSWERS, confusion_matrix
from bottleneck_probe.evaluate.paired import (
    PairedCounts,
    accuracy_interval,
    corrected_t,
    correlation,
    exact_mcnemar,
    holm,
    newcombe,
)
from bottleneck_probe.evaluate.splits import copy_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

SCORES = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda y, answers: f1_score(y, answers, average="macro"),
}
counts = st.integers(0, 60)


def clouds(seed, n=60, k=2, d=8, gap=1.5, sets=2, better=0.0):
    """Labels, and sets of features that separate them equally well; the first one `better`."""
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % k).astype(np.int32)
    ahead = [better, *[0.0] * (sets - 1)]
    return y, [
        (rng.normal(size=(n, d)) + (gap + more) / np.sqrt(2) * np.eye(k, d)[y]).astype(np.float32)
        for more in ahead
    ]


def scored(y, answers, folds=None, images=None):
    """What `compare` reads of a result, for given answers (repeats, m) and folds (repeats, m)."""
    y, answers = np.asarray(y), np.atleast_2d(answers)
    k = int(max(y.max(), answers.max())) + 1
    images = np.arange(len(y)) if images is None else images
    weights = copy_weights(images)
    confusion = np.mean([confusion_matrix(y, a, k, weights) for a in answers], axis=0)
    held_out = folds is None
    folds = np.zeros_like(answers) if held_out else np.atleast_2d(folds)
    return SimpleNamespace(
        classes=[str(c) for c in range(k)],
        protocol="holdout" if held_out else "nested-5x1",
        held_out=held_out,
        n_train=2 * len(y) if held_out else len(y),
        metrics=with_intervals(confusion, shrink=1.0 if held_out else CV_SHRINK),
        oof=SimpleNamespace(
            rows=np.arange(len(y)), y=y, images=images, repeat_folds=folds, answers=answers
        ),
    )


def answers_of(y, wrong):
    """Right answers but for the rows in `wrong`; two classes."""
    return np.where(np.isin(np.arange(len(y)), wrong), 1 - y, y)


# --- the tests and intervals, against references ---------------------------------------------


@given(only_a=counts, only_b=counts)
def test_mcnemar_is_the_exact_binomial_test(only_a, only_b):
    n = only_a + only_b
    expected = stats.binomtest(only_a, n, 0.5).pvalue if n else 1.0
    assert exact_mcnemar(only_a, only_b) == pytest.approx(expected, abs=1e-12)


def test_averaged_counts_lie_between_whole_ones():
    values = [exact_mcnemar(b, 2) for b in np.linspace(2, 12, 41)]
    assert np.all(np.diff(values) <= 1e-12)
    assert exact_mcnemar(8.5, 2) == pytest.approx(
        np.sqrt(exact_mcnemar(8, 2) * exact_mcnemar(9, 2)), rel=0.05
    )


@pytest.mark.parametrize(
    ("table", "published"),
    [((36, 12, 2, 0), (0.0569, 0.3404)), ((1, 1, 7, 12), (-0.507, -0.026))],
    ids=["Newcombe 1998", "Fagerland 2014"],
)
def test_the_interval_of_paired_proportions_is_the_published_one(table, published):
    both, only_a, only_b, _ = table
    n = sum(table)
    found = newcombe((both + only_a) / n, (both + only_b) / n, n, correlation(*table))
    assert found == pytest.approx(published, abs=6e-4)


@settings(deadline=None, max_examples=200)
@given(both=counts, only_a=counts, only_b=counts, neither=counts)
def test_interval_and_p_never_contradict(both, only_a, only_b, neither):
    n = both + only_a + only_b + neither
    if not n:
        return
    low, high = accuracy_interval(both, only_a, only_b, neither)
    assert -1 - 1e-9 <= low <= (only_a - only_b) / n <= high <= 1 + 1e-9
    assert high > low
    if exact_mcnemar(only_a, only_b) >= 0.05:
        assert low <= 1e-9
        assert high >= -1e-9
    swapped = accuracy_interval(both, only_b, only_a, neither)
    assert swapped == pytest.approx((-high, -low), abs=1e-9)


@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.1, 0.1), (0.9, 0.06, 0.02, 0.02)])
@pytest.mark.parametrize("n", [30, 150])
def test_the_interval_holds_the_difference_as_often_as_it_says(n, shares):
    drawn = np.random.default_rng(n).multinomial(n, shares, size=600)
    truth = shares[1] - shares[2]
    held = [low <= truth <= high for low, high in (accuracy_interval(*row) for row in drawn)]
    assert np.mean(held) > 0.95 - 3 * np.sqrt(0.05 * 0.95 / 600)


@settings(deadline=None, max_examples=100)
@given(
    differences=st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=50),
    ratio=st.floats(0, 1),
)
def test_corrected_t_is_the_formula_of_the_paper(differences, ratio):
    count, mean = len(differences), sum(differences) / len(differences)
    variance = 0.0
    for each in differences:
        variance += (each - mean) ** 2 / (count - 1)
    error = ((1 / count + ratio) * variance) ** 0.5
    found = corrected_t(differences, ratio)
    assert found.standard_error == pytest.approx(error, abs=1e-12)
    assert found.df == count - 1
    if error > 1e-6:
        expected = 2 * stats.t.sf(abs(mean) / error, count - 1)
        assert found.p(mean) == pytest.approx(expected)
        low, high = found.interval(mean)
        assert (low <= 0 <= high) == (expected >= 0.05)


def test_without_the_correction_it_is_the_t_test_of_scipy():
    differences = np.random.default_rng(0).normal(0.02, 0.05, 10)
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert corrected_t(differences, 0).p(differences.mean()) == pytest.approx(expected)
    assert corrected_t(differences, 0.25).p(differences.mean()) > expected


@given(p=st.lists(st.floats(0, 0.2), min_size=1, max_size=6), alpha=st.floats(0.001, 0.3))
def test_holm_rejects_what_its_steps_reject(p, alpha):
    order = sorted(range(len(p)), key=lambda i: p[i])
    rejected, expected, largest = set(), [0.0] * len(p), 0.0
    for step, i in enumerate(order):
        if len(rejected) == step and p[i] <= alpha / (len(p) - step):
            rejected.add(i)
        largest = max(largest, p[i] * (len(p) - step))
        expected[i] = min(largest, 1.0)
    adjusted = holm(p)
    assert adjusted == pytest.approx(expected)
    for i, value in enumerate(adjusted):
        if abs(value - alpha) > 1e-9:
            assert (value < alpha) == (i in rejected)


# --- drawing images --------------------------------------------------------------------------


def random_answers(seed, n=80, k=3, repeats=1):
    rng = np.random.default_rng(seed)
    y = rng.choice(k, n, p=[0.6, 0.3, 0.1])
    a, b = (
        np.where(rng.random((repeats, n)) < right, y, rng.integers(0, k, (repeats, n)))
        for right in (0.75, 0.6)
    )
    return y, a, b


def test_swapping_answers_agrees_with_mcnemar_where_accuracy_is_compared():
    y, a, b = random_answers(5)
    found = PairedCounts(y, a, b, np.arange(80), 3, "accuracy").swap(20_000)[0]
    only_a = np.sum((a == y) & (b != y))
    only_b = np.sum((a != y) & (b == y))
    assert 0.001 < found < 0.9
    assert found == pytest.approx(exact_mcnemar(only_a, only_b), rel=0.15)


@pytest.mark.parametrize("metric", ANSWERS)
def test_the_randomisation_test_is_a_loop_over_swaps(metric):
    y, a, b = random_answers(5)
    rng, score = np.random.default_rng(1), SCORES[metric]
    found = abs(score(y, a[0]) - score(y, b[0]))
    extreme = 0
    for _ in range(400):
        swap = rng.random(len(y)) < 0.5
        one, two = np.where(swap, b[0], a[0]), np.where(swap, a[0], b[0])
        extreme += abs(score(y, one) - score(y, two)) >= found - 1e-9
    p, reach = PairedCounts(y, a, b, np.arange(80), 3, metric).swap()
    assert (found <= reach) == (p >= 0.05)
    assert p == pytest.approx((extreme + 1) / 401, abs=0.07)


@pytest.mark.parametrize("metric", ANSWERS)
def test_the_bootstrap_draws_images_within_their_class(metric):
    y, a, b = random_answers(2)
    rng, score = np.random.default_rng(0), SCORES[metric]
    loop = []
    for _ in range(400):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(y == c), np.sum(y == c)) for c in range(3)]
        )
        loop.append(score(y[rows], a[0, rows]) - score(y[rows], b[0, rows]))
    drawn = PairedCounts(y, a, b, np.arange(80), 3, metric).bootstrap()
    assert drawn.mean() == pytest.approx(np.mean(loop), abs=0.02)
    assert np.quantile(drawn, [0.025, 0.975]) == pytest.approx(
        np.quantile(loop, [0.025, 0.975]), abs=0.04
    )


def test_the_bootstrap_keeps_the_size_of_each_class():
    """Class 1 alone is answered differently, and always so: the difference is its share."""
    y = np.repeat([0, 1], [30, 10])
    drawn = PairedCounts(y, y[None], np.zeros((1, 40), int), np.arange(40), 2, "accuracy")
    assert drawn.bootstrap() == pytest.approx(0.25)


def test_few_draws_at_a_time_are_the_same_draws(monkeypatch):
    y, a, b = random_answers(4)
    paired = PairedCounts(y, a, b, np.arange(80), 3, "macro_f1")
    whole = paired.swap()
    monkeypatch.setattr("bottleneck_probe.evaluate.paired._BLOCK", 2000)
    assert paired.swap() == pytest.approx(whole, abs=0.02)
    assert len(paired.bootstrap(1001)) == 1001


# --- whole comparisons -----------------------------------------------------------------------


def test_one_test_set_is_mcnemar_on_its_images():
    y, sets = clouds(0, n=160, better=1.0)
    splits = np.where(np.arange(160) < 80, "train", "test")
    one, two = (evaluate(X, y, classes=["a", "b"], splits=splits) for X in sets)
    (found,) = compare([one, two])
    a, b = (r.fitted.predict(X[80:]) == y[80:] for r, X in zip((one, two), sets, strict=True))
    only_a, only_b = int(np.sum(a & ~b)), int(np.sum(~a & b))
    assert only_a != only_b
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert found.p == found.p_adjusted == pytest.approx(expected)
    assert found.difference["value"] == pytest.approx((only_a - only_b) / 80)
    assert found.test == "exact mcnemar"


@pytest.mark.parametrize("metric", ANSWERS)
def test_cross_validation_is_the_corrected_t_of_fold_differences(metric):
    y, sets = clouds(1, n=60, k=3, better=0.5)
    options = {"classes": ["a", "b", "c"], "repeats": 3, "head_options": {"C": 0.1}}
    one, two = (evaluate(X, y, **options) for X in sets)
    (found,) = compare([one, two], metric=metric)
    assert found.test == "corrected resampled t, df 14"
    differences = []
    for repeat in range(3):
        for fold in range(5):
            here = one.oof.repeat_folds[repeat] == fold
            a, b = (SCORES[metric](y[here], r.oof.answers[repeat, here]) for r in (one, two))
            differences.append(a - b)
    value = one.metrics[metric]["value"] - two.metrics[metric]["value"]
    error = np.std(differences, ddof=1) * np.sqrt(1 / 15 + 12 / 48)
    assert found.difference["value"] == value
    if metric == "accuracy":  # folds of equal size: their mean is the score itself
        assert value == pytest.approx(np.mean(differences))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(value) / error, 14))
    half = stats.t.ppf(0.975, 14) * error
    assert found.difference["low"] == pytest.approx(value - half)
    assert found.difference["high"] == pytest.approx(value + half)


def test_the_answers_kept_are_those_that_were_scored():
    y, (X, _) = clouds(2, n=45, k=3)
    result = evaluate(X, y, classes=["a", "b", "c"], folds=3, repeats=2)
    oof = result.oof
    assert oof.answers.shape == oof.repeat_folds.shape == (2, 45)
    assert np.array_equal(oof.repeat_folds[0], oof.folds)
    assert not np.array_equal(oof.repeat_folds[0], oof.repeat_folds[1])
    right = np.mean(oof.answers == y)
    assert result.metrics["accuracy"]["value"] == pytest.approx(right)
    assert np.array_equal(confusion_matrix(y, oof.answers[0], 3), result.confusion)


def test_folds_that_differ_by_one_image_each_prove_nothing():
    """The t of a spread of 0 has no limit: five images were called proof, with p = 0."""
    y, folds = np.arange(60) % 2, np.arange(60) // 2 % 5
    worse = answers_of(y, [np.flatnonzero(folds == f)[0] for f in range(5)])
    one, two = scored(y, y, folds), scored(y, worse, folds)
    (found,) = compare([one, two])
    assert found.difference["value"] == pytest.approx(5 / 60)
    assert found.p == pytest.approx(0.0625)
    assert found.difference["low"] < 0
    assert "mcnemar" in found.test


@pytest.mark.parametrize("folds", [None, np.arange(40) // 2 % 5], ids=["one test set", "folds"])
@pytest.mark.parametrize("metric", ANSWERS)
def test_equal_answers_differ_by_nothing_within_a_width(metric, folds):
    y = np.arange(40) % 2
    same = scored(y, answers_of(y, [3, 8, 20]), folds)
    (found,) = compare([same, same], metric=metric)
    assert found.p == 1
    assert found.difference["value"] == 0
    assert found.difference["low"] < -0.01
    assert found.difference["high"] > 0.01


@pytest.mark.parametrize("metric", ANSWERS)
def test_copies_of_an_image_count_once(metric):
    y = np.arange(40) % 2
    a, b = answers_of(y, [0, 1]), answers_of(y, [0, 5, 6, 7, 9, 11])
    (once,) = compare([scored(y, a), scored(y, b)], metric=metric)
    order = np.repeat(np.arange(40), np.arange(40) % 3 + 1)
    copied = [scored(y[order], x[order], images=order) for x in (a, b)]
    (many,) = compare(copied, metric=metric)
    assert many.p == pytest.approx(once.p, abs=0 if metric == "accuracy" else 0.02)
    for name in ("value", "low", "high"):
        assert many.difference[name] == pytest.approx(once.difference[name], abs=0.03)
    (as_rows,) = compare([scored(y[order], x[order]) for x in (a, b)], metric=metric)
    assert as_rows.p < many.p
    errors = [
        _on_images(*pair, once.difference["value"], images, metric).standard_error
        for pair, images in (([scored(y, a), scored(y, b)], np.arange(40)), (copied, order))
    ]
    assert errors[1] == pytest.approx(errors[0], rel=0.15)


@pytest.mark.parametrize("metric", ANSWERS)
def test_the_order_of_the_sets_only_turns_the_sign(metric):
    y, a, b = random_answers(6)
    one, two = scored(y, a), scored(y, b)
    (forth,) = compare([one, two], metric=metric)
    (back,) = compare([two, one], metric=metric)
    assert back.p == pytest.approx(forth.p, abs=0.01)
    turned = back.of(1)
    for name in ("value", "low", "high"):
        assert turned[name] == pytest.approx(forth.difference[name], abs=0.02)


@pytest.mark.parametrize("seed", [14, 70, 145])
def test_an_interval_without_0_goes_with_a_small_p(seed):
    """With rare classes that are mostly missed, the bootstrap said so where p was above 0.05."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, 40, p=[0.7, 0.2, 0.1])
    a, b = (
        np.argmax(1.5 * np.eye(3)[y] + rng.normal(size=(40, 3)) + [1.0, 0.3, 0], axis=1)
        for _ in range(2)
    )
    (found,) = compare([scored(y, a), scored(y, b)], metric="macro_f1")
    assert found.p >= 0.05
    assert found.difference["low"] <= 0 <= found.difference["high"]


def test_all_pairs_are_tested_and_their_p_adjusted_together():
    y = np.arange(100) % 2
    sets = [scored(y, answers_of(y, range(wrong))) for wrong in (0, 9, 20, 24)]
    found = compare(sets)
    assert [(d.a, d.b) for d in found] == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    assert [d.p_adjusted for d in found] == holm([d.p for d in found])
    assert found[0].p < 0.05 < found[-1].p


def test_results_of_other_images_or_folds_are_refused():
    y, folds = np.arange(30) % 2, np.arange(30) // 2 % 5
    first = scored(y, y, folds)
    with pytest.raises(ValueError, match="differ in their repeat_folds"):
        compare([first, scored(y, y, (folds + 1) % 5)])
    with pytest.raises(ValueError, match="differ in their rows"):
        compare([first, scored(y[:-1], y[:-1], folds[:-1])])


# --- how often a difference is claimed -------------------------------------------------------


def claims(draws, splits=None, **how):
    """In how many of the draws some pair has an adjusted p below 0.05."""
    count = 0
    for seed in range(draws):
        y, sets = clouds(seed, **how)
        results = [
            evaluate(X, y, classes=["a", "b"], splits=splits, repeats=1, head_options={"C": 0.1})
            for X in sets
        ]
        count += min(d.p_adjusted for d in compare(results)) < 0.05
    return count


def test_sets_that_are_equally_good_are_seldom_told_apart():
    splits = np.where(np.arange(240) < 160, "train", "test")
    allowed = stats.binom.ppf(0.999, 40, 0.05)
    assert claims(40) <= allowed
    assert claims(40, splits, n=240, sets=3) <= allowed


def test_a_set_that_is_better_is_found():
    splits = np.where(np.arange(240) < 160, "train", "test")
    assert claims(10, n=200, gap=1.0, better=1.5) >= 7
    assert claims(10, splits, n=240, gap=1.0, better=1.5) >= 7


# --- which set to take -----------------------------------------------------------------------


def between(scores, p, half=0.1):
    """Differences with intervals of the given half width, and adjusted p by pair (default 1)."""
    found = []
    for a in range(len(scores)):
        for b in range(a + 1, len(scores)):
            value = scores[a] - scores[b]
            interval = {"value": value, "low": value - half, "high": value + half}
            found.append(Difference(a, b, interval, 1.0, p.get((a, b), 1.0), "by hand"))
    return found


def test_a_set_that_beats_all_others_is_taken_whatever_its_size():
    scores = [0.7, 0.95, 0.6]
    found = recommend(scores, between(scores, {(0, 1): 0.01, (1, 2): 0.001}), [(1,), (9,), (2,)])
    assert (found.take, found.best, found.worse, found.tied) == (1, 1, [0, 2], [])
    assert found.at_stake == 0


def test_the_smallest_within_one_standard_error_is_taken():
    scores = [0.90, 0.88, 0.80, 0.60]
    differences = between(scores, {(0, 3): 0.01})
    found = recommend(scores, differences, [(1280,), (320,), (40,), (8,)])
    assert (found.take, found.best) == (1, 0)  # one standard error is 0.051
    assert (found.worse, found.tied, found.near) == ([3], [1, 2], [1])
    assert found.at_stake == pytest.approx(0.12)


def test_of_equal_scores_the_cheaper_and_then_the_first_is_best():
    scores = [0.9, 0.9, 0.9]
    found = recommend(scores, between(scores, {}), [(5, -10), (5, -20), (5, -20)])
    assert (found.take, found.best) == (1, 1)
