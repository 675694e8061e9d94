"""Folds: stratified, grouped, seeded, and whole at the sizes where small data starts."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.splits import (
    TRAIN_ONLY,
    even_folds,
    group_mean,
    group_rows,
    holdout,
    inner_folds,
    single_group_classes,
    stratified_folds,
)
from hypothesis import given, settings
from hypothesis import strategies as st


def keys_of(numbers):
    return np.stack(
        [np.random.default_rng(int(i)).integers(0, 256, 32, dtype=np.uint8) for i in numbers]
    )


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25)), min_size=1, max_size=60),
    st.integers(2, 6),
    st.integers(0, 3),
)
def test_groups_never_straddle_and_only_single_group_classes_stay_out(rows, k, seed):
    y, groups = np.array(rows).T
    folds = stratified_folds(y, groups, k, np.random.default_rng(seed))
    assert folds.shape == y.shape
    assert set(folds) <= {TRAIN_ONLY, *range(k)}
    for group in np.unique(groups):
        assert len(set(folds[groups == group])) == 1
    barred = np.isin(groups, groups[np.isin(y, single_group_classes(y, groups))])
    assert np.array_equal(folds == TRAIN_ONLY, barred)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(2, 30), min_size=1, max_size=5), st.integers(2, 6), st.integers(0, 9))
def test_single_rows_are_spread_evenly(counts, k, seed):
    y = np.repeat(np.arange(len(counts)), counts)
    folds = stratified_folds(y, np.arange(len(y)), k, np.random.default_rng(seed))
    for c in range(len(counts)):
        sizes = np.bincount(folds[y == c], minlength=k)
        assert sizes.max() - sizes.min() <= 1
    total = np.bincount(folds, minlength=k)
    assert total.max() - total.min() <= len(counts)


def test_a_small_class_goes_one_to_a_fold():
    y = np.array([0] * 20 + [1] * 3)
    folds = stratified_folds(y, np.arange(23), 5, np.random.default_rng(0))
    assert len(set(folds[20:])) == 3


def test_seeds_decide():
    y, groups = np.arange(40) % 2, np.arange(40)
    a, b, c = (stratified_folds(y, groups, 5, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(a, b)
    assert not np.array_equal(a, c)


def test_equal_keys_form_one_group():
    keys = keys_of([5, 7, 5, 9])
    groups = group_rows(keys, 4)
    assert groups[0] == groups[2]
    assert len(set(groups)) == 3
    assert list(group_rows(None, 3)) == [0, 1, 2]


def test_inner_folds_are_fewer_for_a_small_class():
    assert inner_folds(np.array([0] * 10 + [2] * 10), np.arange(20)) == 5
    assert inner_folds(np.array([0] * 10 + [2] * 9), np.arange(19)) == 3
    assert inner_folds(np.repeat(np.arange(9), 2), np.arange(18)) == 2


@pytest.mark.parametrize(
    ("sizes", "folds"),
    [([3] * 10, 3), ([4, 4], 4), ([27, 3], 5), ([24, 3, 3], 5), ([1, 1, 9, 9], 5)],
)
def test_folds_are_as_many_as_most_classes_can_be_spread_over(sizes, folds):
    y = np.repeat(np.arange(len(sizes)), sizes)
    assert even_folds(y, np.arange(len(y)), 5) == folds
    # Copies are one group: they cannot be spread.
    assert even_folds(np.repeat(y, 3), np.repeat(np.arange(len(y)), 3), 5) == folds


def test_training_parts_of_small_classes_hold_as_many_of_each():
    """In 5 folds of 3 images the class that is scored had 2 in the training part, the others 3."""
    y = np.repeat(np.arange(10), 3)
    folds = even_folds(y, np.arange(30), 5)
    fold = stratified_folds(y, np.arange(30), folds, np.random.default_rng(0))
    for f in range(folds):
        assert len(set(np.bincount(y[fold != f]))) == 1


def test_holdout_never_moves_a_row_when_others_come():
    keys = keys_of(range(600))
    chosen = holdout(keys, 0.2)
    assert np.mean(chosen) == pytest.approx(0.2, abs=0.05)
    assert np.array_equal(holdout(keys[100:], 0.2), chosen[100:])
    assert np.array_equal(holdout(np.concatenate([keys, keys]), 0.2), np.tile(chosen, 2))
    assert np.all(holdout(keys, 0.3)[chosen])  # a larger share only adds


def test_holdout_is_not_the_leading_bytes_of_the_key():
    keys = keys_of(range(600))
    low = keys[:, 0] < 256 * 0.2
    assert np.mean(holdout(keys, 0.2)[low]) < 0.5


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=20), st.integers(1, 3))
def test_a_group_answers_by_the_mean_of_its_rows(groups, k):
    values = np.random.default_rng(len(groups)).random((len(groups), k))
    found = group_mean(values, np.array(groups))
    for row, group in enumerate(groups):
        members = [i for i, other in enumerate(groups) if other == group]
        if len(members) == 1:
            assert np.array_equal(found[row], values[row])  # to the bit
        else:
            np.testing.assert_allclose(found[row], values[members].mean(axis=0), rtol=1e-12)
