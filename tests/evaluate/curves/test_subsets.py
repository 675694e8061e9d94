"""Nested subsets: beginnings of one order, in proportion, groups whole."""

import numpy as np
from bottleneck_probe.evaluate.curves.subsets import beginning, curve_sizes, nested_order
from hypothesis import given, settings
from hypothesis import strategies as st

LABELS = st.lists(st.integers(0, 3), min_size=8, max_size=80)


@settings(deadline=None, max_examples=30)
@given(LABELS, st.integers(0, 5))
def test_every_beginning_has_the_classes_in_proportion(labels, seed):
    y = np.array(labels)
    rows = np.arange(len(y))
    order, counts = nested_order(y, rows, rows, np.random.default_rng(seed))
    assert sorted(order.tolist()) == rows.tolist()
    classes = np.unique(y)
    for size in range(1, len(y) + 1):
        found = np.bincount(y[beginning(order, counts, size)], minlength=4)
        assert found.sum() == size
        if size >= 2 * len(classes):
            assert (found[classes] > 0).all()
        # One of each class may come early; else the share is right up to one image and that.
        share = size * np.bincount(y, minlength=4) / len(y)
        assert (np.abs(found - share)[classes] <= 2 + len(classes)).all()


@settings(deadline=None, max_examples=30)
@given(LABELS, st.integers(1, 6), st.integers(0, 5))
def test_groups_stay_whole_copies_count_once_and_subsets_are_nested(labels, per_group, seed):
    y = np.array(labels)
    groups = np.arange(len(y)) // per_group
    images = np.arange(len(y)) // 2 * 2 if per_group % 2 == 0 else np.arange(len(y))
    order, counts = nested_order(y, images, groups, np.random.default_rng(seed))
    total = len(np.unique(images))
    assert counts[-1] == total
    before: set[int] = set()
    for size in range(1, total + 1):
        rows = beginning(order, counts, size)
        inside = set(rows.tolist())
        assert before <= inside
        assert not set(groups[rows]) & set(groups[np.setdiff1d(np.arange(len(y)), rows)])
        assert len(np.unique(images[rows])) >= size
        before = inside


def test_sizes_are_log_spaced_from_two_of_each_class():
    assert curve_sizes(320, 2) == [10, 18, 32, 57, 101, 180, 320]
    assert curve_sizes(1600, 3)[0] == 50
    assert curve_sizes(400, 30)[0] == 60
    assert curve_sizes(15, 2) == [15]
