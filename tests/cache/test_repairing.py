"""What `cache repair` writes is what was written before, and what it lost it names."""

import errno
import os

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import examining, repairing
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.layout import ATTRIBUTES
from bottleneck_probe.cache.leftovers import leftovers
from bottleneck_probe.cache.repairing import repair
from bottleneck_probe.cache.shards import Shards, load, take
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.cache.writing import attributes_digest
from common import flip, offset

pytestmark = pytest.mark.usefixtures("opened_here", "examined_here")


def saved(path, **options):
    """The repair, and the new file, which has to be whole."""
    result = repair(path, path.with_name("new.h5"), **options)
    assert verify(result.output).ok
    return result, bp.open(result.output)


def test_with_a_child_good_blocks_of_all_outputs_are_saved_and_the_lost_rows_are_named(layered):
    path, values, rows = layered(300)
    flip(path, offset(path, "features") + 70 * 8 * 4)
    flip(path, offset(path, "layers/layer3:avg") + 299 * 4 * 4)
    before = path.read_bytes()
    result, new = saved(path)
    kept = [*range(64), *range(128, 256)]
    assert result.rows == len(new) == len(kept)
    assert [row for row, _, _ in result.lost] == [*range(64, 128), *range(256, 300)]
    assert result.lost[0] == (64, "ants/00064.jpg", "features damaged")
    assert result.lost[-1] == (299, "ants/00299.jpg", "layers/layer3:avg damaged")
    assert list(new.paths) == [rows.paths[i] for i in kept]
    np.testing.assert_array_equal(new.keys, rows.keys[kept])
    np.testing.assert_array_equal(new.y, rows.labels[kept])
    assert list(new.splits) == [rows.splits[i] for i in kept]
    np.testing.assert_array_equal(new.meta["weight"], rows.meta["weight"][kept])
    assert list(new.meta) == list(rows.meta)
    assert new.quarantine == rows.quarantine
    for name in new.outputs:
        np.testing.assert_array_equal(new.output(name).features[:], values[name][kept])
    whole = bp.open(path)
    assert (new.recipe, new.environment, new.root) == (whole.recipe, whole.environment, whole.root)
    assert path.read_bytes() == before
    assert result.vouched


def test_a_label_that_is_lost_costs_no_feature(written):
    path, X, _ = written(100)
    for name in ("labels", "meta/weight"):
        flip(path, offset(path, name) + 9)
    result, new = saved(path)
    assert (result.rows, result.lost) == (100, [])
    np.testing.assert_array_equal(new.features[:], X)
    assert new.y.tolist() == [-1] * 100
    assert "weight" not in new.meta
    assert list(new.meta) == ["folder"]
    assert any("labels of 100 rows" in note for note in result.notes)
    assert any("column weight" in note for note in result.notes)


def test_features_whose_path_is_lost_are_kept_by_key(written):
    path, X, rows = written(100)
    fingerprint = bp.open(path).fingerprint
    flip(path, path.read_bytes().index(b"ants/00031.jpg") + 3)
    flip(path, offset(path, "features") + 70 * 8 * 4)
    result = repair(path, path.with_name("new.h5"))
    assert (result.rows, result.by_key) == (0, 64)
    assert not result.output.exists()
    index, _ = load(path.with_name("new.h5.parts"), fingerprint)
    np.testing.assert_array_equal(take(index, rows.keys[:64]), X[:64])
    assert not index.holds(rows.keys[64:]).any()
    assert result.lost[5] == (5, "", "its path is damaged; the feature is kept by key")


def test_damaged_root_attributes_leave_a_recipe_that_its_fingerprint_proves(written):
    path, X, _ = written(100)
    flip(path, path.read_bytes().index(b'"engine"') + 3)
    result, new = saved(path)
    np.testing.assert_array_equal(new.features[:], X)
    assert (new.environment, new.root) == ({}, "")
    assert new.recipe["backbone"] == "efficientnet_lite0"
    assert any("fingerprint" in note for note in result.notes)


