"""What `verify` calls good is what was written, and of what is not it says where."""

import importlib.util
import os
import shutil
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import verifying
from bottleneck_probe.cache.blocks import Blocks
from bottleneck_probe.cache.directory import save as save_directory
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.repairing import repair
from bottleneck_probe.cache.shards import Shards
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.reporter import Silent
from common import flip, offset

BITS = Path(__file__).parents[1] / "faults" / "experiments" / "bits.py"


pytestmark = pytest.mark.usefixtures("opened_here", "examined_here")


def listed(report):
    return [(each.dataset, each.rows) for each in report.problems]


def test_a_whole_file_is_in_order_and_every_byte_was_looked_at(layered):
    path, values, _ = layered(300)
    report = verify(path)
    assert (report.ok, report.vouched, report.problems, report.notes) == (True, True, [], [])
    assert (report.kind, report.rows, report.feature_size) == ("features", 300, 8)
    assert report.n_bytes > sum(array.nbytes for array in values.values()) + 300 * 32
    assert bp.verify(path).ok
    assert verify(f"{path}::layer3:avg").rows == 300


def test_damaged_features_are_named_by_rows_and_the_file_still_opens(layered):
    path, _, _ = layered(300)
    flip(path, offset(path, "features") + 70 * 8 * 4)
    flip(path, offset(path, "features") + 130 * 8 * 4)
    flip(path, offset(path, "layers/layer3:avg") + 299 * 4 * 4)
    bp.open(path)
    assert listed(verify(path)) == [("features", (64, 191)), ("layers/layer3:avg", (256, 299))]
    data = verify(path).to_dict()
    assert data["ok"] is False
    assert data["problems"][0]["rows"] == [64, 191]


