"""Of each column what is good, and of what is not a word: nothing else stands in its place."""

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.repairing import repair
from bottleneck_probe.cache.shards import load, take
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.targets import Targets
from common import flip, offset

pytestmark = pytest.mark.usefixtures("opened_here", "examined_here")


def edited(path, change, *, sums=True):
    """Changed by another program, which cuts the trailer off, and knows nothing of checksums."""
    with h5py.File(path, "a") as h5:
        change(h5)
        if not sums:
            del h5["checksums"]
    return path


def saved(path):
    result = repair(path, path.with_name("new.h5"))
    assert verify(result.output).ok
    return result, bp.open(result.output)


def test_only_the_block_of_a_text_that_is_damaged_is_lost(written):
    path, X, rows = written(5000)
    flip(path, path.read_bytes().index(b"ants/04321.jpg") + 3)
    result, new = saved(path)
    assert list(new.paths) == rows.paths[:4096]
    np.testing.assert_array_equal(new.features[:], X[:4096])
    assert [row for row, _, _ in result.lost] == list(range(4096, 5000))
    assert {path for _, path, _ in result.lost} == {""}
    index, _ = load(path.with_name("new.h5.parts"), new.fingerprint)
    np.testing.assert_array_equal(take(index, rows.keys[4096:]), X[4096:])
    assert result.by_key == len(index) == 904


def test_without_checksums_what_is_no_text_is_no_value(written):
    path, X, rows = written(20)

    def spoil(h5):
        h5["paths"][3] = b"ants/\xff\xfe.jpg"
        h5["splits"][4] = b"\xff"
        h5["splits"][5] = "tarin"
        h5["meta/folder"][6] = b"\xc3"

    result, new = saved(edited(path, spoil, sums=False))
    others = [i for i in range(20) if i != 3]
    np.testing.assert_array_equal(new.features[:], X[others])
    assert list(new.paths) == [rows.paths[i] for i in others]
    assert result.lost == [(3, "", "its path is damaged; the feature is kept by key")]
    wanted = ["" if i in (4, 5) else rows.splits[i] for i in others]
    assert list(new.splits) == wanted
    folders = ["" if i == 6 else rows.meta["folder"][i] for i in others]
    assert list(new.meta["folder"]) == folders


def test_without_checksums_a_row_out_of_order_is_left_out_and_named(written):
    """No file may hold it: of two rows of one path nobody knows which one is meant."""
    path, X, rows = written(20)

    def disorder(h5):
        h5["paths"][3], h5["paths"][9] = rows.paths[2], rows.paths[1]

    result, new = saved(edited(path, disorder, sums=False))
    why = "stands twice, or out of order"
    assert result.lost == [(3, rows.paths[2], why), (9, rows.paths[1], why)]
    np.testing.assert_array_equal(new.features[:], np.delete(X, (3, 9), axis=0))


def test_names_of_classes_that_are_damaged_leave_no_label(written):
    path, X, _ = written(20)

    def rename(h5):
        h5["classes"][1] = "wasps"

    result, new = saved(edited(path, rename))
    np.testing.assert_array_equal(new.features[:], X)
    assert (set(new.y.tolist()), new.classes) == ({-1}, [])
    assert "the names of the classes are damaged: no row has a label" in result.notes


def test_hashes_are_kept_whole_or_not_at_all(tmp_path, header, rows, features):
    path, columns = tmp_path / "x.h5", rows(100)
    columns.phash = np.arange(100, dtype=np.uint64) << np.uint64(40)
    write(path, header(), columns, [features(100)])
    _, new = saved(path)
    np.testing.assert_array_equal(new.phash, columns.phash)
    new.file.unlink()
    flip(path, offset(path, "phash") + 5)
    result, new = saved(path)
    assert (len(new), new.phash) == (100, None)
    assert any("phash is damaged" in note and "--rehash" in note for note in result.notes)


