"""Every head is a scikit-learn estimator, and its state survives without pickle."""

import json

import numpy as np
import pytest
from bottleneck_probe.errors import ProbeError
from bottleneck_probe.heads import HEADS, LinearSVMHead, LogisticHead, MLPHead, RBFSVMHead
from bottleneck_probe.heads.state import pipeline_from_state, pipeline_to_state
from bottleneck_probe.heads.sweep import fit_pipeline
from sklearn.pipeline import Pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

pytestmark = pytest.mark.filterwarnings(
    # scikit-learn's checks cut training short, or give one sample a class, on purpose.
    "ignore:MLPHead:UserWarning",
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore::sklearn.exceptions.SkipTestWarning",
)


@parametrize_with_checks(
    [
        LogisticHead(),
        LinearSVMHead(),
        LinearSVMHead(probability=True),
        RBFSVMHead(),
        RBFSVMHead(probability=True),
        MLPHead(hidden=16, max_epochs=25, batch_size=32, learning_rate=0.01),
    ]
)
def test_scikit_learn_checks_pass(estimator, check):
    check(estimator)


def blobs(n_classes, n=60, d=7, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return (rng.normal(size=(n, d)) + 2 * np.eye(n_classes, d)[y]).astype(np.float32), y


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_state_round_trip_predicts_bit_for_bit(name, n_classes):
    X, y = blobs(n_classes)
    spec = HEADS[name]
    pipeline = fit_pipeline(spec.make(spec.grid[spec.fallback], {}, 0), X, y)
    params, arrays = pipeline_to_state(pipeline)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = pipeline_from_state(json.loads(json.dumps(params)), arrays)
    assert isinstance(again, Pipeline)
    assert np.array_equal(again.predict_proba(X), pipeline.predict_proba(X))
    assert np.array_equal(again.predict(X), pipeline.predict(X))
    assert again.named_steps["head"].get_params() == pipeline.named_steps["head"].get_params()


def test_state_of_an_unknown_head_is_refused():
    X, y = blobs(2)
    params, arrays = pipeline_to_state(fit_pipeline(LogisticHead(), X, y))
    params["head"]["class"] = "SomethingElse"
    with pytest.raises(ProbeError, match="SomethingElse"):
        pipeline_from_state(params, arrays)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_probabilities_sum_to_one_and_agree_with_the_answer(name, n_classes):
    X, y = blobs(n_classes)
    spec = HEADS[name]
    pipeline = fit_pipeline(spec.make(spec.grid[-1], {}, 0), X, y)
    probabilities = pipeline.predict_proba(X)
    assert probabilities.dtype == np.float64
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert np.array_equal(probabilities.argmax(axis=1), pipeline.predict(X))
    assert np.mean(pipeline.predict(X) == y) > 0.8


@pytest.mark.parametrize("name", HEADS)
def test_constant_features_divide_nothing_by_zero(name):
    X, y = blobs(2)
    X[:, 3] = 0.1  # not exact in binary, so that a computed variance is a rounding error
    spec = HEADS[name]
    pipeline = fit_pipeline(spec.make(spec.grid[spec.fallback], {}, 0), X, y)
    assert np.isfinite(pipeline.predict_proba(X)).all()


@pytest.mark.parametrize("name", HEADS)
def test_one_class_is_refused(name):
    X, _ = blobs(2)
    spec = HEADS[name]
    with pytest.raises(ValueError, match="one class"):
        spec.make(spec.grid[0], {}, 0).fit(X, np.zeros(len(X)))
