"""All metrics of scored rows: values against scikit-learn, intervals that are intervals."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.measure import measure, measure_majority
from bottleneck_probe.evaluate.metrics import METRICS
from common import effort
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

UPPER = {"brier": 2.0, "log_loss": np.inf}


def made(m, k=3, repeats=1, folds=1, gap=1.0, seed=0):
    """Labels, probabilities (repeats, m, k) and folds (repeats, m)."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(m) % k)
    scores = rng.normal(size=(repeats, m, k))
    scores[:, np.arange(m), y] += gap
    p = np.exp(scores) / np.exp(scores).sum(axis=2, keepdims=True)
    fold = np.stack([rng.permutation(np.arange(m) % folds) for _ in range(repeats)])
    return y, p.astype(np.float32), fold


def found_in(y, p, folds, *, groups=None, images=None, held_out=True, **more):
    rows = np.arange(len(y)) if images is None else images
    return measure(
        y,
        p,
        images=rows,
        groups=rows if groups is None else groups,
        folds=folds,
        held_out=held_out,
        **more,
    )


def test_values_of_a_test_set_are_scikit_learns():
    y, p, folds = made(80)
    found, answer = found_in(y, p, folds), p[0].argmax(axis=1)
    wide = p[0].astype(np.float64)
    wide /= wide.sum(axis=1, keepdims=True)
    expected = {
        "accuracy": reference.accuracy_score(y, answer),
        "balanced_accuracy": reference.balanced_accuracy_score(y, answer),
        "macro_f1": reference.f1_score(y, answer, average="macro"),
        "log_loss": reference.log_loss(y, wide),
        "auroc": reference.roc_auc_score(y, wide, multi_class="ovr"),
        "average_precision": reference.average_precision_score(np.eye(3)[y], wide, average="macro"),
        "brier": reference.brier_score_loss(y, wide, scale_by_half=False),
    }
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert list(found) == list(METRICS)


def test_repeats_and_folds_are_averaged_and_never_pooled():
    y, p, folds = made(60, repeats=3, folds=4)
    p[1] = p[1] ** 3 / (p[1] ** 3).sum(axis=1, keepdims=True)
    found = found_in(y, p, folds, held_out=False)
    areas = [
        reference.roc_auc_score(y[f == i] == c, q[f == i, c])
        for q, f in zip(p, folds, strict=True)
        for i in range(4)
        for c in range(3)
    ]
    assert found["auroc"]["value"] == pytest.approx(np.mean(areas))
    losses = [reference.log_loss(y, q / q.sum(axis=1, keepdims=True)) for q in p.astype(float)]
    assert found["log_loss"]["value"] == pytest.approx(np.mean(losses), rel=1e-5)
    accuracies = [np.mean(q.argmax(axis=1) == y) for q in p]
    assert found["accuracy"]["value"] == pytest.approx(np.mean(accuracies))


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 10**6),
    st.integers(2, 30),
    st.integers(2, 4),
    st.sampled_from([0.0, 2.0, 50.0]),
    st.booleans(),
    st.sampled_from([1, 2, 5]),
)
def test_every_interval_is_inside_holds_the_value_and_has_a_width(seed, m, k, gap, held_out, size):
    y, p, folds = made(m, k, 1 if held_out else 2, 1 if held_out else 2, gap, seed)
    for name, found in found_in(
        y, p, folds, held_out=held_out, groups=np.arange(m) // size
    ).items():
        assert list(found) == ["value", "low", "high", "level", "method"]
        if np.isnan(found["value"]):
            assert name in ("auroc", "average_precision")
            assert np.isnan(found["low"])
            continue
        assert 0 <= found["low"] <= found["value"] <= found["high"] <= UPPER.get(name, 1.0)
        assert found["high"] - found["low"] > 1e-3


def test_one_class_has_no_area():
    _, p, folds = made(20)
    found = found_in(np.zeros(20, int), p, folds)
    assert np.isnan(found["auroc"]["value"])
    assert "undefined" in found["auroc"]["method"]
    assert found["accuracy"]["value"] == np.mean(p[0].argmax(axis=1) == 0)


def test_copies_count_as_one_image_together():
    y, p, folds = made(20, k=2)
    order = np.repeat(np.arange(20), np.arange(20) % 4 + 1)
    once = found_in(y, p, folds)
    many = found_in(y[order], p[:, order], folds[:, order], images=order)
    for name in METRICS:
        for bound in ("value", "low", "high"):
            assert many[name][bound] == pytest.approx(once[name][bound], abs=1e-9), name


