"""The arithmetic of a bench on numbers whose results are known."""

import numpy as np
import pytest
from bottleneck_probe.bench import measures
from hypothesis import given, settings
from hypothesis import strategies as st

SPEEDS = st.floats(0.1, 1e6)


def test_a_spread_has_the_median_and_the_ends():
    assert measures.spread([30.0, 10.0, 20.0]) == {
        "median": 20.0,
        "low": 10.0,
        "high": 30.0,
        "runs": [30.0, 10.0, 20.0],
    }


def test_a_ratio_is_taken_round_by_round():
    """A machine that is half as fast in one round halves both: the ratio does not see it."""
    found = measures.ratio([100.0, 50.0, 100.0], [10.0, 5.0, 10.0])
    assert found["runs"] == [10.0, 10.0, 10.0]
    # Of medians over medians it would be the same; of unpaired runs from 5 to 20.
    assert (found["low"], found["high"]) == (10.0, 10.0)


def test_the_ceiling_of_shared_cores_adds_up_times():
    """2.3 ms of decoding and 7.7 ms of network are 10 ms for an image on one core."""
    assert measures.ceiling(1 / 0.0023, 1 / 0.0077, shared=True) == pytest.approx(100)
    assert measures.ceiling(7_800, 12_000, shared=False) == 7_800


@settings(deadline=None, max_examples=100)
@given(SPEEDS, SPEEDS)
def test_no_ceiling_is_above_either_part(decode, forward):
    shared = measures.ceiling(decode, forward, shared=True)
    apart = measures.ceiling(decode, forward, shared=False)
    assert shared < apart <= min(decode, forward)
    assert shared >= min(decode, forward) / 2 * (1 - 1e-12)


def test_cosines_are_those_of_a_plain_loop_and_of_the_rows_both_have():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 7)), rng.normal(size=(3, 7))
    found = measures.cosines(a, b)
    wanted = [a[i] @ b[i] / np.sqrt((a[i] @ a[i]) * (b[i] @ b[i])) for i in range(3)]
    assert found == pytest.approx(wanted)
    assert measures.cosines(a, a) == pytest.approx(np.ones(5))


def test_a_row_of_zeros_is_like_another_one_and_like_nothing_else():
    rows = np.array([[0.0, 0.0], [0.0, 0.0]])
    assert measures.cosines(rows, np.array([[0.0, 0.0], [1.0, 0.0]])).tolist() == [1.0, 0.0]


def test_the_best_is_the_one_with_the_highest_median():
    assert measures.best({"a": [1, 2, 100], "b": [3, 3, 3]}) == "b"
