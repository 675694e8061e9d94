import csv
import sys

import bottleneck_probe as bp
import numpy as np
import pyarrow.parquet
import pytest
from bottleneck_probe.cache.export import FORMULA, safe_path, safe_text
from bottleneck_probe.errors import InputError, MissingExtraError


@pytest.fixture
def hostile() -> bp.Features:
    """Names that a spreadsheet would run, that need quoting, or that collide with a column."""
    X = np.array([[0.1, -1e-30], [3, 4], [1 / 3, 65504]], np.float32)
    return bp.Features.from_arrays(
        X,
        labels=["=cmd", None, 'a"b\n,c'],
        ids=["=cmd|' /C calc'!A0", "plain", "@x"],
        splits=["train", "", "test"],
        meta={"note": ["+1", "ok", "\t"], "f0": [1.5, np.nan, -2], "path": ["x", "y", "-z"]},
    )


def test_csv_holds_all_columns_and_reads_back_bitwise(hostile, tmp_path):
    path = hostile.to(tmp_path / "x.csv")
    with path.open(encoding="utf-8", newline="") as file:
        head, *lines = csv.reader(file)
    assert head == ["path", "label", "split", "note", "meta/f0", "meta/path", "f0", "f1"]
    assert [line[:6] for line in lines] == [
        ["./=cmd|' /C calc'!A0", "'=cmd", "train", "'+1", "1.5", "x"],
        ["plain", "", "", "ok", "", "y"],
        ["./@x", 'a"b\n,c', "test", "'\t", "-2.0", "'-z"],
    ]
    numbers = np.array([line[6:] for line in lines], np.float32)
    np.testing.assert_array_equal(numbers, hostile.features)
    assert lines[0][6] == "0.1"  # the shortest digits of the float32


@pytest.mark.parametrize("start", FORMULA)
def test_no_text_of_a_table_starts_as_a_formula(start):
    for text in (safe_path(f"{start}x"), safe_text(f"{start}x")):
        assert not text.startswith(FORMULA)
    assert safe_path("a=b") == safe_text("a=b") == "a=b"


def test_parquet_holds_all_columns(hostile, tmp_path):
    table = pyarrow.parquet.read_table(hostile.to(tmp_path / "x.parquet"))
    assert table.column_names[:4] == ["path", "label", "split", "note"]
    assert table["path"].to_pylist() == hostile.paths.tolist()
    assert table["label"].to_pylist() == hostile.labels.tolist()
    X = np.column_stack([table["f0"], table["f1"]])
    assert X.dtype == np.float32
    np.testing.assert_array_equal(X, hostile.features)


def test_npz_loads_without_pickle(hostile, tmp_path):
    with np.load(hostile.to(tmp_path / "x.npz"), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
    np.testing.assert_array_equal(found["features"], hostile.features)
    np.testing.assert_array_equal(found["y"], hostile.y)
    np.testing.assert_array_equal(found["keys"], hostile.keys)
    assert found["paths"].tolist() == hostile.paths.tolist()
    assert found["labels"].tolist() == ["=cmd", "", 'a"b\n,c']
    assert found["meta/note"].tolist() == ["+1", "ok", "\t"]
    assert not any(array.dtype.hasobject for array in found.values())


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npz"])
def test_a_file_on_disk_is_exported_in_pieces(written, tmp_path, suffix):
    path, X, rows = written(n=4200, d=2)
    made = bp.open(path).to(tmp_path / f"x{suffix}")
    if suffix == ".csv":
        found = np.loadtxt(made, delimiter=",", skiprows=1, usecols=(5, 6), dtype=np.float32)
        with made.open(encoding="utf-8", newline="") as file:
            assert [line[0] for line in csv.reader(file)][1:] == rows.paths
    elif suffix == ".npz":
        found = np.load(made)["features"]
    else:
        found = pyarrow.parquet.read_table(made, columns=["f0", "f1"]).to_pandas().to_numpy()
    np.testing.assert_array_equal(found, X)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["ants.h5", f"x{suffix}"])


def test_an_error_half_way_leaves_nothing(written, tmp_path, monkeypatch):
    path, _, _ = written()
    features = bp.open(path)
    path.unlink()
    for suffix in (".csv", ".npz", ".parquet"):
        with pytest.raises(bp.CacheError):
            features.to(tmp_path / f"x{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_suffix_is_told_with_those_there_are(hostile, tmp_path):
    with pytest.raises(InputError, match=r"\.xlsx") as caught:
        hostile.to(tmp_path / "x.xlsx")
    assert ".csv, .parquet, .npz" in caught.value.expected


def test_parquet_without_pyarrow_names_the_extra(hostile, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="pyarrow") as caught:
        hostile.to(tmp_path / "x.parquet")
    assert "bottleneck-probe[parquet]" in caught.value.next


def test_views_are_whole_numbers_in_every_format(tmp_path):
    """So that a row is found again by path and view, wherever it went."""
    own = bp.Features.from_arrays(np.eye(3), ids=["a", "b", "c"])
    own.rows.paths, own.rows.view = ["a", "a", "b"], np.array([0, 1, 0], np.int32)
    with own.to(tmp_path / "x.csv").open(encoding="utf-8") as file:
        head, *lines = csv.reader(file)
    assert [line[head.index("view")] for line in lines] == ["0", "1", "0"]
    table = pyarrow.parquet.read_table(own.to(tmp_path / "x.parquet"))
    assert table["view"].to_pylist() == [0, 1, 0]
    with np.load(own.to(tmp_path / "x.npz"), allow_pickle=False) as arrays:
        assert arrays["view"].tolist() == [0, 1, 0]
        assert arrays["view"].dtype == np.int32
