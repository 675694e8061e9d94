"""Intervals hold what they claim, stay inside [0, 1], and never shrink to nothing."""

import numpy as np
import pytest
from bottleneck_probe.evaluate import metrics
from bottleneck_probe.evaluate.intervals import (
    bca_macro_f1,
    clopper_pearson,
    effective_size,
    learning_gain,
    log_interval,
    wilson,
    with_intervals,
)
from common import effort
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, bootstrap


@pytest.mark.parametrize(("k", "n"), [(0, 5), (45, 50), (50, 50), (180, 200), (1, 3)])
def test_wilson_agrees_with_scipy(k, n):
    theirs = binomtest(k, n).proportion_ci(method="wilson")
    assert [float(b) for b in wilson(k / n, n)] == pytest.approx([theirs.low, theirs.high])


@pytest.mark.parametrize(("k", "n"), [(0, 5), (45, 50), (50, 50), (180, 200), (1, 3)])
def test_clopper_pearson_agrees_with_scipy(k, n):
    theirs = binomtest(k, n).proportion_ci(method="exact")
    assert clopper_pearson(k / n, n) == pytest.approx((theirs.low, theirs.high))


def test_next_to_the_ceiling_a_cross_validated_interval_is_the_exact_one():
    """2 of 60 wrong: Wilson's interval on n / 1.5 ends below 0.993, where the truth often was.

    The kept probe learned from more images than the folds: that it makes no mistake is not excluded.
    """
    confusion = np.array([[29, 1], [1, 29]])
    found = with_intervals(confusion, shrink=1.5)
    assert wilson(58 / 60, 40)[1] < 0.993 < found["accuracy"]["high"]
    exact, plain = clopper_pearson(58 / 60, 50), wilson(58 / 60, 50)
    assert found["accuracy"]["low"] == pytest.approx(min(exact[0], plain[0]))
    assert found["accuracy"]["high"] == found["balanced_accuracy"]["high"] == 1.0
    floor = with_intervals(confusion[:, ::-1], shrink=1.5)["accuracy"]
    assert floor["high"] == pytest.approx(1 - found["accuracy"]["low"])
    assert floor["low"] == 0.0
    assert "clopper-pearson" in found["accuracy"]["method"]
    assert "n / 1.2" in found["accuracy"]["method"]
    middle = with_intervals(np.array([[20, 10], [10, 20]]), shrink=1.5)
    held_out = with_intervals(confusion)
    assert "clopper" not in middle["accuracy"]["method"] + held_out["accuracy"]["method"]


def test_across_folds_balanced_accuracy_of_equal_classes_is_as_sure_as_accuracy():
    """The recalls of ten classes of 3 differ by chance, which made the interval narrower."""
    recalls = np.array([3, 3, 3, 3, 3, 0, 0, 0, 0, 3])
    confusion = np.diag(recalls) + np.roll(np.diag(3 - recalls), 1, axis=1)
    across = with_intervals(confusion, shrink=1.5)
    assert across["balanced_accuracy"]["low"] == pytest.approx(across["accuracy"]["low"])
    held_out = with_intervals(confusion)
    assert held_out["balanced_accuracy"]["low"] > held_out["accuracy"]["low"]


def test_groups_and_the_learning_curve_move_the_bounds_they_say():
    confusion = np.array([[20, 10], [10, 20]])
    plain = with_intervals(confusion, shrink=1.5)
    grouped = with_intervals(confusion, shrink=1.5, design={"accuracy": 4.0, "macro_f1": 4.0})
    low, high = wilson(40 / 60, 10)
    assert (grouped["accuracy"]["low"], grouped["accuracy"]["high"]) == pytest.approx(
        (float(low), float(high))
    )
    assert grouped["macro_f1"]["high"] > plain["macro_f1"]["high"]
    assert grouped["balanced_accuracy"] == plain["balanced_accuracy"]
    raised = with_intervals(confusion, shrink=1.5, gain={"accuracy": 0.04})
    assert raised["accuracy"]["high"] == pytest.approx(plain["accuracy"]["high"] + 0.04)
    assert raised["accuracy"]["low"] == plain["accuracy"]["low"]
    assert "up to 4.0 points" in raised["accuracy"]["method"]


def test_the_gain_is_that_of_a_straight_line_over_the_logarithm():
    assert learning_gain(0.8, 0.7, 0.5, 0.25) == pytest.approx(0.1)
    assert learning_gain(0.7, 0.8, 0.5, 0.25) == 0
    assert learning_gain(0.8, 0.7, 0.0, 0.0) == 0
    assert learning_gain(float("nan"), 0.7, 0.5, 0.25) == 0
    # error = 1 / sqrt(n): the curve flattens, so the line promises more than comes.
    error = [n**-0.5 for n in (64, 80, 100)]
    promised = learning_gain(1 - error[1], 1 - error[0], 0.8, 0.64)
    assert error[1] - error[2] < promised < 1.2 * (error[1] - error[2])


