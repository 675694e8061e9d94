"""Who trains and who is scored: every row in one place, no group on both sides, whatever is asked."""

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate.plan import make_plan
from bottleneck_probe.evaluate.splits import TRAIN_ONLY
from hypothesis import given, settings
from hypothesis import strategies as st


def plan(y, images=None, groups=None, splits=None, **options):
    n = len(y)
    images = np.arange(n) if images is None else np.asarray(images)
    options = {"folds": 5, "repeats": 2, "seed": 0, **options}
    return make_plan(
        np.asarray(y),
        ["a", "b", "c"],
        splits=np.full(n, "") if splits is None else np.asarray(splits),
        images=images,
        groups=images if groups is None else np.asarray(groups),
        sides=options.pop("sides", None),
        **options,
    )


@given(
    st.lists(st.integers(-1, 2), min_size=12, max_size=60),
    st.integers(1, 20),
    st.integers(2, 6),
    st.integers(0, 5),
)
@settings(deadline=None, max_examples=60)
def test_no_group_is_on_both_sides_and_every_row_is_scored_once_a_repeat(y, n_groups, folds, seed):
    groups = np.random.default_rng(seed).integers(0, n_groups, len(y))
    try:
        found = plan(y, np.arange(len(y)), groups, folds=folds, seed=seed)
    except FitError:
        return  # too few classes or groups: refused, in words
    for repeat, jobs in enumerate(found.repeats):
        tested = np.concatenate([job.test for job in jobs])
        assert len(np.unique(tested)) == len(tested)
        assert np.array_equal(np.sort(tested), np.flatnonzero(found.folds[repeat] != TRAIN_ONLY))
        for job in jobs:
            assert not np.isin(groups[job.test], groups[job.train]).any()
            assert np.array_equal(np.sort(np.concatenate([job.train, job.test])), found.rows.train)
    assert (found.rows.y[found.rows.train] >= 0).all()


def test_repeats_deal_anew_and_a_shorter_plan_is_the_beginning_of_a_longer_one():
    y = np.arange(60) % 3
    long, short = plan(y, repeats=4), plan(y, repeats=2)
    assert not np.array_equal(long.folds[0], long.folds[1])
    assert np.array_equal(long.folds[:2], short.folds)
    cut = long.only(2)
    assert cut.protocol == short.protocol == "nested-5x2"
    assert len(cut.jobs) == len(short.jobs) == 10


def test_test_rows_of_a_training_group_are_dropped_and_counted():
    y = np.arange(40) % 2
    splits = np.where(np.arange(40) < 30, "train", "test")
    groups = np.arange(40)
    groups[30:34] = groups[:4]
    found = plan(y, np.arange(40), groups, splits)
    assert np.array_equal(found.rows.test, np.arange(34, 40))
    assert found.rows.n_dropped == 4
    assert any("4 test images dropped" in note and "group" in note for note in found.notes)
    groups[30:] = groups[:10]
    with pytest.raises(FitError, match="of a training image's group"):
        plan(y, np.arange(40), groups, splits)


def test_a_class_of_one_group_trains_and_is_named():
    y = np.repeat([0, 1, 2], 10)
    groups = np.where(y == 2, 99, np.arange(30))
    found = plan(y, np.arange(30), groups)
    assert (found.folds[:, y == 2] == TRAIN_ONLY).all()
    assert all(np.isin(np.flatnonzero(y == 2), job.train).all() for job in found.jobs)


def test_a_row_keeps_its_side_when_rows_are_added():
    rng = np.random.default_rng(0)
    sides = rng.integers(0, 256, (200, 32), dtype=np.uint8)
    y = np.arange(200) % 3
    few = plan(y[:120], sides=sides[:120], holdout=0.3)
    many = plan(y, sides=sides, holdout=0.3)
    assert np.array_equal(few.rows.test, many.rows.test[many.rows.test < 120])
    # Rows of one group share what is hashed, and so their side.
    sides[:] = sides[np.arange(200) // 4 * 4]
    grouped = plan(y, np.arange(200), np.arange(200) // 4, sides=sides, holdout=0.3)
    assert set(np.bincount(grouped.rows.test // 4, minlength=50)) == {0, 4}