def test_a_bit_in_every_4_kb_damages_every_block_and_no_read_gives_one(
    tmp_path, header, rows, features
):
    path = tmp_path / "x.h5"
    write(path, header(), rows(1000), [features(1000, 64)])  # 256 bytes a row, blocks of 64 rows
    start = offset(path, "features")
    for at in range(0, 1000 * 256, 4096):
        flip(path, start + at + at // 4096 % 4096, at // 4096 % 8)
    assert listed(verify(path)) == [("features", (0, 999))]
    opened = bp.open(path).features
    for block in range(0, 1000, 64):
        with pytest.raises(bp.CacheError, match=r"is damaged: features, rows"):
            opened[block : block + 1]


@pytest.mark.parametrize("name", ["keys", "labels", "phash", "stat/files"])
def test_damage_in_any_column_is_named(tmp_path, header, rows, features, name):
    from bottleneck_probe.cache.index import FileIndex

    path, columns = tmp_path / "x.h5", rows(100)
    columns.phash = np.arange(100, dtype=np.uint64)
    index = FileIndex(
        np.ones((100, 4), np.int64), np.ones((1, 4), np.int64), np.zeros((1, 32), "u1")
    )
    write(path, header(), columns, [features(100)], index=index)
    assert verify(path).ok
    flip(path, offset(path, name) + 9)
    report = verify(path)
    assert (name, (0, 99)) in listed(report)
    assert "structure" in report.problems[0].dataset
    assert any("cache repair" in note for note in report.notes)


def test_a_child_names_a_damaged_text_and_a_damaged_attribute(written):
    path, _, _ = written(50)
    whole = path.read_bytes()
    flip(path, whole.index(b"ants/00031.jpg") + 3)
    assert ("paths", (0, 49)) in listed(verify(path))
    path.write_bytes(whole)
    flip(path, whole.index(b'"engine"') + 3)
    assert ("root attributes", None) in listed(verify(path))


def test_without_a_trailer_only_what_is_damaged_is_listed(written):
    """`open` stops at the very dataset: a problem of the structure beside it would be one too many."""
    path, _, _ = written(50)
    copy = rewritten(path)
    flip(copy, offset(copy, "labels") + 9)
    assert listed(verify(copy)) == [("labels", (0, 49))]


def test_a_file_that_is_replaced_while_it_is_verified_is_a_problem(written, monkeypatch):
    path, _, _ = written(50)
    real = verifying.feature_files.opened

    def opened(file):
        found = real(file)
        path.write_bytes(path.read_bytes()[:-1])
        return found

    monkeypatch.setattr(verifying.feature_files, "opened", opened)
    report = verify(path)
    assert listed(report) == [("structure", None)]
    assert "is damaged: " in report.problems[0].what
    assert report.rows == 50


def test_the_images_of_a_file_that_cannot_be_opened_are_not_looked_at(written):
    path, _, _ = written(50)
    flip(path, offset(path, "keys"))
    report = verify(path, images=True, recompute=3)
    assert ("keys", (0, 49)) in listed(report)
    assert (report.images, report.recomputed) == (None, None)
    assert "its images were not looked at, because it could not be opened" in report.notes


def test_without_looking_closely_one_problem_is_enough(written):
    path, _, _ = written(50)
    flip(path, path.read_bytes().index(b"ants/00031.jpg"))
    assert listed(verify(path, closely=False)) == [("structure", None)]


def rewritten(path, change=lambda h5: None, *, keep_sums=True):
    """A copy that somebody made with h5py: no trailer, and checksums only if they are kept."""
    copy = path.with_name("copy.h5")
    with h5py.File(path) as old, h5py.File(copy, "w") as new:
        for name, value in old.attrs.items():
            if name != "created_by" or keep_sums:
                new.attrs[name] = value
        for name in old:
            if name != "checksums" or keep_sums:
                old.copy(name, new)
        change(new)
    return copy


def test_a_file_without_checksums_is_never_vouched_for(written):
    path, _, _ = written(50)
    report = verify(rewritten(path, keep_sums=False))
    assert report.ok
    assert not report.vouched
    assert "no checksums" in report.notes[0]
    assert verify(rewritten(path)).vouched


def test_what_checksums_cannot_know_is_looked_at_too(written):
    """Whoever writes a file may also write what no row can be."""
    path, _, _ = written(50)

    def spoil(h5):
        h5["features"][7, 3] = np.nan

    report = verify(rewritten(path, spoil, keep_sums=False))
    assert listed(report) == [("features", (7, 7))]
    assert "NaN" in report.problems[0].what

    def disorder(h5):
        names = h5["paths"].asstr()[:]
        h5["paths"][3], h5["paths"][9] = names[2], names[1]
        h5["quarantine/paths"][0] = names[5]

    report = verify(rewritten(path, disorder, keep_sums=False))
    assert [(p.dataset, p.rows, p.path) for p in report.problems] == [
        ("paths", (3, 3), "ants/00002.jpg"),
        ("paths", (9, 9), "ants/00001.jpg"),
        ("quarantine", None, "ants/00005.jpg"),
    ]
    assert "stands twice" in report.problems[0].what
    assert "out of order" in report.problems[1].what


def test_an_input_stands_once_in_the_quarantine(tmp_path, header, rows, features):
    columns = rows(3)
    columns.quarantine = [("a.jpg", "empty"), ("b.jpg", "empty"), ("a.jpg", "truncated")]
    write(tmp_path / "x.h5", header(), columns, [features(3)])
    (problem,) = verify(tmp_path / "x.h5").problems
    assert (problem.dataset, problem.path) == ("quarantine", "a.jpg")


def test_a_label_that_is_no_class_and_rows_that_differ_are_problems(written):
    path, _, _ = written(50)

    def relabel(h5):
        h5["labels"][4] = 9

    assert "label of row 4 is 9" in str(verify(rewritten(path, relabel, keep_sums=False)).problems)

    def shorten(h5):
        del h5["keys"]
        h5["keys"] = np.zeros((49, 32), np.uint8)

    problems = verify(rewritten(path, shorten, keep_sums=False)).problems
    assert "features 50, keys 49" in str(problems)


def test_views_of_one_image_have_one_key(tmp_path, header, rows, features):
    columns = rows(4)
    columns.paths = ["a", "a", "b", "b"]
    columns.view = np.array([0, 1, 0, 1], np.int32)
    columns.keys[1] = columns.keys[0]
    columns.quarantine = []
    path = tmp_path / "x.h5"
    write(path, header(), columns, [features(4)])
    assert listed(verify(path)) == [("keys", (3, 3))]


def test_a_file_cut_short_or_empty_or_of_another_kind_is_a_problem_not_a_crash(written, tmp_path):
    path, _, _ = written(50)
    data = path.read_bytes()
    for length in (0, 9, 700, len(data) - 1):
        path.write_bytes(data[:length])
        report = verify(path)
        assert (report.ok, report.kind) == (False, "features")
        if length > 700:  # only the trailer is gone
            assert repair(path, tmp_path / "new.h5").rows == 50
            continue
        with pytest.raises(bp.CacheError, match="nothing of"):
            repair(path, tmp_path / "new.h5")
    path.write_bytes(b"x" + data[1:])
    assert (verify(path).ok, verify(path).kind) == (False, "features")
    if hasattr(os, "mkfifo"):
        path.unlink()
        os.mkfifo(path)
        assert listed(verify(path)) == [("structure", None)]
    with pytest.raises(bp.CacheError, match="does not exist"):
        verify(tmp_path / "none.h5")


def test_a_probe_is_checked_and_an_old_one_is_not_vouched_for(tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 4))
    X[:20] += 3
    own = bp.Features.from_arrays(X, labels=["a"] * 20 + ["b"] * 20)
    path = bp.fit(own, head="ncm").save(tmp_path / "own.probe")
    report = verify(path)
    assert (report.kind, report.ok, report.vouched) == ("probe", True, True)
    flip(Path(path), len(Path(path).read_bytes()) - 5)
    assert listed(verify(path)) == [("probe", None)]
    old = Path(__file__).parents[1] / "probes" / "version-1-svm.probe"
    report = verify(old)
    assert report.ok
    assert not report.vouched
    assert "version 1 has no digest" in report.notes[0]