def test_a_recipe_that_hdf5_cannot_read_is_found_among_the_bytes(written):
    """One bit in the head of the heap that holds the root attributes, and paths as well."""
    path, X, rows = written(100)
    whole = bp.open(path)
    flip(path, path.read_bytes().index(b"GCOL") + 4, 1)
    result = repair(path, path.with_name("new.h5"))
    assert result.rows + result.by_key == 100
    index, _ = load(path.with_name("new.h5.parts"), whole.fingerprint)
    np.testing.assert_array_equal(take(index, rows.keys), X)
    assert index.shards[0].recipe == whole.recipe


def test_a_damaged_recipe_is_never_guessed(written):
    path, _, _ = written(100)
    flip(path, path.read_bytes().index(b'"efficientnet_lite0"') + 3)
    with pytest.raises(bp.CacheError, match="cannot be said what its features are"):
        repair(path, path.with_name("new.h5"))
    assert not path.with_name("new.h5").exists()


def test_without_checksums_it_says_that_it_cannot_vouch(written):
    path, X, _ = written(100)
    copy = path.with_name("copy.h5")
    with h5py.File(path) as old, h5py.File(copy, "w") as new:
        for name, value in old.attrs.items():
            new.attrs[name] = value
        for name in old:
            if name != "checksums":
                old.copy(name, new)
        new["features"][5, 2] = np.nan
        new["labels"][6] = 77
    result, made = saved(copy)
    assert not result.vouched
    assert any("nothing vouches" in note for note in result.notes)
    assert [row for row, _, _ in result.lost] == [5]
    np.testing.assert_array_equal(made.features[:], np.delete(X, 5, axis=0))
    assert made.y[5] == -1


def test_a_digest_that_is_damaged_costs_its_block_and_never_lets_one_through(written):
    path, X, _ = written(200)
    flip(path, offset(path, "checksums/features") + 40)  # of rows 64 to 127
    result, new = saved(path)
    assert [row for row, _, _ in result.lost] == [*range(64, 128)]
    np.testing.assert_array_equal(new.features[:], np.delete(X, range(64, 128), axis=0))


def test_damaged_targets_become_unknown(tmp_path, header, features, rows):
    from bottleneck_probe.targets import Targets

    columns = rows(100)
    columns.labels[:] = -1
    columns.classes = ["car", "person"]
    columns.targets = Targets("multilabel", ["car", "person"], np.ones((100, 2), np.float32))
    path = tmp_path / "x.h5"
    write(path, header(), columns, [features(100)])
    _, new = saved(path)
    np.testing.assert_array_equal(new.targets, columns.targets.values)
    new.file.unlink()
    flip(path, offset(path, "targets") + 3)
    result, new = saved(path)
    assert result.rows == 100
    assert new.targets is None
    assert any("targets are damaged" in note for note in result.notes)


def test_float16_and_views_stay_as_they_are(tmp_path, header, features, rows):
    columns = rows(128)
    columns.paths = [f"p/{i // 2:03}" for i in range(128)]
    columns.view = (np.arange(128) % 2).astype(np.int32)
    columns.keys = np.repeat(columns.keys[::2], 2, axis=0)
    path = tmp_path / "x.h5"
    write(path, header(store="float16"), columns, [features(128)])
    flip(path, offset(path, "features") + 5)
    _, new = saved(path)
    assert new.header.store == "float16"
    assert new.views.tolist() == [0, 1] * 32
    np.testing.assert_array_equal(new.features[:], features(128)[64:].astype(np.float16))


def test_a_dataset_that_kills_or_hangs_hdf5_is_left_out(written, monkeypatch):
    """Each start of the child leaves out what the one before ended at."""
    path, X, _ = written(100)
    started = []

    def lines(source, skip):
        started.append(list(skip))
        said = []
        examining.examine_here(source, said.append, frozenset(skip))
        for line in said:
            yield line
            if line.get("name") in ("splits", "meta/weight"):
                yield {"kind": "ended", "fault": "crashed (signal 11)"}
                return
        yield {"kind": "ended", "fault": ""}

    monkeypatch.setattr(examining, "_lines", lines)
    found = examining.examine(path)
    assert found.scans["splits"].fault == "HDF5 crashed (signal 11) while reading it"
    assert len(started) == 3
    assert "meta/weight" in started[1]
    result, new = saved(path)
    np.testing.assert_array_equal(new.features[:], X)
    assert (set(new.splits), list(new.meta)) == ({""}, ["folder"])
    assert "weight" in str(result.notes)