@pytest.mark.parametrize(("value", "variance"), [(0.0, 0.0), (0.4, 0.0), (0.4, 0.04), (9.0, 50.0)])
@pytest.mark.parametrize("n", [1.0, 2.5, 100.0])
def test_the_interval_of_a_loss_has_a_width_and_holds_it(value, variance, n):
    low, high = log_interval(value, variance, n, np.log(2))
    assert 0 <= low <= value <= high < np.inf
    assert high - low > 0.003


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.lists(st.integers(0, 30), min_size=3, max_size=3), min_size=3, max_size=3).filter(
        lambda rows: sum(map(sum, rows)) > 0
    ),
    st.sampled_from([1.0, 1.5]),
)
def test_every_interval_is_inside_holds_the_value_and_has_a_width(rows, shrink):
    for name, metric in with_intervals(np.array(rows), shrink=shrink).items():
        assert list(metric) == ["value", "low", "high", "level", "method"], name
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
        assert metric["high"] - metric["low"] > 0.005
        assert metric["level"] == 0.95


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from([0, 1 / 7, 0.5, 1, 2.25]), min_size=9, max_size=9).filter(any))
def test_fractions_of_images_have_intervals_too(cells):
    for metric in with_intervals(np.reshape(cells, (3, 3))).values():
        assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
        assert metric["low"] < metric["high"]


@pytest.mark.parametrize("matrix", [[[30, 0], [0, 30]], [[30, 0], [30, 0]], [[0, 30], [30, 0]]])
def test_where_nothing_varies_wilson_takes_over(matrix):
    matrix = np.array(matrix)
    assert bca_macro_f1(matrix) is None
    assert with_intervals(matrix)["macro_f1"]["method"].startswith("wilson")


def test_classes_that_are_all_right_or_all_wrong_do_not_shrink_it_to_a_point():
    """Draws then differ only by where the wrong answers went."""
    matrix = np.array([[0, 1, 4], [0, 8, 0], [0, 0, 5]])
    low, high = bca_macro_f1(matrix)
    assert high - low < 0.005
    found = with_intervals(matrix)["macro_f1"]
    assert found["low"] < 0.45 < 0.65 < found["high"]
    assert "wilson" in found["method"]


def test_bca_agrees_with_scipy():
    rng = np.random.default_rng(0)
    confusion = np.array([[40, 8, 2], [6, 30, 4], [3, 5, 22]])
    cells = np.repeat(np.arange(9), confusion.reshape(-1))
    ours = bca_macro_f1(confusion, draws=20_000)

    def statistic(sample, axis=-1):
        counts = np.stack([np.sum(sample == c, axis=axis) for c in range(9)], axis=-1)
        return metrics.macro_f1(counts.reshape(*counts.shape[:-1], 3, 3))

    # scipy does not resample inside classes, so its interval is a little wider.
    theirs = bootstrap(
        (cells,), statistic, n_resamples=4000, method="BCa", rng=rng, vectorized=True
    ).confidence_interval
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.02)


class CountingRandom:
    """NumPy's generator; counts the cells that it draws."""

    def __init__(self, rng):
        self.rng, self.cells = rng, 0

    def multinomial(self, n, p, size):
        self.cells += len(p) * size
        return self.rng.multinomial(n, p, size=size)


def test_bca_of_a_hundred_classes_draws_what_there_is_and_no_table_of_zeros(monkeypatch):
    rng = np.random.default_rng(0)
    y = rng.integers(100, size=5000)
    predicted = np.where(rng.random(5000) < 0.8, y, rng.integers(100, size=5000))
    confusion = metrics.confusion_matrix(y, predicted, 100)
    counting = CountingRandom(np.random.default_rng(0))
    with monkeypatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda seed: counting)
        first = bca_macro_f1(confusion, draws=2000)
    assert counting.cells == 2000 * np.count_nonzero(confusion) < 2000 * 100**2 / 8
    assert first == bca_macro_f1(confusion, draws=2000)
    lines, peak = effort(lambda: bca_macro_f1(confusion, draws=2000))
    assert lines < 5000  # no loop over the images
    assert peak < 2000 * 100**2  # bytes: less than one for each cell of all draws


def test_effective_size_counts_equal_classes_in_full():
    assert effective_size(np.full(4, 0.8), np.full(4, 25.0)) == pytest.approx(100)
    assert effective_size(np.full(2, 0.8), np.array([95.0, 5.0])) < 25


@pytest.mark.parametrize(
    ("sizes", "right"),
    [((25, 25), 0.9), ((40, 10), 0.8), ((5,) * 10, 0.85), ((20, 20, 20), 1 / 3)],
    ids=["two classes", "imbalanced", "ten small classes", "chance"],
)
def test_intervals_cover_as_often_as_they_claim(sizes, right):
    """Confusion matrices drawn from known rates; 95 % claimed, 400 draws, three errors of slack."""
    rng = np.random.default_rng(0)
    k = len(sizes)
    rates = np.full((k, k), (1 - right) / (k - 1))
    np.fill_diagonal(rates, right)
    truth = metrics.values(np.array(sizes)[:, None] * rates)
    held = dict.fromkeys(truth, 0)
    for _ in range(400):
        drawn = np.stack([rng.multinomial(n, p) for n, p in zip(sizes, rates, strict=True)])
        for name, metric in with_intervals(drawn).items():
            held[name] += metric["low"] <= truth[name] <= metric["high"]
    assert min(held.values()) / 400 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 400) - 0.01