def test_the_parts_of_a_run_that_did_not_end_are_listed_and_left_alone(written):
    path, X, columns = written(50)
    fingerprint = bp.open(path).fingerprint
    folder = path.with_name(path.name + ".parts")
    ours = Shards(folder, fingerprint)
    ours.append(np.concatenate([columns.keys[:2], np.full((3, 32), 7, np.uint8)]), X[:5])
    ours.seal()
    other = Shards(folder, "0" * 64)
    other.append(columns.keys[:1], X[:1])
    other.seal()
    (folder / f"{'0' * 32}.h5").write_bytes(b"torn")
    before = sorted(folder.iterdir())
    parts = verify(path).parts
    assert sorted(folder.iterdir()) == before
    assert parts == {
        "folder": str(folder),
        "shards": 1,
        "rows": 5,
        "images_not_in_the_file": 1,
        "torn": [f"{'0' * 32}.h5"],
        "of_another_recipe": 1,
    }
    shutil.rmtree(folder)
    assert verify(path).parts is None


def test_a_directory_is_checked_shard_by_shard(tmp_path, written):
    path, _, _ = written(100)
    features = bp.open(path)
    folder = tmp_path / "ants"
    save_directory(folder, features.header, features.rows, [features.features])
    report = verify(folder)
    assert (report.kind, report.ok, report.rows, report.feature_size) == ("directory", True, 100, 8)
    (shard,) = folder.glob("*.h5")
    flip(shard, offset(shard, "features") + 5)
    problems = verify(folder).problems
    assert problems[0].dataset == shard.name
    assert (problems[1].dataset, problems[1].rows) == (f"{shard.name}, features", (0, 63))
    shard.unlink()
    assert "missing" in verify(folder).problems[0].what


def test_a_shard_that_was_written_with_nan_is_a_problem(tmp_path, header, rows, features):
    """Every digest of it is right."""
    values = features(200)
    values[150, 2] = np.nan
    folder = tmp_path / "many"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Blocks, "_stored", lambda self, block, start: block)
        save_directory(folder, header(), rows(200), [values])
    assert len(bp.open(folder)) == 200
    report = verify(folder)
    assert listed(report) == [("structure", None)]
    assert "NaN or infinity in the features of row 150" in report.problems[0].what
    assert not report.ok


def test_every_file_is_first_tried_in_a_child(written, monkeypatch):
    """Whoever made it may also have made a good digest over what harms HDF5."""
    path, _, _ = written(10)
    tried = []
    monkeypatch.setattr(verifying, "try_out", tried.append)
    assert verify(path).ok
    assert tried == [path]


def test_progress_counts_megabytes(written, monkeypatch):
    monkeypatch.setattr(verifying, "_MEGABYTE", 1000)
    seen = []

    class Counting(Silent):
        def progress(self, what, total):
            seen.append(total)
            outer = super().progress(what, total)

            class Bar:
                def __enter__(self):
                    outer.__enter__()
                    return self

                def __exit__(self, *_):
                    outer.__exit__(None, None, None)

                def advance(self, n=1):
                    seen.append(n)

            return Bar()

    path, _, _ = written(500)
    verify(path, reporter=Counting())
    assert sum(seen[1:]) == seen[0] == 500 * 8 * 4 // 1000


def test_flipped_bits_of_values_are_found_with_a_child(tmp_path):
    spec = importlib.util.spec_from_file_location("bits", BITS)
    bits = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bits)
    result = bits.run(tmp_path, lambda sentence: None, **bits.SMALL)
    assert result["held"], result["told"]


def test_what_another_program_added_is_named_and_ours_is_vouched_for(written):
    path, _, _ = written(100)
    with h5py.File(path, "a") as h5:
        h5["mine"] = np.arange(3)
    report = verify(path)
    assert (report.ok, report.vouched, report.foreign) == (True, True, ["mine"])
    assert report.notes == [
        "no checksums for mine: another program added that, and this one does not read it"
    ]
    with h5py.File(path, "a") as h5:
        h5["meta/mine"] = np.arange(100.0)
    assert not verify(path).vouched


def test_parts_of_a_run_that_never_ended_are_listed(written, tmp_path):
    path, X, rows = written(10)
    shards = Shards(tmp_path / "many.parts", bp.open(path).fingerprint)
    shards.append(rows.keys[:7], X[:7])
    shards.seal()
    report = verify(f"{tmp_path}/many/")
    assert (report.kind, report.ok) == ("parts", False)
    assert (report.parts["shards"], report.parts["rows"]) == (1, 7)
    assert "did not end" in report.problems[0].what
    with pytest.raises(bp.CacheError, match="does not exist yet: a run that did not end"):
        bp.open(tmp_path / "many")
