import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from bottleneck_probe import paths as stored_paths
from bottleneck_probe.cache import reading
from bottleneck_probe.cache.array import FeatureArray
from bottleneck_probe.cache.format import Rows, read, read_header, write
from bottleneck_probe.errors import CacheError
from bottleneck_probe.targets import Targets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Everything UTF-8 can hold but NUL: quotes, newlines, emoji, right-to-left, unassigned.
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
UNIQUE = st.lists(TEXT, min_size=1, max_size=12, unique=True)


@st.composite
def tables(draw):
    names = sorted(draw(UNIQUE), key=stored_paths.order)
    n = len(names)
    classes = sorted(draw(st.lists(TEXT, max_size=4, unique=True)), key=str.encode)
    column = st.lists(TEXT, min_size=n, max_size=n)
    numbers = st.lists(st.floats(width=64), min_size=n, max_size=n)
    # Of some names HDF5 would make something else: "." is the group itself.
    names_of_columns = st.sampled_from([".", "..", "", "/", "%2E"]) | TEXT
    meta = draw(st.dictionaries(names_of_columns, column | numbers.map(np.array), max_size=3))
    return Rows(
        paths=names,
        keys=np.frombuffer(draw(st.binary(min_size=32 * n, max_size=32 * n)), "u1").reshape(n, 32),
        labels=np.array(
            draw(st.lists(st.integers(-1, len(classes) - 1), min_size=n, max_size=n)), np.int32
        ),
        splits=draw(
            st.lists(st.sampled_from(["", "train", "val", "test"]), min_size=n, max_size=n)
        ),
        classes=classes,
        meta=meta,
        quarantine=draw(st.lists(st.tuples(TEXT, TEXT), max_size=3)),
    )


@settings(
    deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=tables(), d=st.integers(1, 7), cut=st.integers(1, 5), store=st.booleans())
def test_what_is_written_is_read_back(tmp_path_factory, header, rows, d, cut, store):
    path = tmp_path_factory.getbasetemp() / "round-trip.h5"
    X = np.random.default_rng(d).standard_normal((len(rows), d)).astype(np.float32)
    told = header(store="float16" if store else "float32")
    write(path, told, rows, [X[i : i + cut] for i in range(0, len(X), cut)])
    back, found, stored = read(path)
    assert (back.recipe, back.environment) == (told.recipe, told.environment)
    assert (back.fingerprint, back.root, back.store) == (told.fingerprint, told.root, told.store)
    assert found.paths == rows.paths
    assert found.splits == rows.splits
    assert found.classes == rows.classes
    assert found.quarantine == rows.quarantine
    assert list(found.meta) == list(rows.meta)
    for name, column in rows.meta.items():
        np.testing.assert_array_equal(found.meta[name], column)
    np.testing.assert_array_equal(found.keys, rows.keys)
    np.testing.assert_array_equal(found.labels, rows.labels)
    expected = X.astype(np.float16).astype(np.float32) if store else X
    np.testing.assert_array_equal(np.asarray(FeatureArray(stored)), expected)


@pytest.mark.parametrize("n", [1, 63, 64, 65, 4095, 4096, 4097, 9000])
def test_blocks_of_any_size_give_one_file(tmp_path, header, rows, features, n):
    """Where blocks are cut has no influence on the bytes, and no row is lost at an edge."""
    X, table = features(n, 3), rows(n)
    for name, cut in (("a", n), ("b", 7), ("c", 1000)):
        write(tmp_path / name, header(), table, (X[i : i + cut] for i in range(0, n, cut)))
    contents = {(tmp_path / name).read_bytes() for name in "abc"}
    assert len(contents) == 1
    with h5py.File(tmp_path / "a") as h5:
        np.testing.assert_array_equal(h5["features"][:], X)


def test_views_of_one_image_are_rows_of_one_path(tmp_path, header, features):
    table = Rows(
        ["a", "a", "b"], np.zeros((3, 32), np.uint8), np.full(3, -1, np.int32), [""] * 3, []
    )
    table.view = np.array([0, 1, 0], np.int32)
    write(tmp_path / "x.h5", header(), table, [features(3)])
    assert read(tmp_path / "x.h5")[1].view.tolist() == [0, 1, 0]
    for wrong, words in (([0, 0, 0], "stands twice"), ([1, 0, 0], "stands twice")):
        table.view = np.array(wrong, np.int32)
        with pytest.raises(CacheError, match=words) as caught:
            write(tmp_path / "y.h5", header(), table, [features(3)])
        assert caught.value.expected.startswith("each path once per view")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_feature_that_is_no_number_is_refused_with_its_rows(written, header, rows, features, bad):
    path, _, _ = written()
    before = path.read_bytes()
    X = features(5000, 2)
    X[[3, 4500], 1] = bad
    with pytest.raises(CacheError, match="row 3"):
        write(path, header(), rows(5000), [X])
    X[3] = 0
    with pytest.raises(CacheError, match="row 4500"):
        write(path, header(), rows(5000), [X])
    assert path.read_bytes() == before