@pytest.mark.parametrize("name", METRICS)
def test_groups_widen(name):
    """Photographs of a patient are answered alike: 20 patients are worth less than 200 photographs."""
    y, p, folds = made(20, k=2, gap=2.0, seed=3)
    order = np.repeat(np.arange(20), 10)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(1, 200, 2))
    close = np.clip(p[:, order] + noise, 0.001, 1)
    close /= close.sum(axis=2, keepdims=True)
    args = y[order], close, folds[:, order]
    alone, joined = found_in(*args), found_in(*args, groups=order)
    assert joined[name]["value"] == alone[name]["value"]
    width, wider = (m[name]["high"] - m[name]["low"] for m in (alone, joined))
    assert wider > 1.5 * width
    assert "groups" in joined[name]["method"]


def test_folds_widen_and_a_steep_learning_curve_raises_the_upper_bound():
    y, p, folds = made(100, folds=5)
    held, across = found_in(y, p, folds * 0), found_in(y, p, folds, held_out=False)
    for name in METRICS:
        assert across[name]["high"] - across[name]["low"] > held[name]["high"] - held[name]["low"]
    inner = {"confusion": 10.0 + 12 * np.eye(3), "outer_share": 0.8, "inner_share": 0.64}
    steep = found_in(y, p, folds, held_out=False, inner=inner)
    gained = steep["accuracy"]["value"] - 22 / 42
    assert gained > 0.05
    assert steep["accuracy"]["high"] == pytest.approx(across["accuracy"]["high"] + gained)
    assert steep["accuracy"]["low"] == across["accuracy"]["low"]
    assert "points for training on all" in steep["accuracy"]["method"]
    flat = found_in(y, p, folds, held_out=False, inner=inner | {"confusion": 40 * np.eye(3)})
    # 27 images of a class in the training parts: next to nothing is added.
    assert flat["accuracy"]["high"] == pytest.approx(across["accuracy"]["high"], abs=0.004)


def test_of_three_images_of_a_class_the_third_is_expected_to_help_even_if_the_slope_is_flat():
    y, p, folds = made(30, k=10, folds=3, gap=2.0)
    inner = {"confusion": np.eye(10), "outer_share": 2 / 3, "inner_share": 1 / 3}
    across = found_in(y, p, folds, held_out=False)
    found = found_in(y, p, folds, held_out=False, inner=inner)
    for name in ("accuracy", "balanced_accuracy", "macro_f1"):
        more = (1 - found[name]["value"]) * (1 - (2 / 3) ** 0.5)
        assert found[name]["high"] == pytest.approx(min(across[name]["high"] + more, 1))


def test_the_baseline_knows_the_frequencies_and_nothing_else():
    y, _, folds = made(40, k=2)
    y_train = np.repeat([0, 1], [10, 30])
    rows = np.arange(40)
    found = measure_majority(
        y, y_train, np.ones(40), 2, images=rows, groups=rows, folds=folds, held_out=True
    )
    assert found["accuracy"]["value"] == 0.5
    assert found["auroc"]["value"] == 0.5
    assert found["log_loss"]["value"] == pytest.approx(-np.log([0.25, 0.75]).mean(), rel=1e-6)


@pytest.mark.parametrize(("m", "k", "repeats"), [(400, 3, 2), (1000, 10, 1)])
def test_no_loop_goes_over_the_rows_and_no_table_over_their_pairs(m, k, repeats):
    """10,000 rows take a moment (0.06 s on a free core), so that it may be asked for at each step."""

    def cost(m):
        y, p, folds = made(m, k, repeats, 5 if repeats > 1 else 1)
        return effort(lambda: found_in(y, p, folds, held_out=repeats == 1))

    (lines, peak), (more_lines, more_peak) = cost(m), cost(10 * m)
    assert more_lines < 1.1 * lines
    assert more_peak < 12 * peak


@pytest.mark.parametrize(("m", "k", "gap"), [(60, 2, 1.5), (60, 3, 3.0), (200, 3, 1.0)])
def test_intervals_of_a_test_set_cover(m, k, gap):
    """95 % claimed, 150 draws; the skew of the log loss costs a little."""
    truth = found_in(*made(60_000, k, gap=gap, seed=10**6))
    held = dict.fromkeys(METRICS, 0)
    for seed in range(150):
        for name, metric in found_in(*made(m, k, gap=gap, seed=seed)).items():
            held[name] += metric["low"] <= truth[name]["value"] <= metric["high"]
    assert {n: h for n, h in held.items() if h < 0.88 * 150} == {}
