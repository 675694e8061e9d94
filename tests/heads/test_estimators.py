"""Every head is a scikit-learn estimator, and its state survives without pickle."""

import json

import numpy as np
import pytest
from bottleneck_probe.errors import ProbeError
from bottleneck_probe.heads import (
    HEADS,
    KNNHead,
    LinearSVMHead,
    LogisticHead,
    MLPHead,
    NCMHead,
    RBFSVMHead,
    RidgeHead,
    RidgeRegressionHead,
)
from bottleneck_probe.heads.fitted import fit_head, fitted_from_state
from bottleneck_probe.heads.sweep import Job
from bottleneck_probe.heads.validation import answers, check_positive, class_weights
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.estimator_checks import parametrize_with_checks

pytestmark = pytest.mark.filterwarnings(
    # scikit-learn's checks cut training short, or give one sample a class, on purpose.
    "ignore:MLPHead:UserWarning",
    "ignore:a class has a single sample:UserWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::sklearn.exceptions.SkipTestWarning",
)


@parametrize_with_checks(
    [
        LogisticHead(),
        LinearSVMHead(),
        RBFSVMHead(),
        RBFSVMHead(class_weight="balanced"),
        RidgeHead(),
        RidgeHead(alpha=1.0, class_weight="balanced"),
        RidgeRegressionHead(),
        RidgeRegressionHead(alpha=1.0),
        KNNHead(),
        NCMHead(),
        NCMHead("euclidean", shrink_threshold=0.5),
        MLPHead(hidden=16, max_epochs=25, batch_size=32, learning_rate=0.01),
    ]
)
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)


def blobs(n_classes, n=60, d=7, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return (rng.normal(size=(n, d)) + 2 * np.eye(n_classes, d)[y]).astype(np.float32), y


def fitted(name, X, y, setting=None):
    spec = HEADS[name]
    head = spec.make(spec.grid[spec.fallback] if setting is None else setting, {}, 0)
    return fit_head(head, X, y, n_classes=int(y.max()) + 1)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_state_round_trip_predicts_bit_for_bit(name, n_classes):
    X, y = blobs(n_classes)
    one = fitted(name, X, y)
    params, arrays = one.to_state()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = fitted_from_state(json.loads(json.dumps(params)), arrays)
    assert np.array_equal(again.scores(X), one.scores(X))
    assert np.array_equal(again.predict_proba(X), one.predict_proba(X))
    assert again.head.get_params() == one.head.get_params()


def test_state_of_an_unknown_head_is_refused():
    X, y = blobs(2)
    params, arrays = fitted("logistic", X, y).to_state()
    params["head"]["class"] = "SomethingElse"
    with pytest.raises(ProbeError, match="SomethingElse"):
        fitted_from_state(params, arrays)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_agree_with_the_answer(name, n_classes):
    X, y = blobs(n_classes)
    one = fitted(name, X, y, HEADS[name].grid[-1])
    scores, answer = one.scores(X), one.head.predict(one.scaling.transform(X))
    assert scores.shape == (len(X), n_classes)
    assert np.array_equal(scores.argmax(axis=1), answer)
    assert one.predict_proba(X).sum(axis=1) == pytest.approx(1)
    assert np.mean(answer == y) > 0.8


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].batched is not None])
def test_a_sweep_over_the_whole_grid_has_scores_for_each_setting(name):
    X, y = blobs(3)
    X[:, :3] += 3 * np.eye(3, dtype=np.float32)[y]  # easy, also for one training of an MLP
    spec = HEADS[name]
    jobs = [Job(np.arange(0, 60, 2), np.arange(1, 60, 2)), Job(np.arange(48), np.arange(48, 60))]
    found = list(spec.sweep(X, y, jobs, spec.grid, {}, 0, n_classes=3, scaling="standard"))
    assert [scores.shape for scores in found] == [(len(spec.grid), m, 3) for m in (30, 12)]
    best = max(np.mean(scores.argmax(axis=1) == y[jobs[0].test]) for scores in found[0])
    assert best > 0.8
    assert all(scores.dtype == np.float32 for scores in found)


@pytest.mark.parametrize("name", HEADS)
def test_constant_features_divide_nothing_by_zero(name):
    X, y = blobs(2)
    X[:, 3] = 0.1  # not exact in binary, so that a computed variance is a rounding error
    assert np.isfinite(fitted(name, X, y).predict_proba(X)).all()


@pytest.mark.parametrize("name", HEADS)
def test_one_image_a_class_can_be_fitted(name):
    X, y = blobs(3)
    one = fitted(name, X[:3], y[:3])
    assert np.isfinite(one.scores(X)).all()


@pytest.mark.parametrize("name", HEADS)
def test_all_equal_rows_give_finite_scores(name):
    X, y = blobs(3)
    assert np.isfinite(fitted(name, np.ones_like(X), y).scores(X)).all()


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_that_are_not_finite_are_refused(name, value):
    X, y = blobs(2)
    spec = HEADS[name]
    head = spec.make(spec.grid[spec.fallback], {}, 0)
    broken = X.copy()
    broken[5, 2] = value
    with pytest.raises(ValueError, match=r"infinity|NaN"):
        head.fit(broken, y)
    with pytest.raises(ValueError, match=r"infinity|NaN"):
        head.fit(X, y).predict(broken)


@pytest.mark.parametrize("name", HEADS)
def test_one_class_is_refused(name):
    X, _ = blobs(2)
    spec = HEADS[name]
    with pytest.raises(ValueError, match="one class"):
        spec.make(spec.grid[0], {}, 0).fit(X, np.zeros(len(X)))


@pytest.mark.parametrize("weight", ["balanced", {"b": 3.0}, None])
def test_class_weights_are_those_of_scikit_learn(weight):
    y = np.array(["a", "b", "a", "a", "c"])
    classes, indices = np.unique(y, return_inverse=True)
    found = class_weights(weight, indices, classes)
    expected = compute_sample_weight(weight, y)
    assert (np.ones(5) if found is None else found) == pytest.approx(expected)


@pytest.mark.parametrize("weight", ["heavy", {"a": 0.0}, {"a": np.inf}])
def test_class_weights_that_mean_nothing_are_refused(weight):
    with pytest.raises(ValueError, match="class_weight"):
        class_weights(weight, np.array([0, 1]), np.array(["a", "b"]))


def test_answers_take_the_first_of_equal_scores():
    classes = np.array(["a", "b"])
    assert list(answers(classes, np.array([0.0, 1e-9, -1.0]))) == ["a", "b", "a"]
    assert list(answers(classes, np.array([[1.0, 1.0], [0.0, 1.0]]))) == ["a", "b"]


@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf, "1", True])
def test_only_positive_numbers_are_positive(value):
    with pytest.raises(ValueError, match="strength"):
        check_positive(strength=value)
    check_positive(strength=np.float32(1e-3))
