"""What `cache diff` says differs does, and what it does not say is equal."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import differing
from bottleneck_probe.cache.differing import diff
from bottleneck_probe.cache.format import write


@pytest.fixture
def pair(tmp_path, header, rows, features):
    """Writes a file of 100 rows as it is, and one that `change(columns, X, header_fields)` altered."""

    def make(change=lambda columns, X, fields: None):
        write(tmp_path / "a.h5", header(), rows(100), [features(100)])
        columns, X, fields = rows(100), features(100), {}
        change(columns, X, fields)
        write(tmp_path / "b.h5", header(**fields), columns, [X])
        return bp.open(tmp_path / "a.h5"), bp.open(tmp_path / "b.h5")

    return make


def test_equal_files_are_the_same(pair):
    found = diff(*pair())
    assert found.same
    assert found.values["penultimate:none"] == {
        "compared": 100,
        "differ": 0,
        "largest": 0.0,
        "path": None,
    }
    assert json.loads(json.dumps(found.to_dict()))["same"] is True


def test_where_it_ran_is_told_and_is_no_difference(pair):
    def change(columns, X, fields):
        fields["environment"] = {"engine": "onnx"}

    found = diff(*pair(change))
    assert found.same
    assert found.environment == [("engine", "eager", "onnx")]


def test_features_that_differ_though_the_key_is_equal_are_measured(pair, monkeypatch):
    monkeypatch.setattr(differing, "WINDOW_ROWS", 7)

    def change(columns, X, fields):
        X[20] *= 1.5
        X[70] *= 1.25

    found = diff(*pair(change))
    told = found.values["penultimate:none"]
    assert (told["differ"], told["compared"], told["path"]) == (2, 100, "ants/00020.jpg")
    assert told["largest"] == pytest.approx(0.5)
    assert not found.same


def test_rows_that_are_new_gone_moved_and_edited_are_told_apart(pair):
    def change(columns, X, fields):
        columns.paths[99] = "ants/99999.jpg"  # moved
        columns.keys[50] ^= 1  # edited
        columns.paths[98], columns.keys[98] = "ants/99998.jpg", 7  # another image at another path
        columns.quarantine = [("ants/worse.jpg", "empty")]

    a, b = pair(change)
    b = b.subset(sorted(range(100), key=lambda i: b.rows.paths[i]))
    found = diff(a, b)
    assert found.moved == [("ants/00099.jpg", "ants/99999.jpg")]
    assert found.edited == ["ants/00050.jpg"]
    assert (found.only_a, found.only_b) == (["ants/00098.jpg"], ["ants/99998.jpg"])
    assert found.quarantine == (["ants/bad.jpg"], ["ants/worse.jpg"])
    assert found.values["penultimate:none"]["compared"] == 99 - 1
    assert found.rows == (100, 100)


def test_labels_splits_and_columns_are_compared_row_by_row(pair):
    def change(columns, X, fields):
        columns.labels[3] = 1 - columns.labels[3] if columns.labels[3] >= 0 else 0
        columns.splits[4] = "test"
        columns.meta["weight"][5] = np.nan
        columns.meta["weight"][6] = np.nan
        columns.meta["more"] = columns.meta.pop("folder")

    a, b = pair(change)
    a.rows.meta["weight"][6] = np.nan
    found = diff(a, b)
    assert [path for path, _, _ in found.changed["label"]] == ["ants/00003.jpg"]
    assert [path for path, _, _ in found.changed["split"]] == ["ants/00004.jpg"]
    assert [path for path, _, _ in found.changed["weight"]] == ["ants/00005.jpg"]
    assert found.columns == (["folder"], ["more"])


def test_features_of_two_recipes_are_not_compared(
    layered, written, header, rows, features, tmp_path
):
    path, _, _ = layered(10)
    whole = bp.open(path)
    found = diff(whole, whole.output("layer3:avg"))
    assert found.outputs[0] == [name for name in whole.outputs if name != "layer3:avg"]
    assert found.values == {
        "layer3:avg": {"compared": 10, "differ": 0, "largest": 0.0, "path": None}
    }
    recipe = {**whole.recipe, "precision": "bf16", "outputs": whole.recipe["outputs"][:1]}
    write(tmp_path / "other.h5", header(recipe), rows(10), [features(10)])
    found = diff(whole, bp.open(tmp_path / "other.h5"))
    assert found.recipe == [("precision", "fp32", "bf16")]
    assert found.values == {}
    assert not found.same


def test_views_are_matched_one_by_one(tmp_path, header, rows, features):
    def make(name, views):
        columns = rows(4)
        columns.paths = ["a", "a", "a!", "a!"]
        columns.view = np.array(views, np.int32)
        columns.keys = np.array([[1] * 32, [1] * 32, [2] * 32, [2] * 32], np.uint8)
        write(tmp_path / name, header(), columns, [features(4)])
        return bp.open(tmp_path / name)

    found = diff(make("a.h5", [0, 1, 0, 1]), make("b.h5", [0, 1, 0, 2]))
    assert (found.only_a, found.only_b) == (["a!"], ["a!"])
    assert found.values["penultimate:none"]["compared"] == 3


def test_recipes_and_places_are_told_as_json(pair, header):
    """Also a field that only one of them has."""
    recipe = {**header().recipe, "precision": "bf16", "flip": True}

    def change(columns, X, fields):
        fields.update(recipe=recipe, root="/data/bees", environment={"engine": "onnx"})

    told = json.loads(json.dumps(diff(*pair(change)).to_dict()))
    assert told["same"] is False
    assert told["recipe"] == [
        {"field": "precision", "a": "fp32", "b": "bf16"},
        {"field": "flip", "a": None, "b": True},
    ]
    assert told["environment"] == [{"field": "engine", "a": "eager", "b": "onnx"}]
    assert told["root"] == ["/data/ants", "/data/bees"]


def test_features_of_another_length_all_differ(pair, header, rows, features, tmp_path):
    """Of one recipe all the same, so that one of the files is not what it says."""
    a, _ = pair()
    write(tmp_path / "c.h5", header(), rows(100), [features(100, 5)])
    found = diff(a, bp.open(tmp_path / "c.h5"))
    told = found.values["penultimate:none"]
    assert (told["compared"], told["differ"], told["path"]) == (100, 100, None)
    assert told["largest"] == float("inf")
    assert not found.same
