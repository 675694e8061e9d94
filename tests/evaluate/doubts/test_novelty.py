"""Novelty: the distance is the one of a plain loop, the threshold holds, strangers are seen."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.doubts import novelty as module
from bottleneck_probe.evaluate.doubts.novelty import Novelty, far_out, fit_novelty
from scipy.stats import binom


def images(n, seed, d=32, shift=0.0):
    """Features that are never negative, as after a ReLU."""
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(99).random(d) + shift * np.random.default_rng(98).exponential(1, d)
    return np.maximum(base + rng.normal(0, 0.3, (n, d)), 0).astype(np.float32)


def test_the_score_is_the_distance_to_the_k_th_neighbour_of_a_plain_loop():
    X, new = images(60, 0), images(9, 1)
    groups = np.arange(60) // 2
    found, own = fit_novelty(X, groups, neighbours=3)

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    for i, row in enumerate(unit(new)):
        distances = sorted(np.linalg.norm(row - unit(X), axis=1))
        assert found.score(new)[i] == pytest.approx(distances[2], abs=2e-3)
    for i, row in enumerate(unit(X)):
        others = unit(X)[groups != groups[i]]
        assert own[i] == pytest.approx(sorted(np.linalg.norm(row - others, axis=1))[2], abs=2e-3)
    assert found.scores.tolist() == sorted(own.tolist())


def test_as_many_ordinary_images_lie_above_the_threshold_as_it_says():
    above = total = 0
    for seed in range(20):
        found, _ = fit_novelty(images(300, seed), np.arange(300), alpha=0.05)
        above += int(np.sum(found.score(images(300, 1000 + seed)) > found.threshold))
        total += 300
    # The threshold itself varies from fit to fit, hence the slack beyond the binomial.
    assert above <= 1.3 * binom.ppf(0.999, total, 0.05)
    assert above >= 0.5 * 0.05 * total


def test_few_images_take_the_largest_score_and_say_how_many_they_expect():
    found, own = fit_novelty(images(30, 0), np.arange(30))
    assert found.threshold == own.max()
    assert found.expected == pytest.approx(1 / 31)


def test_strangers_are_above_it():
    found, _ = fit_novelty(images(200, 0), np.arange(200))
    assert (found.score(images(50, 1, shift=20.0)) > found.threshold).all()


def test_copies_do_not_make_an_image_familiar_to_itself():
    X = np.repeat(images(50, 0), 6, axis=0)
    grouped, _ = fit_novelty(X, np.repeat(np.arange(50), 6))
    alone, _ = fit_novelty(X, np.arange(300))
    assert alone.threshold < 0.02  # each has copies right beside it
    assert grouped.threshold > 0.05


def test_what_is_kept_is_bounded(monkeypatch):
    found, own = fit_novelty(images(3000, 0, d=8), np.arange(3000))
    assert found.reference.shape == (module.MAX_ROWS, 8)
    assert len(found.scores) == 2000
    assert len(own) == 3000
    monkeypatch.setattr(module, "MAX_BYTES", 2 * 8 * 100)
    assert len(fit_novelty(images(300, 0, d=8), np.arange(300))[0].reference) == 100


def test_odd_rows_do_no_harm():
    X = images(40, 0)
    X[3] = 0
    X[4] *= 1e30
    found, own = fit_novelty(X, np.arange(40))
    assert np.isfinite(own).all()
    assert np.isfinite(found.score(X)).all()


def test_two_images_and_one_group():
    found, _ = fit_novelty(images(2, 0), np.arange(2))
    assert np.isfinite(found.score(images(3, 1))).all()
    found, own = fit_novelty(images(4, 0), np.zeros(4, int))
    assert own.tolist() == [2.0] * 4  # nobody to compare with: as far as can be


def test_state_round_trip():
    found, _ = fit_novelty(images(50, 0), np.arange(50))
    again = Novelty.from_state(*found.state())
    assert again.threshold == found.threshold
    np.testing.assert_array_equal(again.score(images(5, 1)), found.score(images(5, 1)))


def test_the_fence_is_not_moved_by_what_lies_beyond_it():
    scores = fit_novelty(images(200, 0), np.arange(200))[1]
    fence = far_out(scores)
    assert (scores <= fence).mean() > 0.99
    for oddest in (1.9, 1e6):
        assert far_out(np.append(scores, [oddest] * 10)) < fence * 1.2
