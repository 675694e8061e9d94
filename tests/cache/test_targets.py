"""Targets in a feature file: written, read back, joined, taken, exported, and refused where they lie."""

from __future__ import annotations

from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.errors import CacheError, InputError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

NAN = float("nan")


def features(values: object, names: list[str] | None = None, **options: object) -> bp.Features:
    values = np.array(values, np.float64)
    X = np.random.default_rng(len(values)).normal(size=(len(values), 5))
    return bp.Features.from_arrays(X, targets=values, classes=names, **options)


def same(a: object, b: object) -> bool:
    return np.array_equal(np.array(a, float), np.array(b, float), equal_nan=True)


@settings(deadline=None, max_examples=30)
@given(
    values=arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(1, 4)),
        elements=st.sampled_from([0.0, 1.0, NAN]),
    )
)
def test_labels_are_read_back(tmp_path_factory, values: np.ndarray):
    names = ["z", "ä", "a b", "10"][: values.shape[1]]
    made = features(values, names)
    read = bp.open(made.save(tmp_path_factory.mktemp("t") / "t.h5"))
    assert read.task == "multilabel"
    assert read.classes == sorted(names, key=str.encode)
    order = [names.index(name) for name in read.classes]
    assert same(read.targets, values[:, order])
    assert read.y.tolist() == [-1] * len(values)


@settings(deadline=None, max_examples=20)
@given(st.lists(st.floats(width=32, allow_infinity=False), min_size=1, max_size=6))
def test_numbers_are_read_back(tmp_path_factory, values: list[float]):
    read = bp.open(features(values).save(tmp_path_factory.mktemp("t") / "t.h5"))
    assert (read.task, read.classes) == ("regression", ["value"])
    assert same(read.targets[:, 0], values)


def test_a_file_of_classes_is_as_it_was(tmp_path: Path):
    """No new dataset and no attribute: files of before and of now are equal, byte for byte."""
    made = bp.Features.from_arrays([[0.0, 1.0], [1.0, 0.0]], ["a", "b"])
    with h5py.File(made.save(tmp_path / "t.h5")) as h5:
        assert "targets" not in h5
        assert "task" not in h5["checksums"]
    assert bp.open(tmp_path / "t.h5").targets is None
    assert bp.open(tmp_path / "t.h5").task == "classification"


def test_the_texts_of_the_labels():
    made = features([[1, 1], [0, 0], [NAN, 1], [NAN, NAN]], ["car", "ant"])
    assert made.labels.tolist() == ["ant|car", "", "ant", None]
    assert "labels: 'ant' 2, 'car' 1" in repr(made)
    assert "'value' from 2 to 3.5" in repr(features([2, 3.5]))


def test_a_task_that_was_changed_in_the_file_is_seen(tmp_path: Path):
    file = features([[1.0], [0.0]], ["a"]).save(tmp_path / "t.h5")
    with h5py.File(file, "r+") as h5:
        h5["targets"].attrs["task"] = "regression"
    with pytest.raises(CacheError, match="the task of the targets"):
        bp.open(file)


@pytest.mark.parametrize(
    ("values", "task", "told"),
    [
        ([[0.5]], "multilabel", "row 0 is 0.5"),
        ([[np.inf]], "regression", "row 0 is inf"),
        ([[1e300]], "regression", "row 0 is inf"),
    ],
)
def test_impossible_values_are_refused(values: object, task: str, told: str):
    with pytest.raises(InputError, match=told):
        features(values, ["a"], task=task)


def test_targets_need_a_name_each():
    for names in (["a"], ["a", "a"], ["a", "b|c"], ["a", ""]):
        with pytest.raises(InputError):
            features([[0, 1]], names)
    with pytest.raises(InputError, match="one column"):
        features([[0, 1]])


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        (np.eye(3), {"classes": ["a", "b", "c"]}, r"shape \(3, 3\) and dtype float64"),
        (np.zeros((4, 1, 1)), {}, r"shape \(4, 1, 1\)"),
        (["1", "2", "3", "4"], {}, "dtype <U1"),
        ([1, 2, 3, 4], {"task": "classification"}, "targets were given as well as classes"),
        ([1, 2, 3, 4], {"labels": ["a", None, None, None]}, "as well as classes"),
    ],
    ids=["rows", "axes", "texts", "task", "labels"],
)
def test_targets_that_do_not_fit_are_refused(values, options, told):
    with pytest.raises(InputError, match=told):
        bp.Features.from_arrays(np.eye(4), targets=values, **options)


