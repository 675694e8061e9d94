"""The forecast: what is said follows from the band, and not more than that."""

import math

import numpy as np
from bottleneck_probe.evaluate.curves.forecast import forecast

SIZES = np.array([10.0, 18, 32, 57, 101, 180, 320])


def told(errors, noise=0.004, *, n_now=400, points=None, n_scored=400):
    rng = np.random.default_rng(0)
    level = rng.normal(0, noise, (1000, 1))
    resampled = np.clip(errors + level + rng.normal(0, noise, (1000, 7)), 0, 1)
    return forecast(
        SIZES, errors, resampled, np.full(7, 0.04), n_now=n_now, n_scored=n_scored, points=points
    )


def test_a_steep_curve_promises_images_that_bring_what_is_promised():
    found = told(SIZES**-0.5)
    advice = found.advice
    assert advice.kind == "more"
    gain = 400**-0.5 - (400 + advice.images) ** -0.5
    assert abs(gain - advice.points) < 0.003
    assert advice.images_low <= advice.images <= advice.images_high
    assert advice.sentence.startswith("About ")


def test_a_flat_curve_points_to_another_backbone():
    advice = told(0.2 + 5 * SIZES**-2.0, noise=0.001).advice
    assert advice.kind == "hardly"
    assert "hardly help" in advice.sentence
    assert "another backbone" in advice.sentence.lower()
    assert advice.gain_high < 0.01


def test_noise_makes_it_unclear():
    advice = told(0.2 + 0.3 * SIZES**-0.4, noise=0.06).advice
    assert advice.kind == "unclear"
    assert "cannot be told" in advice.sentence


def test_nothing_is_said_beyond_four_times_the_largest_size():
    found = told(SIZES**-0.5)
    assert max(found.sizes) == 4 * 320
    advice = told(SIZES**-0.5, points=0.04).advice
    assert math.isinf(advice.images)
    assert "more than" in advice.sentence
    assert advice.to_dict()["images"] is None
    reachable = told(SIZES**-0.5, points=0.01).advice
    assert 400 + reachable.images <= 4 * 320


def test_a_few_images_all_answered_rightly_do_not_mean_that_more_would_not_help():
    few = told(np.array([0.3, 0.1, 0.02, 0, 0, 0, 0]), noise=0, n_scored=30)
    assert few.advice.kind == "unclear"
    assert (few.high - few.low > 0.01).all()


def test_the_band_holds_its_middle_and_stays_within_a_score():
    for errors in (SIZES**-0.5, np.full(7, 0.5), np.zeros(7)):
        found = told(errors)
        assert (found.low <= found.scores + 1e-12).all()
        assert (found.scores <= found.high + 1e-12).all()
        assert (found.low >= 0).all()
        assert (found.high <= 1).all()