def test_float16_that_would_overflow_is_refused_and_never_infinite(tmp_path, header, rows):
    X = np.ones((10, 2), np.float32)
    X[7, 1] = 65504
    write(tmp_path / "x.h5", header(store="float16"), rows(10), [X])
    X[7, 1] = 70000
    with pytest.raises(CacheError, match=r"row 7: up to 70000") as caught:
        write(tmp_path / "x.h5", header(store="float16"), rows(10), [X])
    assert "65504" in caught.value.expected


def break_rows(table: Rows, what: str) -> None:
    if what == "counts":
        table.splits.pop()
    elif what == "label":
        table.labels[2] = 2
    elif what == "split":
        table.splits[0] = "Train"
    elif what == "order":
        table.paths.reverse()
    elif what == "twice":
        table.paths[1] = table.paths[0]
    elif what == "classes":
        table.classes.reverse()
    elif what == "nul":
        table.paths[0] = "ants/\0"
    elif what == "surrogate":
        table.meta["folder"][3] = "\udcff"
    elif what == "keys":
        table.keys = table.keys[:, :31]
    elif what == "hashes":
        table.phash = np.zeros(10, np.int64)
    elif what in ("task", "targets", "names", "both"):
        values, names = np.zeros((10, 2), np.float32), list(table.classes)
        if what != "both":
            table.labels[:] = -1
        else:
            table.labels[3] = 1
        table.targets = Targets(
            "poetry" if what == "task" else "multilabel",
            names[::-1] if what == "names" else names,
            values[:9] if what == "targets" else values,
        )


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("counts", "paths 10, keys 10, labels 10, splits 9"),
        ("label", "row 2 is 2, but there are 2 classes"),
        ("split", "unknown split 'Train'"),
        ("order", "out of order"),
        ("twice", "stands twice"),
        ("classes", "byte order"),
        ("nul", "NUL"),
        ("surrogate", "entry 3 of meta/folder"),
        ("keys", r"keys are \(10, 31\)"),
        ("hashes", "phash is int64"),
        ("task", "the task is 'poetry'"),
        ("targets", r"targets are \(9, 2\) float32"),
        ("names", r"targets are \(10, 2\) float32"),
        ("both", "rows have a class as well as targets"),
    ],
)
def test_rows_that_do_not_fit_together_are_not_written(
    tmp_path, header, rows, features, what, words
):
    table = rows(10)
    break_rows(table, what)
    with pytest.raises(CacheError, match=words):
        write(tmp_path / "x.h5", header(), table, [features(10)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [0, 9, 11])
def test_too_few_or_too_many_features_are_not_written(tmp_path, header, rows, features, n):
    with pytest.raises(CacheError, match="no row" if n == 0 else "keys 10"):
        write(tmp_path / "x.h5", header(), rows(10), iter([features(n)] if n else []))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path, header, rows, features, monkeypatch
):
    from bottleneck_probe.cache import media

    monkeypatch.setattr(media.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 9}))
    with pytest.raises(CacheError, match="disk full: needs 960 bytes, has 9 bytes"):
        write(tmp_path / "x.h5", header(), rows(10), [features(10)])
    assert list(tmp_path.iterdir()) == []


def edit(path: Path, change) -> None:
    with h5py.File(path, "r+") as h5:
        change(h5)


def as_of_another_program(h5) -> None:
    """A file without checksums: those of ours always have them."""
    del h5["checksums"], h5.attrs["created_by"]


