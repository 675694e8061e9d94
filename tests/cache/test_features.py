import pickle
import subprocess
import sys
from dataclasses import replace

import bottleneck_probe as bp
import numpy as np
import pandas as pd
import pytest
from bottleneck_probe.errors import CacheError, InputError
from bottleneck_probe.paths import escape


def own(**changes):
    fields = {"labels": ["b", "a", None, "b"], "ids": ["w", "z", "x", "y"], **changes}
    return bp.Features.from_arrays(np.arange(12).reshape(4, 3), **fields)


def test_a_file_opens_with_everything_that_was_written(written, header):
    path, X, rows = written()
    found = bp.open(path)
    np.testing.assert_array_equal(found.features, X)
    np.testing.assert_array_equal(found.y, rows.labels)
    assert found.y.dtype == np.int32
    names = [rows.classes[i] if i >= 0 else None for i in rows.labels]
    assert found.labels.tolist() == names
    assert None in names
    assert found.labels.dtype == object
    assert found.paths.tolist() == rows.paths
    assert found.splits.tolist() == rows.splits
    assert found.classes == ["ants", "bees"]
    assert found.meta["folder"].tolist() == rows.meta["folder"]
    np.testing.assert_array_equal(found.meta["weight"], rows.meta["weight"])
    np.testing.assert_array_equal(found.keys, rows.keys)
    assert found.recipe == header().recipe
    assert found.environment == {"engine": "eager"}
    assert (found.fingerprint, found.root) == (header().fingerprint, "/data/ants")
    assert found.quarantine == rows.quarantine
    assert (found.file, len(found)) == (path, 10)


def test_a_relative_name_survives_a_change_of_folder(written, monkeypatch, tmp_path):
    path, X, _ = written()
    monkeypatch.chdir(path.parent)
    found = bp.open("ants.h5")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    np.testing.assert_array_equal(found.features[:], X)


def test_a_missing_file_is_told_with_near_names(written):
    path, _, _ = written(name="photos-resnet50.h5")
    with pytest.raises(CacheError, match="does not exist") as caught:
        bp.open(path.with_name("photo-resnet50.h5"))
    assert "did you mean" in caught.value.next
    assert str(path) in caught.value.next
    with pytest.raises(CacheError, match="no folder"):
        bp.open(path.parent / "nowhere" / "x.h5")
    with pytest.raises(CacheError) as caught:
        bp.open(path.parent / "zzz.h5")
    assert "bottleneck extract" in caught.value.next


def test_a_subset_stays_aligned(written):
    path, X, rows = written()
    whole = bp.open(path)
    for index in ([7, 2, 2], slice(2, 9, 3), whole.y == 0, np.array([], int)):
        part = whole.subset(index)
        np.testing.assert_array_equal(np.asarray(part.features), X[index])
        np.testing.assert_array_equal(part.y, rows.labels[index])
        np.testing.assert_array_equal(part.keys, rows.keys[index])
        assert part.paths.tolist() == np.array(rows.paths)[index].tolist()
        assert part.splits.tolist() == np.array(rows.splits)[index].tolist()
        assert part.meta["folder"].tolist() == np.array(rows.meta["folder"])[index].tolist()
        assert part.classes == rows.classes