@pytest.mark.skipif(os.name == "nt", reason="the child is a script of /bin/sh")
def test_a_child_that_dies_or_falls_silent_is_told(written, monkeypatch, tmp_path):
    path, _, _ = written(10)
    program = tmp_path / "python"
    monkeypatch.setattr(examining.sys, "executable", str(program))
    for body, said in (("kill -SEGV $$", "crashed (signal 11)"), ("exec sleep 60", "hung for")):
        program.write_text(f'#!/bin/sh\necho \'{{"kind": "begin", "name": "keys"}}\'\n{body}\n')
        program.chmod(0o755)
        monkeypatch.setattr(examining, "SILENCE_S", 1.0)
        monkeypatch.setattr(examining, "MAX_STARTS", 1)
        found = examining.examine(path)
        assert said in found.scans["keys"].fault


def test_a_finished_shard_that_the_disk_does_not_show_is_named_and_the_others_are_saved(
    written, monkeypatch
):
    path, X, rows = written(100)
    fingerprint = bp.open(path).fingerprint
    for some in (slice(0, 7), slice(7, 12)):
        shards = Shards(path.with_name(path.name + ".parts"), fingerprint)
        shards.append(rows.keys[some], X[some])
        shards.seal()
    path.unlink()
    first, _ = sorted(path.with_name(path.name + ".parts").glob("*.h5"))
    real = type(path).read_bytes

    def read_bytes(self):
        if self == first:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(self))
        return real(self)

    leaving = leftovers(path.with_name(path.name + ".parts"))
    monkeypatch.setattr(repairing, "leftovers", lambda folder: leaving)
    monkeypatch.setattr(type(path), "read_bytes", read_bytes)
    result = repair(path, path.with_name("new.h5"))
    assert result.from_parts in (5, 7)
    assert f"{first} cannot be read (Input/output error); it was left there" in result.notes


def test_finished_shards_beside_a_file_that_is_gone_are_saved(written):
    path, X, rows = written(100)
    fingerprint = bp.open(path).fingerprint
    shards = Shards(path.with_name(path.name + ".parts"), fingerprint)
    shards.append(rows.keys[:7], X[:7])
    shards.seal()
    path.unlink()
    result = repair(path, path.with_name("new.h5"))
    assert (result.rows, result.from_parts) == (0, 7)
    index, _ = load(path.with_name("new.h5.parts"), fingerprint)
    assert len(index) == 7
    with pytest.raises(bp.CacheError, match="does not exist, and no finished shards"):
        repair(path.with_name("none.h5"), path.with_name("newer.h5"))


def test_neither_the_damaged_file_nor_another_one_is_replaced(written):
    path, _, _ = written(10)
    other, _, _ = written(10, name="other.h5")
    for target in (path, other):
        with pytest.raises(bp.CacheError, match="exists"):
            repair(path, target)
    with pytest.raises(bp.CacheError, match="exists"):
        repair(path, path, force=True)
    assert repair(path, other, force=True).rows == 10


@pytest.mark.parametrize("name", ["labels", "keys", "paths", "features", "splits", "classes"])
def test_columns_of_a_wrong_type_or_length_are_no_crash(written, name):
    path, X, _ = written(20)
    for values in (np.zeros(20, "S3"), np.zeros((3, 2)), np.zeros(20, np.int64)):
        copy = path.with_name("odd.h5")
        with h5py.File(path) as old, h5py.File(copy, "w") as new:
            for each, value in old.attrs.items():
                new.attrs[each] = value
            for each in old:
                if each not in ("checksums", name):
                    old.copy(each, new)
            new[name] = values
        try:
            result = repair(copy, path.with_name("new.h5"), force=True)
        except bp.CacheError:
            continue
        if result.rows:
            np.testing.assert_array_equal(bp.open(result.output).features[:], X)


def test_a_file_that_changes_while_it_is_saved_is_not_saved(written, monkeypatch):
    """Every block is compared once more as it is copied: a disk that fails may fail now."""
    from bottleneck_probe.cache import repairing

    path, _, _ = written(100)
    real = repairing.examine

    def examine(source):
        found = real(source)
        flip(path, offset(path, "features") + 70 * 8 * 4)
        return found

    monkeypatch.setattr(repairing, "examine", examine)
    with pytest.raises(bp.CacheError, match="changes while it is read"):
        repair(path, path.with_name("new.h5"))
    assert not path.with_name("new.h5").exists()


