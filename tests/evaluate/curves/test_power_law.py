"""Power laws: known ones are found again, bounds hold, and no other curve fits better."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.curves.power_law import fit_power_law
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

SIZES = np.array([10.0, 18, 32, 57, 101, 180, 320])


@pytest.mark.parametrize(
    ("a", "b", "c"), [(0.05, 2, 1), (0, 1, 0.5), (0.2, 0.7, 0.3), (0.1, 9, 1.7)]
)
def test_a_curve_without_noise_is_found_again(a, b, c):
    law = fit_power_law(SIZES, a + b * SIZES**-c, np.ones(7))
    far = np.array([640.0, 1280.0])
    np.testing.assert_allclose(law(far), a + b * far**-c, atol=2e-4)
    assert float(law.c) == pytest.approx(c, abs=0.01)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.floats(0, 1), min_size=7, max_size=7),
    st.lists(st.floats(0.1, 10), min_size=7, max_size=7),
)
def test_bounds_hold_and_no_start_of_a_general_solver_ends_better(errors, weights):
    e, w = np.array(errors), np.array(weights)
    law = fit_power_law(SIZES, e, w)
    assert law.a >= 0
    assert law.b >= 0
    assert 0 < law.c <= 2

    def residual(t):
        return np.sqrt(w) * (t[0] + t[1] * (SIZES / 57) ** -t[2] - e)

    ours = np.sum(w * (law(SIZES.astype(float)) - e) ** 2)
    for start in ([0.1, 0.2, 0.5], [0.0, 0.5, 1.5]):
        theirs = least_squares(residual, start, bounds=([0, 0, 0.001], [np.inf, np.inf, 2]))
        assert ours <= 2 * theirs.cost * 1.01 + 1e-5


def test_many_curves_at_once_are_the_same_as_one_by_one():
    rng = np.random.default_rng(0)
    curves = 0.1 + SIZES**-0.5 + rng.normal(0, 0.03, (20, 7))
    weights = rng.random(7) + 0.1
    together = fit_power_law(SIZES, curves, weights)
    for i, curve in enumerate(curves):
        alone = fit_power_law(SIZES, curve, weights)
        assert [float(x) for x in (alone.a, alone.b, alone.c)] == pytest.approx(
            [together.a[i], together.b[i], together.c[i]]
        )


def test_images_for_an_error_are_those_at_which_it_is_reached():
    law = fit_power_law(SIZES, 0.05 + 2 / SIZES, np.ones(7))
    n = law.images_for(0.06)
    assert float(law(np.array([float(n)]))[0]) == pytest.approx(0.06)
    assert law.images_for(0.04) == np.inf
    assert fit_power_law(SIZES, np.full(7, 0.3), np.ones(7)).images_for(0.2) == np.inf