def test_views_are_rows_that_stay_with_their_image(header, rows, features, tmp_path):
    table, X = rows(6), features(6)
    table.paths = [table.paths[i // 3] for i in range(6)]
    table.view = np.array([0, 1, 2] * 2, np.int32)
    tiles = bp.Features(header(), table, X)
    mixed = tiles.subset([4, 2, 0, 5, 1, 3])
    assert mixed.views.tolist() == [1, 2, 0, 2, 1, 0]
    found = bp.open(mixed.save(tmp_path / "x.h5"))
    assert found.views.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.views.dtype == np.int32
    np.testing.assert_array_equal(found.features, X)
    assert found.to_pandas()["view"].tolist() == [0, 1, 2, 0, 1, 2]
    single = own()
    assert single.views.tolist() == [0, 0, 0, 0]
    assert single.views.dtype == np.int32
    assert "view" not in single.to_pandas()


def test_arrays_of_ones_own_keep_their_order():
    found = own(splits=["train", "", "val", "test"], meta={"price": [1, 2, 3, 4], "who": "abcd"})
    np.testing.assert_array_equal(found.features, np.arange(12).reshape(4, 3))
    assert found.features.dtype == np.float32
    assert found.classes == ["a", "b"]
    assert found.y.tolist() == [1, 0, -1, 1]
    assert found.labels.tolist() == ["b", "a", None, "b"]
    assert found.paths.tolist() == ["w", "z", "x", "y"]
    assert found.splits.tolist() == ["train", "", "val", "test"]
    assert found.meta["price"].tolist() == [1, 2, 3, 4]
    assert found.meta["who"].tolist() == list("abcd")
    assert found.file is None


def test_saved_and_opened_they_are_ordered_by_path(tmp_path):
    found = own()
    back = bp.open(found.save(tmp_path / "own.h5"))
    order = np.argsort(found.paths)
    assert back.paths.tolist() == ["w", "x", "y", "z"]
    np.testing.assert_array_equal(back.features, found.features[order])
    np.testing.assert_array_equal(back.keys, found.keys[order])
    assert back.labels.tolist() == found.labels[order].tolist()
    assert back.fingerprint == found.fingerprint


def test_a_file_can_be_saved_over_itself(written):
    path, X, _ = written()
    bp.open(path).subset(slice(3, 7)).save(path)
    np.testing.assert_array_equal(bp.open(path).features, X[3:7])


def test_equal_rows_have_equal_keys_whatever_their_ids():
    X = np.array([[0.0, 1], [-0.0, 1], [0, 2]])
    keys = bp.Features.from_arrays(X, ids=["a", "b", "c"]).keys
    assert keys.shape == (3, 32)
    assert (keys[0] == keys[1]).all()
    assert (keys[0] != keys[2]).any()
    again = bp.Features.from_arrays(X.astype(np.float32), ids=["d", "e", "f"]).keys
    np.testing.assert_array_equal(keys, again)
    wide = bp.Features.from_arrays(np.zeros((1, 2))).keys
    assert (wide != bp.Features.from_arrays(np.zeros((1, 3))).keys).any()


def test_the_caller_may_change_its_array_afterwards():
    X = np.ones((2, 2), np.float32)
    found = bp.Features.from_arrays(X)
    X[:] = 0
    assert found.features.min() == 1


@pytest.mark.parametrize(
    "labels",
    [["1", "0", "", "1"], [1, 0, None, 1], pd.Series(["1", "0", None, "1"]), np.array([b"1"] * 0)],
    ids=["text", "integers", "pandas", "empty"],
)
def test_labels_are_names_and_empty_is_none(labels):
    if len(labels) == 0:
        with pytest.raises(InputError, match="0 labels for 4 rows"):
            own(labels=labels)
        return
    found = own(labels=labels)
    assert found.classes == ["0", "1"]
    assert found.y.tolist() == [1, 0, -1, 1]


def test_ids_count_up_and_sort_as_they_count():
    paths = bp.Features.from_arrays(np.zeros((11, 1))).paths.tolist()
    assert paths == sorted(paths)
    assert (paths[0], paths[-1]) == ("00", "10")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": ["a"]}, "1 labels for 4 rows"),
        ({"labels": [1.5, 1, 1, 1]}, "label of row 0 is 1.5"),
        ({"ids": ["w", "w", "x", "y"]}, "id 'w' stands twice"),
        ({"ids": ["w", "\udc80", "x", "y"]}, "id of row 1 is not Unicode"),
        ({"ids": ["w", "\0", "x", "y"]}, "NUL"),
        ({"splits": ["train", "Train", "", ""]}, "split of row 1 is 'Train'"),
        ({"meta": {"a": [1]}}, "1 values of a for 4 rows"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        own(**changes)


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (np.zeros(3), "shape"),
        (np.zeros((0, 3)), "shape"),
        (np.array([["a"]]), "dtype"),
        (np.array([[1.0], [np.nan]]), "in 1 rows, the first is 1"),
        (np.array([[1e39]]), "too large"),
    ],
)
def test_features_that_are_no_finite_matrix_are_refused(X, words):
    with pytest.raises(InputError, match=words):
        bp.Features.from_arrays(X)


def test_features_of_different_recipes_have_different_fingerprints():
    plain = own()
    assert own().fingerprint == plain.fingerprint
    assert own(recipe={"modality": "audio"}).fingerprint != plain.fingerprint


def test_to_pandas_has_a_column_for_each_thing(written):
    path, X, rows = written()
    frame = bp.open(path).to_pandas()
    names = ["path", "label", "split", "weight", "folder", *(f"f{i}" for i in range(8))]
    assert list(frame.columns) == names
    np.testing.assert_array_equal(frame[names[5:]], X)
    assert frame["path"].tolist() == rows.paths
    assert frame["label"].isna().sum() == (rows.labels == -1).sum()


def test_it_shows_itself_without_running_what_a_name_says():
    found = own(labels=["<script>x</script>", "\x1b[31mred", None, None])
    assert "<script>" not in found._repr_html_()
    assert "&lt;script&gt;" in found._repr_html_()
    assert "\x1b" not in repr(found)
    assert "4 x 3" in repr(found)
    assert "unlabelled 2" in repr(found)


def test_it_can_be_sent_to_another_process(written):
    path, X, _ = written()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(bp.open(path))).features, X)


def test_opening_a_file_imports_neither_torch_nor_scikit_learn(written):
    path, _, _ = written()
    code = f"""
import sys, bottleneck_probe as bp
bp.open({str(path)!r}).features[:]
print([name for name in ("torch", "sklearn", "scipy", "pandas", "PIL") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_are_where_the_images_were(tmp_path):
    features = bp.Features.from_arrays(np.eye(2), ids=["a%25.jpg", "b/c.jpg"])
    assert features.files.tolist() == ["a%25.jpg", "b/c.jpg"], "from memory: no files"
    header = replace(features.header, root=escape(str(tmp_path / "50%")))
    on_disk = bp.Features(header, features.rows, features.features)
    assert on_disk.files.tolist() == [
        str(tmp_path / "50%" / "a%.jpg"),
        str(tmp_path / "50%" / "b" / "c.jpg"),
    ]