def test_of_a_file_that_is_beyond_repair_what_lies_beside_it_is_saved(written):
    path, X, rows = written(100)
    whole = bp.open(path)
    left = [(whole.fingerprint, X[:7]), ("0" * 64, X[:2])]
    for fingerprint, values in left:
        shards = Shards(path.with_name(path.name + ".parts"), fingerprint)
        shards.append(rows.keys[: len(values)], values)
        shards.seal()
    (path.with_name(path.name + ".parts") / f"{'0' * 32}.h5").write_bytes(b"torn")
    path.write_bytes(path.read_bytes()[:100])
    result = repair(path, path.with_name("new.h5"))
    assert (result.rows, result.from_parts, result.lost) == (0, 9, [])
    assert result.to_dict()["output"] is None
    for words in (
        "of the file itself nothing could be saved: nothing of",
        "1 torn shards in",
        "9 rows of finished shards were copied",
    ):
        assert any(note.startswith(words) for note in result.notes), result.notes
    for fingerprint, values in left:
        index, _ = load(path.with_name("new.h5.parts"), fingerprint)
        np.testing.assert_array_equal(take(index, rows.keys[: len(values)]), values)


@pytest.mark.parametrize("torn", [True, False])
def test_of_what_lies_beside_it_only_rows_of_its_own_recipe_are_copied(written, torn):
    path, X, rows = written(10)
    parts = path.with_name(path.name + ".parts")
    if torn:
        parts.mkdir()
        (parts / f"{'0' * 32}.h5").write_bytes(b"torn")
    else:
        shards = Shards(parts, "0" * 64)
        shards.append(rows.keys[:2], X[:2])
        shards.seal()
    result, new = saved(path)
    assert (len(new), result.from_parts) == (10, 0)
    assert not path.with_name("new.h5.parts").exists()
    assert [note[:13] for note in result.notes] == (["1 torn shards"] if torn else [])


def without_rows(h5):
    del h5["checksums"], h5["features"]
    h5["features"] = np.zeros((0, 8), np.float32)


def without_name(h5):
    h5.move("features", "featurez")


def without_digests(h5):
    del h5["checksums/features"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (without_name, "there are none"),
        (without_rows, "there are none"),
        (without_digests, "it has no checksums"),
    ],
)
def test_a_file_without_features_gives_none(written, change, why):
    path, _, _ = written(10)
    with h5py.File(path, "a") as h5:
        change(h5)
    with pytest.raises(bp.CacheError, match=f"its features cannot be read: {why}"):
        repair(path, path.with_name("new.h5"))
    assert not path.with_name("new.h5").exists()


def test_what_else_is_wrong_with_a_file_without_features_is_told(written):
    path, _, _ = written(10)
    with h5py.File(path, "a") as h5:
        del h5["features"]
        h5["features"] = h5py.SoftLink("/labels")
    with pytest.raises(bp.CacheError, match="cannot be read: features points outside the file"):
        repair(path, path.with_name("new.h5"))


def test_views_whose_path_is_lost_are_not_kept_by_key(tmp_path, header, rows, features):
    """All views of an image have its key."""
    columns = rows(4200)
    columns.paths = [f"p/{i // 2:05}" for i in range(4200)]
    columns.view = (np.arange(4200) % 2).astype(np.int32)
    columns.keys = np.repeat(columns.keys[::2], 2, axis=0)
    columns.labels = np.repeat(columns.labels[::2], 2)
    path = tmp_path / "x.h5"
    write(path, header(), columns, [features(4200)])
    flip(path, path.read_bytes().index(b"p/02099") + 3)  # in the second block
    result, new = saved(path)
    assert (len(new), result.by_key) == (4096, 0)
    assert not path.with_name("new.h5.parts").exists()
    assert result.lost == [(row, "", "its path is damaged") for row in range(4096, 4200)]