@pytest.mark.parametrize("name", ["paths", "reasons"])
def test_a_quarantine_is_kept_whole_or_not_at_all(written, name):
    path, X, rows = written(20)
    _, new = saved(path)
    assert new.quarantine == rows.quarantine
    new.file.unlink()

    def forge(h5):
        h5[f"quarantine/{name}"][0] = "ants/00003.jpg"

    result, new = saved(edited(path, forge))
    np.testing.assert_array_equal(new.features[:], X)
    assert new.quarantine == []
    assert "the quarantine is damaged and left out" in result.notes


def test_a_file_of_another_program_needs_no_quarantine_and_no_meta(written):
    path, X, _ = written(20)

    def plain(h5):
        del h5["quarantine"], h5["meta"]

    result, new = saved(edited(path, plain, sums=False))
    np.testing.assert_array_equal(new.features[:], X)
    assert (new.quarantine, new.meta) == ([], {})
    assert len(result.notes) == 1
    assert "no checksums" in result.notes[0]


def multilabel(path, header, rows, features):
    columns = rows(20)
    columns.labels[:] = -1
    columns.classes = ["car", "person"]
    columns.targets = Targets("multilabel", columns.classes, np.ones((20, 2), np.float32))
    columns.phash = np.arange(20, dtype=np.uint64)
    write(path, header(), columns, [features(20)])
    return path


def test_targets_whose_task_was_changed_are_not_taken_for_others(tmp_path, header, rows, features):
    """As quantities, the same numbers would be something else."""

    def change(h5):
        h5["targets"].attrs["task"] = "regression"

    path = multilabel(tmp_path / "x.h5", header, rows, features)
    result, new = saved(edited(path, change))
    np.testing.assert_array_equal(new.features[:], features(20))
    assert (new.targets, new.classes) == (None, [])
    assert "the targets are damaged: no row has any" in result.notes


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("targets", "the targets are damaged"),
        ("phash", "phash is damaged"),
        ("quarantine", "the quarantine is damaged"),
        ("quarantine/paths", "the quarantine is damaged"),
        ("meta/weight", "the column weight is damaged"),
        ("meta", "the column folder is damaged"),
        ("splits", "splits of 20 rows damaged"),
    ],
)
def test_what_has_lost_its_name_is_told_as_what_is_damaged(
    tmp_path, header, rows, features, name, words
):
    """One bit of a link's name, and the column is not there; its digests say that it was."""
    path = multilabel(tmp_path / "x.h5", header, rows, features)

    def lose(h5):
        h5.move(name, f"{name[:-1]}~")

    result, new = saved(edited(path, lose))
    np.testing.assert_array_equal(new.features[:], features(20))
    assert any(words in note for note in result.notes), result.notes


def test_views_that_have_lost_their_name_are_not_guessed(tmp_path, header, rows, features):
    """Each row would be the first view of its image, whatever it is of."""
    columns = rows(128)
    columns.paths = [f"p/{i // 2:03}" for i in range(128)]
    columns.view = (np.arange(128) % 2).astype(np.int32)
    columns.keys = np.repeat(columns.keys[::2], 2, axis=0)
    path = tmp_path / "x.h5"
    write(path, header(), columns, [features(128)])
    with pytest.raises(bp.CacheError, match="128 rows: view damaged"):
        repair(edited(path, lambda h5: h5.move("view", "vieW")), tmp_path / "new.h5")


@pytest.mark.parametrize("part", ["the group itself", "the heap of its names"])
def test_columns_whose_group_cannot_be_read_cost_no_feature(tmp_path, header, rows, features, part):
    columns = rows(20)
    columns.meta = {f"column {i}": np.arange(20.0) for i in range(12)}  # so many have a heap
    path = tmp_path / "x.h5"
    write(path, header(), columns, [features(20)])
    with h5py.File(path) as h5:
        at = h5py.h5o.get_info(h5["meta"].id).addr
    flip(path, at + 1 if part == "the group itself" else path.read_bytes().index(b"FRHP"))
    result, new = saved(path)
    np.testing.assert_array_equal(new.features[:], features(20))
    assert new.meta == {}
    for name in columns.meta:
        assert f"the column {name} is damaged and left out" in result.notes