def test_classes_become_labels_or_numbers_and_nothing_else_changes():
    made = bp.Features.from_arrays(np.eye(4), ["a|b", "b", "|", None])
    labels = made.with_task("multilabel")
    assert same(labels.targets, [[1, 1], [0, 1], [0, 0], [NAN, NAN]])
    assert labels.keys is made.keys
    numbers = bp.Features.from_arrays(np.eye(3), ["2", "-1.5e1", None], task="regression")
    assert same(numbers.targets[:, 0], [2, -15, NAN])
    assert made.with_task("auto").rows is made.rows
    with pytest.raises(InputError, match="of the task multilabel, not regression"):
        labels.with_task("regression")
    with pytest.raises(InputError, match="'a|b'".replace("|", r"\|")):
        made.with_task("regression")


def test_rows_are_taken_with_their_targets(tmp_path: Path):
    made = features([[1, 0], [0, NAN], [1, 1]], ["a", "b"])
    assert same(made.subset([2, 0]).targets, [[1, 1], [1, 0]])
    unordered = made.subset([1, 2, 0])
    assert same(bp.open(unordered.save(tmp_path / "t.h5")).targets, made.targets)


def test_joined_files_know_what_each_of_them_knows():
    """A label that a file has no column for is unknown there, not absent."""
    from bottleneck_probe.cache.joining import join

    a = features([[1, 0], [0, 1]], ["ant", "bee"], ids=["1", "2"])
    b = features([[1, 0, 1]] * 3, ["ant", "cow", "bee"], ids=["3", "4", "5"])
    joined = join([a, b])
    assert joined.classes == ["ant", "bee", "cow"]
    assert same(joined.targets, [[1, 0, NAN], [0, 1, NAN], *[[1, 1, 0]] * 3])


def test_files_of_different_tasks_are_not_joined():
    from bottleneck_probe.cache.joining import join

    a, b = features([[1], [0]], ["ant"]), features([3, 4, 5])
    with pytest.raises(InputError, match="multilabel and regression"):
        join([a, b])
    classes = bp.Features.from_arrays(np.eye(5), ["x"] * 5, ids=list("vwxyz"))
    with pytest.raises(InputError, match="classification and multilabel"):
        join([a, classes])


def test_one_row_with_two_answers_is_refused():
    from bottleneck_probe.cache.joining import join

    X = np.eye(2)
    a = bp.Features.from_arrays(X, targets=[[1], [0]], classes=["a"])
    b = bp.Features.from_arrays(X, targets=[[1], [1]], classes=["a"])
    with pytest.raises(CacheError, match=r"1 has two labels: '' in .*, 'a' in"):
        join([a, b])
    unknown = bp.Features.from_arrays(X, targets=[[1], [NAN]], classes=["a"])
    assert same(join([unknown, b]).targets, [[1], [1]])
    assert same(join([b, unknown]).targets, [[1], [1]])


def test_exports_hold_them(tmp_path: Path):
    made = features([[1, NAN], [0, 1]], ["car", "ant"])
    table = made.to(tmp_path / "t.csv").read_text().splitlines()
    assert table[0].startswith("path,label,split,y_ant,y_car,f0")
    assert [line.split(",")[1:5] for line in table[1:]] == [
        ["car", "", "", "1.0"],
        ["ant", "", "1.0", "0.0"],
    ]
    assert same(np.load(made.to(tmp_path / "t.npz"))["targets"], made.targets)
    assert made.to_pandas()["y_ant"].tolist()[1] == 1.0
    numbers = features([2.5, NAN]).to(tmp_path / "n.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in numbers] == ["label", "2.5", ""]


def test_what_is_about_classes_says_so():
    with pytest.raises(InputError, match="a learning curve is for images of one class each"):
        features([[1], [0]], ["a"]).require_classes("a learning curve")
