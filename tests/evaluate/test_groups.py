"""Pictures and groups: unions, what `--holdout` hashes, and scores that copies do not raise."""

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate.groups import find_groups, union
from bottleneck_probe.evaluate.protocol import evaluate
from bottleneck_probe.evaluate.splits import holdout
from hypothesis import given, settings
from hypothesis import strategies as st


def keys_of(numbers) -> np.ndarray:
    keys = np.zeros((len(numbers), 32), np.uint8)
    keys[:, :8] = np.asarray(numbers, ">u8").view(np.uint8).reshape(-1, 8)
    return keys


def find(n=None, *, X=None, keys=None, phash=None, groups=None, splits=None, used=None):
    n = len(X) if X is not None else n
    return find_groups(
        np.zeros((n, 3)) if X is None else X,
        keys=keys,
        phash=phash,
        groups=groups,
        splits=np.full(n, "") if splits is None else np.array(splits),
        used=np.ones(n, bool) if used is None else np.array(used, bool),
    )


numberings = st.integers(1, 30).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 12), min_size=n, max_size=n)] * 2)
)


@settings(deadline=None, max_examples=100)
@given(numberings)
def test_a_union_joins_what_either_joins_and_nothing_else(given_):
    a, b = map(np.array, given_)
    joined = union(a, b)
    pairs = [(i, j) for i in range(len(a)) for j in range(i)]
    assert all(joined[i] == joined[j] for i, j in pairs if a[i] == a[j] or b[i] == b[j])
    # Handing numbers on along both until nothing changes gives as many sets.
    numbers = np.arange(len(a))
    for _ in range(len(a)):
        for by in (a, b):
            for value in np.unique(by):
                numbers[by == value] = numbers[by == value].min()
    assert np.array_equal(np.equal.outer(joined, joined), np.equal.outer(numbers, numbers))
    assert np.array_equal(np.unique(joined), np.arange(joined.max() + 1))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_groups_are_unions_of_pictures_and_of_the_users_groups(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 40))
    X = rng.normal(size=(n, 8))
    keys = keys_of(rng.integers(0, n, n))
    phash = rng.integers(1, 2**63, n).astype(np.uint64)
    copies = rng.integers(0, n, (3, 2))
    X[copies[:, 1]], phash[copies[:, 1]] = X[copies[:, 0]], phash[copies[:, 0]]
    own = rng.integers(0, 6, n)
    own[0], own[1] = 0, 1
    without = find(X=X, keys=keys, phash=phash)
    if not union(without.images, own).any():
        with pytest.raises(FitError, match="all images are of one group"):
            find(X=X, keys=keys, phash=phash, groups=own)
        return
    found = find(X=X, keys=keys, phash=phash, groups=own)
    assert np.array_equal(without.images, without.groups)
    assert np.array_equal(found.images, without.images)
    assert np.array_equal(found.groups, union(found.images, own))
    same_key = (keys[:, None] == keys).all(axis=2)
    assert (np.equal.outer(found.images, found.images) >= same_key).all()


def test_near_copies_are_one_picture_and_told():
    rng = np.random.default_rng(0)
    X, phash = rng.normal(size=(50, 8)), rng.integers(1, 2**63, 50).astype(np.uint64)
    X[[10, 20]], phash[[10, 20]] = X[5], phash[5] ^ np.uint64(0b11)
    splits = ["train"] * 20 + ["test"] * 30
    found = find(X=X, keys=keys_of(range(50)), phash=phash, splits=splits)
    assert len({int(found.images[row]) for row in (5, 10, 20)}) == 1
    assert found.report["near_copies"] == 2
    assert found.report["near_copy_sets"] == [[5, 10, 20]]
    assert found.report["crossing"] == 1
    assert found.notes == [
        "2 of 50 images are near copies of others, saved again, in 1 set, 1 of them across splits: "
        "a set counts as one image and is never on both sides"
    ]
    assert find(X=X, keys=keys_of(range(50))).report["near_copies"] is None


def test_rows_without_a_label_join_nothing():
    """An image nobody labelled must not tie two groups, or make a set a look."""
    rng = np.random.default_rng(0)
    X, phash = rng.normal(size=(30, 8)), rng.integers(1, 2**63, 30).astype(np.uint64)
    X[:20], phash[:20] = X[0], phash[0]
    used = np.ones(30, bool)
    used[2:20] = False
    found = find(X=X, keys=keys_of(range(30)), phash=phash, used=used)
    assert found.images[0] == found.images[1]
    assert len(np.unique(found.images)) == 29
    assert not found.report["looks"]


def test_without_a_labelled_row_nothing_is_looked_for():
    """An extraction without labels has hashes: `fit` fell over them before it could say what is missing."""
    rng = np.random.default_rng(0)
    X, phash = rng.normal(size=(12, 4)), rng.integers(1, 2**63, 12).astype(np.uint64)
    used = np.zeros(12, bool)
    for groups in (None, ["a", "b"] * 6, ["a"] * 12):
        found = find(X=X, keys=keys_of(range(12)), phash=phash, used=used, groups=groups)
        assert found.report["near_copies"] is None


