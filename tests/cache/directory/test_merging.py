"""Directories put together by linking their shards."""

import os
import shutil

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory import building, merging
from bottleneck_probe.cache.merging import merge
from bottleneck_probe.cache.storage import LocalStorage
from bottleneck_probe.reporter import Silent
from bottleneck_probe.targets import Targets

D = 3


@pytest.fixture
def make(tmp_path, monkeypatch):
    """A directory of rows by name: each has a value, which is also its image's content."""
    monkeypatch.setattr(building, "SHARD_ROWS", 4)

    def make_(
        name,
        rows,
        root="/photos",
        labels=None,
        existing=None,
        change=lambda rows: None,
        **changes,
    ):
        paths = sorted(rows)
        X = np.array([[rows[path]] * D for path in paths], np.float32)
        own = bp.Features.from_arrays(
            X, [labels or path.partition("/")[0] for path in paths], paths
        )
        change(own.rows)
        header = type(own.header)(own.recipe, {"of": name}, own.fingerprint, root, **changes)
        storage = LocalStorage(tmp_path / name)
        with storage.writing():
            return directory.write_directory(storage, header, own.rows, [X], existing=existing)

    return make_


def rows_of(features):
    return dict(zip(features.paths.tolist(), features.features[:, 0].tolist(), strict=True))


def merged(tmp_path, *sources):
    return directory.merge(sources, LocalStorage(tmp_path / "merged"))


def test_rows_that_are_apart(make, tmp_path):
    a = {f"a/{i}": i for i in range(9)}
    b = {f"b/{i}": 100 + i for i in range(5)}
    found = merged(tmp_path, make("one", a), make("two", b))
    assert rows_of(found) == rows_of(bp.open(tmp_path / "merged")) == {**a, **b}
    assert found.classes == ["a", "b"]
    assert len(list((tmp_path / "merged").glob("*.h5"))) == 3 + 2


def test_the_later_one_of_an_edited_image_counts(make, tmp_path):
    a = {f"a/{i}": i for i in range(9)}
    b = {"a/3": 33, "a/99": 99}
    found = merged(tmp_path, make("one", a), make("two", b))
    assert rows_of(found) == {**a, **b}
    shards = directory.load(LocalStorage(tmp_path / "merged")).shards
    assert sum(shard.rows - shard.alive for shard in shards) == 1
    back = directory.merge(
        [bp.open(tmp_path / "two"), bp.open(tmp_path / "one")], LocalStorage(tmp_path / "back")
    )
    assert rows_of(back) == {**b, **a}


def test_a_shard_of_both_stands_once(make, tmp_path):
    """One directory is a copy of the other, and each has lost and gained rows since."""
    whole = {f"a/{i}": i for i in range(8)}
    make("one", whole)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one = make(
        "one", {k: v for k, v in whole.items() if k != "a/1"}, existing=bp.open(tmp_path / "one")
    )
    two = make(
        "two",
        {**{k: v for k, v in whole.items() if k not in ("a/2", "a/6")}, "a/9": 9},
        existing=bp.open(tmp_path / "two"),
    )
    found = merged(tmp_path, one, two)
    assert rows_of(found) == {**whole, "a/9": 9}
    assert directory.check(LocalStorage(tmp_path / "merged")).faults == []


def test_the_row_of_the_later_one_counts_also_where_its_shard_is_the_earlier(make, tmp_path):
    whole = {f"a/{i}": i for i in range(8)}
    make("one", whole)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    one, edited = bp.open(tmp_path / "one"), {**whole, "a/3": 33}
    two = make("two", edited, existing=bp.open(tmp_path / "two"))
    assert merged(tmp_path, two, one) is None
    assert not (tmp_path / "merged").exists()
    reporter = Silent()
    for output in ("back/", "back.h5"):
        result = merge([two.file, one.file], f"{tmp_path}/{output}", reporter=reporter)
        assert rows_of(result.features) == whole
        assert result.replaced == 1
    result = merge([one.file, two.file], f"{tmp_path}/on/", reporter=reporter)
    assert (rows_of(result.features), result.replaced, result.linked) == (edited, 1, True)
    assert sum("1 rows were replaced" in note for note in reporter.notes) == 3