def replace(h5, name, data, **options):
    del h5[name]
    h5.create_dataset(name, data=data, **options)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h5: h5.attrs.__setitem__("format_version", 2), "version 2, this reads 1"),
        (lambda h5: h5.attrs.__delitem__("format_version"), "it does not say which"),
        (lambda h5: h5.attrs.__setitem__("format_version", 0), "it says 0"),
        (lambda h5: h5.attrs.__setitem__("format_version", "1"), "it says '1'"),
        (lambda h5: h5.attrs.__setitem__("format", "other"), "not of ours"),
        (lambda h5: h5.attrs.__delitem__("format"), "not of ours"),
        (lambda h5: h5.attrs.__delitem__("recipe"), "lacks the root attribute recipe"),
        (lambda h5: h5.attrs.__setitem__("root", "/other"), "root attributes"),
        (lambda h5: h5.attrs.__setitem__("recipe", h5.attrs["recipe"][:-1]), "root attributes"),
        (lambda h5: h5.__delitem__("keys"), "lacks keys"),
        (lambda h5: h5.__delitem__("features"), "lacks features"),
        (lambda h5: replace(h5, "keys", h5["keys"][:-1]), "features 10, keys 9"),
        (lambda h5: replace(h5, "labels", np.zeros(11, "i4")), "labels 11"),
        (lambda h5: replace(h5, "meta/weight", np.zeros(9)), "meta/weight 9"),
        (lambda h5: replace(h5, "view", np.zeros(9, "i4")) if "view" in h5 else
            h5.create_dataset("view", data=np.zeros(9, "i4")), "view 9"),
        (lambda h5: replace(h5, "labels", np.zeros(10, "i8")), "labels is 1-dimensional int64"),
        (lambda h5: replace(h5, "features", np.zeros((10, 8))), "features is 2-dimensional"),
        (lambda h5: replace(h5, "paths", np.zeros(10)), "paths is 1-dimensional float64"),
        (lambda h5: replace(h5, "keys", np.zeros((10, 16), "u1")), "keys have 16 bytes"),
        (lambda h5: replace(h5, "checksums/keys", np.zeros((1, 32), "f4")), "checksums/keys"),
        (lambda h5: h5["checksums"].attrs.__setitem__("content", "0"), "contradict"),
        (lambda h5: h5["labels"].__setitem__(0, 7), "labels, rows 0 to"),
        (lambda h5: h5["paths"].__setitem__(0, "ants/x.jpg"), "paths, rows 0 to"),
        (lambda h5: h5["keys"].__setitem__((3, 3), h5["keys"][3, 3] ^ 1), "keys, rows 0 to"),
    ],
    ids=range(24),
)  # fmt: skip
def test_a_file_that_was_tampered_with_is_refused_in_plain_words(written, change, words):
    path, _, _ = written()
    edit(path, change)
    with pytest.raises(CacheError, match=re.escape(words)) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_without_checksums_values_are_still_checked(written):
    """A file from another program has none; its labels and recipe must make sense anyway."""
    path, X, _ = written()
    edit(path, as_of_another_program)
    stored = read(path)[2]
    np.testing.assert_array_equal(FeatureArray(stored)[:], X)
    edit(path, lambda h5: h5["labels"].__setitem__(4, 9))
    with pytest.raises(CacheError, match="label of row 4 is 9"):
        read(path)
    edit(path, lambda h5: h5["labels"].__setitem__(4, 0))
    edit(path, lambda h5: h5.attrs.__setitem__("fingerprint", "0" * 64))
    with pytest.raises(CacheError, match="does not belong to the recipe"):
        read(path)
    edit(path, lambda h5: h5.attrs.__setitem__("recipe", "{"))
    with pytest.raises(CacheError, match="not JSON"):
        read_header(path)


def targets_of_no_task(h5):
    h5["targets"] = np.zeros((10, 2), np.float32)
    h5["targets"].attrs["task"] = 7


def latin_1(h5):
    kind = h5py.string_dtype("utf-8")
    values = np.array([b"caf\xe9 %d" % i for i in range(10)], object)
    replace(h5, "meta/folder", values, dtype=kind)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (targets_of_no_task, "the task of its targets is no text"),
        (latin_1, "meta/folder is not UTF-8"),
        (lambda h5: h5.attrs.__setitem__("recipe", "[]"), "recipe is not a JSON object"),
        (lambda h5: h5.attrs.__setitem__("environment", "7"), "environment is not a JSON object"),
    ],
)
def test_what_another_program_wrote_otherwise_is_told(written, change, words):
    path, _, _ = written()
    edit(path, as_of_another_program)
    edit(path, change)
    with pytest.raises(CacheError, match=words) as caught:
        read(path)
    assert str(path) in caught.value.where


def test_a_block_that_exceeds_the_memory_is_refused_before_it_is_read(written, monkeypatch):
    """A row is read with all of its block, so that a small file may ask for a lot."""
    path, X, _ = written()
    monkeypatch.setattr(reading, "physical_memory", lambda: 2 * X.nbytes)
    read(path)
    monkeypatch.setattr(reading, "physical_memory", lambda: 2 * X.nbytes - 2)
    with pytest.raises(CacheError, match="larger than half of this machine's memory"):
        read(path)
    edit(path, as_of_another_program)  # without checksums it is read row by row
    np.testing.assert_array_equal(FeatureArray(read(path)[2])[:], X)


def test_what_a_reader_does_not_know_is_ignored(written):
    path, X, _ = written()

    def extend(h5):
        h5["phash"] = np.zeros(10, np.uint64)
        h5.create_group("layers")
        h5.attrs["later"] = "x"

    edit(path, extend)
    np.testing.assert_array_equal(FeatureArray(read(path)[2])[:], X)


def test_the_header_alone_is_read_and_checked(written, header):
    path, _, _ = written()
    found = read_header(path)
    assert found.fingerprint == header().fingerprint
    assert found.created_by.startswith("bottleneck-probe ")