def test_the_views_of_an_image_stand_for_it_together():
    rng = np.random.default_rng(0)
    X, phash = rng.normal(size=(40, 8)), rng.integers(1, 2**63, 40).astype(np.uint64)
    keys = keys_of(np.arange(40) // 2)
    phash[1::2] = phash[::2]
    X[2:4], phash[2:4] = X[[1, 0]], phash[0]  # a copy whose two views are the other way round
    images = find(X=X, keys=keys, phash=phash).images
    assert len(set(images[:4].tolist())) == 1
    assert len(np.unique(images)) == 19


def test_groups_that_share_an_image_are_taken_together_and_it_is_said():
    found = find(6, keys=keys_of([0, 1, 1, 2, 3, 4]), groups=["a", "a", "b", "b", "c", "c"])
    assert found.groups.tolist() == [0, 0, 0, 0, 1, 1]
    assert found.images.tolist() == [0, 1, 1, 2, 3, 4]
    assert found.notes == ["3 groups are 2: some have images in common, and are taken together"]


def test_what_holdout_hashes_is_the_rows_own_group_or_key():
    """A row keeps its side whatever is added, even an image that joins two groups."""
    keys = keys_of(range(60))
    names = [f"patient {i // 3}" for i in range(60)]
    before = holdout(find(60, keys=keys, groups=names).sides, 0.4)
    assert 0 < before.sum() < 60
    assert all(len(set(before[i : i + 3].tolist())) == 1 for i in range(0, 60, 3))
    more = np.concatenate([keys_of([0]), keys])
    after = holdout(find(61, keys=more, groups=["patient 19", *names]).sides, 0.4)
    assert np.array_equal(after[1:], before)
    assert np.array_equal(find(60, keys=keys).sides, keys)


def test_numbers_name_groups_as_they_are_written():
    found = find(4, groups=np.array([1.0, 1.0, 2.0, 2.0]))
    assert np.array_equal(found.sides, find(4, groups=["1", "1", "2", "2"]).sides)


@pytest.mark.parametrize(
    ("groups", "what"),
    [
        (["a", "b"], "2 groups for 4 rows"),
        (["a", "", "b", None], "2 labelled rows have no group, the first is row 1"),
        (["a"] * 4, "all images are of one group"),
    ],
)
def test_groups_that_cannot_be(groups, what):
    with pytest.raises(FitError, match=what):
        find(4, groups=groups)


def test_a_row_without_label_needs_no_group():
    found = find(4, groups=["a", None, "b", ""], used=[True, False, True, False])
    assert len(np.unique(found.groups)) == 4


def copies_of(n, n_copies, rng):
    """Random labels; each picture saved again with nearly the same features and hash."""
    X = rng.normal(size=(n, 40))
    y = rng.integers(0, 2, n)
    phash = rng.integers(1, 2**63, n).astype(np.uint64)
    order = np.repeat(np.arange(n), n_copies)
    X = X[order] + 0.05 * rng.normal(size=(n * n_copies, 40))
    return (
        X,
        y[order],
        phash[order] ^ (np.uint64(1) << rng.integers(0, 60, n * n_copies).astype(np.uint64)),
    )


def test_copies_saved_again_do_not_raise_the_score():
    """Random labels: with the copies on both sides every one is known; found, the score is chance."""
    aware = []
    for seed in range(3):
        X, y, phash = copies_of(60, 3, np.random.default_rng(seed))
        shared = {"classes": ["a", "b"], "keys": keys_of(range(180)), "repeats": 1}
        assert evaluate(X, y, **shared).metrics["accuracy"]["value"] > 0.9
        result = evaluate(X, y, phash=phash, **shared)
        assert len(np.unique(result.oof.images)) == 60
        aware.append(result.metrics["accuracy"]["value"])
    assert abs(np.mean(aware) - 0.5) < 0.15


def test_copies_across_a_split_are_dropped_from_the_test_rows():
    rng = np.random.default_rng(1)
    X, y, phash = copies_of(60, 2, rng)
    splits = np.array(["train", "test"] * 60)
    splits[80:] = "test"
    result = evaluate(
        X, y, classes=["a", "b"], keys=keys_of(range(120)), phash=phash, splits=splits
    )
    assert result.n_dropped == 40
    assert result.n_test == 40
    assert any("40 test images dropped" in note for note in result.notes)
    assert result.extra["groups"]["crossing"] == 40


def test_a_plate_that_decides_the_label_helps_on_no_unseen_plate():
    rng = np.random.default_rng(0)
    plate = rng.integers(0, 12, 240)
    y = (plate % 2 + (rng.random(240) < 0.1)) % 2
    X = rng.normal(size=(240, 30)) + 3 * rng.normal(size=(12, 30))[plate]
    shared = {"classes": ["a", "b"], "keys": keys_of(range(240)), "repeats": 1}
    assert evaluate(X, y, **shared).metrics["accuracy"]["value"] > 0.8
    grouped = evaluate(X, y, groups=plate, **shared)
    assert grouped.metrics["accuracy"]["value"] < 0.7
    folds = grouped.oof.folds
    assert all(len(set(folds[plate == each].tolist())) == 1 for each in range(12))
    held = evaluate(X, y, groups=plate, holdout=0.3, **shared)
    assert not set(plate[held.oof.rows]) & set(plate[held.trained_on])


def test_a_class_of_one_group_trains_and_it_is_said():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 30)
    plate = [*np.arange(60) % 5, *[9] * 30]
    X = rng.normal(size=(90, 8))
    for options in ({}, {"holdout": 0.4}):
        shared = {"classes": [*"abc"], "keys": keys_of(range(90)), "repeats": 1, **options}
        result = evaluate(X, y, groups=plate, **shared)
        assert set(result.oof.y.tolist()) == {0, 1}
        assert set(y[result.trained_on].tolist()) == {0, 1, 2}
        told = "all images of the class c are of one group, which trains and is never scored"
        assert told in result.notes