@pytest.mark.parametrize("seed", range(4))
def test_histories_of_two_copies_merge_as_files_do(make, tmp_path, seed):
    """Rows are edited, removed, brought back in either; what it means does not depend on the form."""
    random = np.random.default_rng(seed)
    rows = {f"a/{i}": i for i in range(6)}
    make("0", rows)
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    both = [dict(rows), dict(rows)]
    for _ in range(4):
        which = int(random.integers(2))
        for _ in range(2):
            path, value = f"a/{random.integers(9)}", int(random.integers(3))
            if value == 0 and len(both[which]) > 1:
                both[which].pop(path, None)
            else:
                both[which][path] = 100 * (value - 1) + int(path[2:])
        make(str(which), both[which], existing=bp.open(tmp_path / str(which)))
    for first, last in ((0, 1), (1, 0)):
        sources = [bp.open(tmp_path / str(each)) for each in (first, last)]
        files = [each.save(f"{each.file}.h5") for each in sources]
        one = merge(files, tmp_path / "merged.h5", force=True)
        many = merge([each.file for each in sources], f"{tmp_path}/merged/", force=True)
        assert rows_of(one.features) == rows_of(many.features) == {**both[first], **both[last]}
        assert (one.repeated, one.replaced) == (many.repeated, many.replaced)
        assert directory.check(LocalStorage(tmp_path / "merged")).faults == []


