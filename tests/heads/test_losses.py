"""The slopes of the losses are their derivatives, and no logit is too large for them."""

import numpy as np
import pytest
import torch
from bottleneck_probe.heads.losses import Multinomial, SquaredHinge

LOSSES = pytest.mark.parametrize(
    "loss", [Multinomial(), SquaredHinge()], ids=lambda loss: type(loss).__name__
)


@LOSSES
@pytest.mark.parametrize("q", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_slope_is_the_derivative_of_the_value(loss, q, weighted):
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(2, q, 5)), rng.integers(max(q, 2), size=5)
    weights = rng.uniform(0.1, 3, size=5) if weighted else None
    slope = loss(logits, y, weights)[1]
    for where in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[where] = 1e-6
        both = [loss(logits + s * step, y, weights)[0][where[0]] for s in (1, -1)]
        assert slope[where] == pytest.approx((both[0] - both[1]) / 2e-6, abs=1e-5)


@LOSSES
def test_huge_logits_stay_finite(loss):
    logits = np.array([[[-1e4, 1e4]]])
    for given in (logits, np.concatenate([logits, -logits], axis=1)):
        assert all(np.isfinite(part).all() for part in loss(given, np.array([1, 0])))


def test_a_certain_sample_keeps_its_slope_in_float32():
    """1 - p in float32 is 0 or 6e-8; the slope is the probability of the other classes."""
    logits = np.array([[[20.0], [0.0], [1.0]]])
    exact = Multinomial()(logits, np.array([0]))
    single = Multinomial()(logits.astype(np.float32), np.array([0]))
    assert single[0] == pytest.approx(exact[0], rel=1e-5)
    assert single[1] == pytest.approx(exact[1], rel=1e-5)
    assert exact[1].sum() == pytest.approx(0, abs=1e-15)


@LOSSES
@pytest.mark.parametrize("q", [1, 4])
def test_tensors_give_what_arrays_give(loss, q):
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(3, q, 6)), rng.integers(max(q, 2), size=6)
    here = loss(logits, y)
    there = loss(torch.as_tensor(logits), torch.as_tensor(y))
    for ours, theirs in zip(here, there, strict=True):
        assert np.asarray(theirs) == pytest.approx(ours, rel=1e-12)
