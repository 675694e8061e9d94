"""What a probe keeps: scaling, head and temperature, and its state without pickle."""

import json

import numpy as np
import pytest
from bottleneck_probe.errors import ProbeError
from bottleneck_probe.heads import HEADS, LogisticHead
from bottleneck_probe.heads.fitted import fit_head, fitted_from_state
from bottleneck_probe.heads.scaling import SCALINGS, fit_scaling, scaling_from_state
from sklearn.preprocessing import StandardScaler, normalize


def blobs(n_classes, n=60, d=7, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    return (rng.normal(size=(n, d)) + 2 * np.eye(n_classes, d)[y]).astype(np.float32), y


def fit(name, X, y, n_classes, **options):
    spec = HEADS[name]
    head = spec.make(spec.grid[spec.fallback], {}, 0)
    return fit_head(head, X, y, n_classes=n_classes, scaling=spec.scaling, **options)


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n_classes", [2, 3])
def test_state_round_trip_predicts_bit_for_bit(name, n_classes):
    X, y = blobs(n_classes)
    fitted = fit(name, X, y, n_classes, temperature=0.7)
    params, arrays = fitted.to_state()
    assert all(isinstance(array, np.ndarray) for array in arrays.values())
    again = fitted_from_state(json.loads(json.dumps(params)), arrays)
    assert again.temperature == 0.7
    assert np.array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert again.head.get_params() == fitted.head.get_params()


def test_state_of_an_unknown_head_is_refused():
    params, arrays = fit("logistic", *blobs(2), 2).to_state()
    params["head"]["class"] = "SomethingElse"
    with pytest.raises(ProbeError, match="SomethingElse"):
        fitted_from_state(params, arrays)


def test_a_probe_of_the_first_version_keeps_its_temperature_inside_the_head():
    fitted = fit("svm", *blobs(2), 2)
    params, arrays = fitted.to_state()
    del params["temperature"], params["scaling"]
    params["head"]["temperature"] = 0.25
    assert fitted_from_state(params, arrays).temperature == 0.25


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("temperature", [0.3, 1.0, 20.0])
def test_probabilities_sum_to_one_and_agree_with_the_answer(name, n_classes, temperature):
    X, y = blobs(n_classes)
    fitted = fit(name, X, y, n_classes, temperature=temperature)
    probabilities = fitted.predict_proba(X)
    assert probabilities.dtype == np.float64
    assert probabilities.sum(axis=1) == pytest.approx(1)
    assert np.array_equal(probabilities.argmax(axis=1), fitted.predict(X))
    scaled = fitted.scaling.transform(X)
    assert np.array_equal(
        fitted.head.classes_[probabilities.argmax(axis=1)], fitted.head.predict(scaled)
    )
    assert np.mean(fitted.predict(X) == y) > 0.8


@pytest.mark.parametrize("name", HEADS)
def test_constant_features_divide_nothing_by_zero(name):
    X, y = blobs(2)
    X[:, 3] = 0.1  # not exact in binary, so that a computed variance is a rounding error
    assert np.isfinite(fit(name, X, y, 2).predict_proba(X)).all()


def test_a_class_without_a_training_row_has_probability_zero():
    X, y = blobs(3)
    rows = y != 1
    fitted = fit_head(LogisticHead(), X[rows], y[rows], n_classes=3)
    assert np.array_equal(fitted.predict_proba(X)[:, 1], np.zeros(len(X)))
    assert set(fitted.predict(X)) == {0, 2}


def test_scalings_are_those_of_scikit_learn_and_of_their_formulas():
    X = np.random.default_rng(0).gamma(1.0, size=(20, 6)).astype(np.float32)
    X[3] = 0
    X[:, 2] = 4
    found = {kind: fit_scaling(kind, X).transform(X) for kind in SCALINGS}
    assert found["standard"] == pytest.approx(StandardScaler().fit_transform(X), abs=1e-6)
    assert found["l2"] == pytest.approx(normalize(X), abs=1e-6)
    norms = np.linalg.norm(X, axis=1, keepdims=True)
    assert found["l2-vissl"] == pytest.approx(X / (norms + 1e-5), abs=1e-6)
    assert found["scalar"] == pytest.approx((X - X.mean()) / X.std(), abs=1e-5)
    assert found["none"] is X
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", SCALINGS)
def test_a_scaling_survives_as_data(kind):
    X = np.random.default_rng(0).normal(size=(9, 4))
    scaling = fit_scaling(kind, X[:6])
    again = scaling_from_state(*scaling.to_state())
    assert np.array_equal(again.transform(X), scaling.transform(X))


def test_an_unknown_scaling_is_refused():
    with pytest.raises(ValueError, match="standard, none"):
        fit_scaling("minmax", np.ones((2, 2)))