def test_a_damaged_shard_of_the_same_name_is_replaced(make, tmp_path):
    one, two = make("one", {"a/1": 1}), make("two", {"b/2": 2})
    merge([one.file, two.file], f"{tmp_path}/merged/")
    for shard in (tmp_path / "merged").glob("*.h5"):
        data = bytearray(shard.read_bytes())
        data[len(data) // 2] ^= 1
        shard.unlink()  # the source has the same file
        shard.write_bytes(data)
    assert len(directory.check(LocalStorage(tmp_path / "merged")).faults) == 2
    merge([one.file, two.file], f"{tmp_path}/merged/", force=True)
    assert directory.check(LocalStorage(tmp_path / "merged")).faults == []


@pytest.mark.parametrize("which", ["recipe", "root", "none", "label", "store"])
def test_what_cannot_be_linked_is_left_alone(make, tmp_path, which):
    one = make("one", {"a/1": 1, "a/2": 2})
    if which == "recipe":
        two = bp.Features.from_arrays(np.ones((2, D + 1)), None, ["x", "y"])
        two.save(f"{tmp_path / 'two'}/")
        two = bp.open(tmp_path / "two")
    elif which == "root":
        two = make("two", {"a/3": 3}, root="/elsewhere")
    elif which == "none":
        one, two = make("one", {"a/1": 1}, root=""), make("two", {"a/3": 3}, root="")
    elif which == "label":
        two = make("two", {"a/1": 1}, labels="bees")
    else:
        two = make("two", {"a/3": 3}, store="float16")
    assert merged(tmp_path, one, two) is None
    assert not (tmp_path / "merged").exists()


def test_a_file_is_no_directory(make, tmp_path):
    one = make("one", {"a/1": 1})
    one.save(tmp_path / "x.h5")
    assert merged(tmp_path, one, bp.open(tmp_path / "x.h5")) is None
    assert merged(tmp_path, one, one.subset([0])) is not None


def test_onto_another_disk_they_are_copied(make, tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(merging.os, "link", refuse)
    a, b = {"a/1": 1}, {"b/2": 2}
    found = merged(tmp_path, make("one", a), make("two", b))
    monkeypatch.undo()
    shutil.rmtree(tmp_path / "one")
    shutil.rmtree(tmp_path / "two")
    assert rows_of(found) == {**a, **b}
    assert directory.check(LocalStorage(tmp_path / "merged")).faults == []
    assert sorted(os.listdir(tmp_path / "merged"))[-1] == "manifest.json"


def test_into_one_of_them(make, tmp_path):
    a, b = {f"a/{i}": i for i in range(5)}, {"b/2": 2}
    one, two = make("one", a), make("two", b)
    found = directory.merge([one, two], LocalStorage(tmp_path / "one"))
    assert rows_of(found) == rows_of(bp.open(tmp_path / "one")) == {**a, **b}
    assert rows_of(bp.open(tmp_path / "two")) == b


def test_a_path_that_could_be_read_once_is_not_in_the_quarantine(make, tmp_path):
    one, two = make("one", {"a/1": 1}), make("two", {"a/2": 2})
    for features, bad in ((one, ["a/2", "a/3"]), (two, ["a/3"])):
        storage = features.features.directory.storage
        rows = features.rows
        rows.quarantine = [(path, "truncated") for path in bad]
        array = np.asarray(features.features)
        directory.write_directory(storage, features.header, rows, [array], existing=features)
    found = merged(tmp_path, bp.open(tmp_path / "one"), bp.open(tmp_path / "two"))
    assert found.quarantine == [("a/3", "truncated")]


def column_of(column):
    def change(rows):
        rows.meta = {"age": column(rows)}

    return change


@pytest.mark.parametrize(
    ("changes", "linked"),
    [
        ([column_of(lambda rows: np.arange(len(rows.paths), dtype=float))] * 2, True),
        ([column_of(lambda rows: ["old"] * len(rows.paths))] * 2, True),
        (
            [
                column_of(lambda rows: np.arange(len(rows.paths), dtype=float)),
                column_of(lambda rows: ["old"] * len(rows.paths)),
            ],
            False,
        ),
        ([column_of(lambda rows: ["old"] * len(rows.paths)), lambda rows: None], False),
    ],
    ids=["numbers", "texts", "both", "one"],
)
def test_a_row_of_both_has_the_same_columns_in_both(make, tmp_path, changes, linked):
    rows = {f"a/{i}": i for i in range(6)}
    sources = [make(name, rows, change=change) for name, change in zip("12", changes, strict=True)]
    found = merged(tmp_path, *sources)
    assert (found is not None) is linked
    if found is None:  # row by row, each says what it knows
        found = merge([each.file for each in sources], f"{tmp_path}/merged/").features
    assert rows_of(found) == rows
    assert list(found.meta) == ["age"]


@pytest.mark.parametrize(
    ("values", "linked"),
    [([[1, 0]], True), ([[1, np.nan]], False), ([[0, 1]], False)],
    ids=["equal", "unknown", "other"],
)
def test_a_row_of_both_has_the_same_targets_in_both(make, tmp_path, values, linked):
    def target(values):
        def change(rows):
            rows.classes = ["ant", "bee"]
            rows.labels = np.full(len(rows.paths), -1, np.int32)
            rows.targets = Targets("multilabel", rows.classes, np.array(values, np.float32))

        return change

    one = make("one", {"a/1": 1}, change=target([[1, 0]]))
    two = make("two", {"a/1": 1, "b/2": 2}, change=target([*values, [np.nan, 1]]))
    found = merged(tmp_path, one, two)
    assert (found is not None) is linked
    if found is not None:
        np.testing.assert_array_equal(found.targets, [[1, 0], [np.nan, 1]])
        np.testing.assert_array_equal(bp.open(found.file).targets, found.targets)


def test_a_shard_that_lost_a_column_in_one_of_them_is_not_linked(make, tmp_path):
    """Its file is the same, but what counts of it is not."""
    rows = {f"a/{i}": i for i in range(4)}
    one = make("one", rows, change=column_of(lambda rows: ["", "", "", ""]))
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    two = make("two", rows, existing=bp.open(tmp_path / "two"))
    assert merged(tmp_path, one, two) is None
    # It has one again, in which the rows of that shard have no value: nothing contradicts.
    own = column_of(lambda rows: ["", "", "", "", "new"])
    two = make("two", {**rows, "b/1": 1}, existing=two, change=own)
    shards = [directory.load(LocalStorage(each.file)).shards[0] for each in (one, two)]
    assert shards[0].name == shards[1].name
    assert [shard.meta for shard in shards] == [("age",), ()]
    assert merged(tmp_path, one, two) is None
    result = merge([one.file, two.file], f"{tmp_path}/merged/")
    assert result.features.meta["age"].tolist() == ["", "", "", "", "new"]


def test_a_shard_that_cannot_be_compared_is_brought_again(make, tmp_path, monkeypatch):
    one, two = make("one", {"a/1": 1}), make("two", {"b/2": 2})
    merge([one.file, two.file], f"{tmp_path}/merged/")
    for shard in (tmp_path / "merged").glob("*.h5"):
        data = shard.read_bytes()
        shard.unlink()
        shard.write_bytes(data)  # not the same file any more

    def unreadable(file):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(merging, "digest_of", unreadable)
    merge([one.file, two.file], f"{tmp_path}/merged/", force=True)
    for source in ("one", "two"):
        (shard,) = (tmp_path / source).glob("*.h5")
        assert shard.samefile(tmp_path / "merged" / shard.name)
