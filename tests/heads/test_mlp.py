"""The MLP is deterministic, stops by itself, and says so where it has nothing to hold out."""

import sys

import numpy as np
import pytest
from bottleneck_probe.heads import MLPHead
from bottleneck_probe.heads.mlp import train as mlp_train
from bottleneck_probe.heads.mlp.start import initial_weights
from scipy.special import softmax
from sklearn.exceptions import ConvergenceWarning


def data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return rng.normal(size=(n, 6)) + 2.0 * y[:, None], y


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_equal_seeds_give_equal_weights_whatever_the_thread_count():
    import torch

    X, y = data()
    before = torch.get_num_threads()
    first = MLPHead(random_state=3).fit(X, y)
    try:
        torch.set_num_threads(1 if before > 1 else 2)
        torch.manual_seed(99)
        second = MLPHead(random_state=3).fit(X, y)
        assert torch.get_num_threads() == (1 if before > 1 else 2)
    finally:
        torch.set_num_threads(before)
    other = MLPHead(random_state=4).fit(X, y)
    assert np.array_equal(first.hidden_weight_, second.hidden_weight_)
    assert np.array_equal(first.predict_proba(X), second.predict_proba(X))
    assert not np.array_equal(first.hidden_weight_, other.hidden_weight_)


def test_early_stopping_watches_held_out_rows():
    X, y = data()
    head = MLPHead().fit(X, y)
    assert head.watched_ == "validation"
    assert head.converged_
    assert head.patience < head.n_iter_ < head.max_epochs
    assert np.mean(head.predict(X) == y) > 0.95


def test_zeros_never_train_the_hidden_layer_and_it_is_told():
    """Nothing but the output's biases learns: every image gets the class frequencies."""
    X, y = data(90)
    y[60:] = 0
    with pytest.warns(UserWarning, match="never learns"):
        head = MLPHead(init="zeros", validation_fraction=0.0, max_epochs=200).fit(X, y)
    assert not head.hidden_weight_.any()
    assert not head.output_weight_.any()
    assert np.ptp(head.predict_proba(X), axis=0).max() == 0
    assert head.predict_proba(X)[0] == pytest.approx(np.bincount(y) / 90, abs=0.05)
    assert (head.predict(X) == 0).all()
    assert np.mean(MLPHead().fit(X, y).predict(X) == y) > 0.7


def test_the_spread_of_the_first_weights():
    for init, first, second in (
        ("he", 2 / 500, 2 / 53),
        ("xavier", 2 / 550, 2 / 53),
        ("lecun", 1 / 500, 1 / 50),
    ):
        rng = np.random.default_rng(0)
        hidden, out = zip(*(initial_weights(init, 500, 50, 3, rng) for _ in range(30)), strict=True)
        assert np.var(hidden) == pytest.approx(first, rel=0.02)
        assert np.var(out) == pytest.approx(second, rel=0.1)
    with pytest.raises(ValueError, match="he, xavier, lecun, zeros"):
        MLPHead(init="zero").fit(*data())


@pytest.mark.parametrize(
    ("name", "value"),
    [("dropout", 1.0), ("learning_rate", 0), ("weight_decay", -1), ("hidden", 0)],
)
def test_values_that_cannot_be_used_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        MLPHead(**{name: value}).fit(*data())


def test_decision_function_is_the_logits():
    for k in (2, 4):
        X, _ = data()
        y = np.arange(80) % k
        head = MLPHead().fit(X, y)
        scores = head.decision_function(X)
        assert scores.shape == ((80,) if k == 2 else (80, k))
        columns = np.stack([0 * scores, scores], 1) if k == 2 else scores
        assert softmax(columns, axis=1) == pytest.approx(head.predict_proba(X))
        assert np.array_equal(columns.argmax(axis=1), head.predict(X))


def test_a_probe_from_before_the_new_options_loads():
    X, y = data()
    head = MLPHead().fit(X, y)
    params, arrays = head.to_state()
    for name in ("weight_decay", "init", "class_weight"):
        del params["options"][name]
    again = MLPHead.from_state(params, arrays)
    assert again.init == "he"
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))


def test_without_numba_pytorch_trains_the_same_and_it_is_told(monkeypatch):
    X, y = data()
    expected = MLPHead().fit(X, y)
    mlp_train.kernel.cache_clear()
    monkeypatch.setitem(sys.modules, "bottleneck_probe.heads.mlp.kernel", None)
    try:
        with pytest.warns(RuntimeWarning, match="numba"):
            head = MLPHead().fit(X, y)
        assert head.predict_proba(X) == pytest.approx(expected.predict_proba(X), abs=1e-3)
        assert mlp_train.kernel() is None  # told once
    finally:
        mlp_train.kernel.cache_clear()


def test_a_class_of_one_is_told_and_trained():
    X, y = data(21)
    y[:] = 0
    y[3] = 1
    with pytest.warns(UserWarning, match="training loss"):
        head = MLPHead().fit(X, y)
    assert head.watched_ == "training"


def test_epochs_that_ran_out_are_told():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match="max_epochs = 3"):
        MLPHead(max_epochs=3).fit(X, y)