def test_a_file_of_another_program_is_not_taken_for_features(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as h5:
        h5.attrs["format"] = "weather"
        h5["features"] = np.zeros((3, 4), np.float32)
    words = "cannot be said what its features are: its format is 'weather'"
    with pytest.raises(bp.CacheError, match=words):
        repair(path, tmp_path / "new.h5")


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000], ids=["cut", "a list", "deep"])
def test_an_environment_that_makes_no_sense_costs_no_feature(written, text):
    """Whoever wrote it has also written a good digest of it."""
    path, X, _ = written(20)
    with h5py.File(path, "a") as h5:
        h5.attrs["environment"] = text
        values = [str(h5.attrs[name]) for name in ATTRIBUTES]
        h5["checksums/attributes"][:] = attributes_digest(values)
    result, new = saved(path)
    np.testing.assert_array_equal(new.features[:], X)
    assert (new.environment, new.root) == ({}, "/data/ants")
    assert any(note.startswith("the environment is left out") for note in result.notes)


def lost_layer(h5):
    del h5["layers/layer3:avg"]


def short_layer(h5):
    values = h5["layers/layer3:avg"][:99]
    sums = h5["checksums/layers/layer3:avg"][()]
    del h5["layers/layer3:avg"], h5["checksums/layers/layer3:avg"]
    h5["layers/layer3:avg"] = values
    h5["checksums/layers/layer3:avg"] = sums
    h5["checksums/layers/layer3:avg"].attrs["rows"] = 64


def unvouched_layer(h5):
    del h5["checksums/layers/layer3:avg"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lost_layer, "it is missing"),
        (short_layer, "it has another length"),
        (unvouched_layer, "it has no checksums"),
    ],
)
def test_an_output_that_is_lost_as_a_whole_costs_no_row(layered, change, why):
    path, values, _ = layered(100)
    with h5py.File(path, "a") as h5:
        change(h5)
    result, new = saved(path)
    assert (result.rows, result.lost) == (100, [])
    assert f"the output layer3:avg is left out: {why}" in result.notes
    assert list(new.outputs) == [name for name in values if name != "layer3:avg"]
    for name in new.outputs:
        np.testing.assert_array_equal(new.output(name).features[:], values[name])


@pytest.fixture
def photographed(tmp_path, header, rows, features):
    """A file of 4,100 rows, and the images of the last four, which are the second block of keys."""
    folder = tmp_path / "photos"
    columns, X = rows(4100), features(4100)
    (folder / "ants").mkdir(parents=True)
    for row in range(4096, 4100):
        data = f"\x89PNG\r\n\x1a\n image number {row} of the test".encode("latin1")
        (folder / columns.paths[row]).write_bytes(data)
        columns.keys[row] = np.frombuffer(blake3(data).digest(), np.uint8)
    path = tmp_path / "x.h5"
    write(path, header(root=str(folder)), columns, [X])
    flip(path, offset(path, "keys") + 4097 * 32)
    return path, X, folder


def test_only_keys_of_a_damaged_block_are_looked_up(photographed):
    path, X, _ = photographed
    result, new = saved(path)
    assert result.lost == [(4097, "ants/04097.jpg", "keys damaged")]
    np.testing.assert_array_equal(new.features[:], np.delete(X, 4097, axis=0))
    assert any(note.startswith("keys of 3 rows stand in a damaged block") for note in result.notes)


def test_images_that_are_all_others_prove_no_key(photographed):
    path, X, folder = photographed
    for image in (folder / "ants").iterdir():
        image.write_bytes(b"\x89PNG\r\n\x1a\n another image by now, and long enough")
    result, new = saved(path)
    assert [row for row, _, _ in result.lost] == [4096, 4097, 4098, 4099]
    np.testing.assert_array_equal(new.features[:], X[:4096])
    assert not any("damaged block" in note for note in result.notes)


def test_keys_that_the_disk_does_not_give_are_not_asked_for_again(photographed, monkeypatch):
    """A sector that cannot be read may give other bytes the next time, or none after a minute."""
    from bottleneck_probe.cache import repairing

    path, X, _ = photographed
    real = repairing.examine

    def examine(source):
        found = real(source)
        assert found.scans["keys"].bad == [1]
        found.scans["keys"].unreadable = [1]
        return found

    monkeypatch.setattr(repairing, "examine", examine)
    result, new = saved(path)
    assert [row for row, _, _ in result.lost] == [4096, 4097, 4098, 4099]
    np.testing.assert_array_equal(new.features[:], X[:4096])
    assert result.notes == []
