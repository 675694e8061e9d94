"""The MLP is deterministic, stops by itself, and says so where it has nothing to hold out."""

import numpy as np
import pytest
from bottleneck_probe.heads import MLPHead
from sklearn.exceptions import ConvergenceWarning


def data(n=80, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    return rng.normal(size=(n, 6)) + 2.0 * y[:, None], y


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


def test_the_rate_falls_below_where_it_started(monkeypatch):
    """With Adam's own 1e-3 as the floor of the rate, as often seen, it never fell."""
    import torch

    rates = []
    step = torch.optim.lr_scheduler.ReduceLROnPlateau.step

    def spy(self, loss):
        step(self, loss)
        rates.append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(torch.optim.lr_scheduler.ReduceLROnPlateau, "step", spy)
    rng = np.random.default_rng(0)
    MLPHead().fit(rng.normal(size=(60, 5)), np.arange(60) % 2)
    assert min(rates) < 1e-3


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
