"""What `cache repair` saves of a damaged directory is what its manifest counts, and no more."""

import shutil

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache.directory import building
from bottleneck_probe.cache.directory.writing import write_directory
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.repairing import repair
from bottleneck_probe.cache.shards import load, take
from bottleneck_probe.cache.storage import LocalStorage
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.targets import Targets

pytestmark = pytest.mark.usefixtures("examined_here")


def flip(path, name):
    with h5py.File(path) as h5:
        at = h5[name].id.get_offset()
    data = bytearray(path.read_bytes())
    data[at + 5] ^= 4
    path.write_bytes(data)


@pytest.fixture
def many(tmp_path, header, rows, features):
    """A directory of two shards: of the first, 0 to 9 are gone and 10 to 19 were edited since."""
    folder, values, columns = tmp_path / "many", features(200), rows(200)
    storage = LocalStorage(folder)
    write_directory(storage, header(), columns, [values])
    kept = np.arange(10, 200)
    later = columns.take(kept)
    later.keys[:10] ^= 255
    values = values[kept]
    values[:10] += 1
    write_directory(storage, header(), later, [values], existing=bp.open(folder))
    (first, second) = bp.open(folder).features.directory.manifest.shards
    assert (first.rows, first.alive, second.rows) == (200, 180, 10)
    return folder, folder / first.name, folder / second.name, values, later


def equal(new, values, columns, at):
    assert list(new.paths) == [columns.paths[i] for i in at]
    np.testing.assert_array_equal(new.keys, columns.keys[at])
    np.testing.assert_array_equal(new.features[:], values[at])
    np.testing.assert_array_equal(new.y, columns.labels[at])
    assert list(new.splits) == [columns.splits[i] for i in at]
    np.testing.assert_array_equal(new.meta["weight"], columns.meta["weight"][at])


@pytest.mark.parametrize("name", ["new.h5", "new/"])
def test_the_good_rows_of_a_damaged_shard_are_saved_and_dead_rows_stay_dead(many, tmp_path, name):
    folder, first, _, values, columns = many
    flip(first, "features")  # rows 0 to 63 of the shard
    before = first.read_bytes()
    report = verify(folder)
    assert report.rows == 190
    assert "cache repair" in report.notes[-1]
    result = repair(f"{folder}/", f"{tmp_path}/{name}")
    assert verify(result.output).ok
    assert result.directory == result.output.is_dir() == name.endswith("/")
    new = bp.open(result.output)
    at = [*range(10), *range(54, 190)]
    equal(new, values, columns, at)
    assert (new.environment, new.root) == ({"engine": "eager"}, "/data/ants")
    assert new.quarantine == columns.quarantine
    assert [row for row, _, _ in result.lost] == [*range(20, 64)]
    assert result.lost[0][1] == "ants/00020.jpg"
    assert (result.rows, result.vouched) == (146, True)
    assert first.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == sorted(
        ["many", name.rstrip("/")]
    )


def test_a_missing_shard_costs_its_rows_and_no_older_row_comes_back(many, tmp_path):
    folder, _, second, values, columns = many
    second.unlink()
    result = repair(folder, tmp_path / "new.h5")
    equal(bp.open(result.output), values, columns, range(10, 190))
    assert len(result.lost) == 10


def test_a_damaged_later_shard_does_not_bring_back_an_edited_image(many, tmp_path):
    folder, _, second, values, columns = many
    flip(second, "features")
    result = repair(folder, tmp_path / "new.h5")
    equal(bp.open(result.output), values, columns, range(10, 190))


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_without_the_manifest_what_contradicts_is_left_out(many, tmp_path, how, rows, features):
    folder, _, _, values, columns = many
    manifest = folder / "manifest.json"
    if how == "gone":
        manifest.unlink()
    else:
        manifest.write_bytes(manifest.read_bytes().replace(b"ants", b"anta", 1))
    assert not verify(folder).ok
    result = repair(folder, f"{tmp_path}/new/")
    new = bp.open(result.output)
    # Of those that were edited nobody knows which row is the later one; of 0 to 9 not that they are gone.
    equal(new.subset(slice(10, None)), values, columns, range(10, 190))
    np.testing.assert_array_equal(new.keys[:10], rows(200).keys[:10])
    assert {path for _, path, _ in result.lost} == {f"ants/{i:05}.jpg" for i in range(10, 20)}
    assert any("unknown" in note for note in result.notes)
    assert new.root == "/data/ants"


def test_without_the_manifest_files_that_are_no_shards_cost_no_row(many, tmp_path):
    """One that is named by its content, as shards are, and one that lost all that says what it is."""
    folder, first, second, values, columns = many
    (folder / "manifest.json").unlink()
    foreign = b"\x89HDF\r\n\x1a\n of another program"
    name = f"{blake3(foreign).hexdigest()[:32]}.h5"
    (folder / name).write_bytes(foreign)
    second.write_bytes(b"zeros since the power cut" * 10)
    result = repair(folder, tmp_path / "new.h5")
    equal(bp.open(result.output).subset(slice(20, None)), values, columns, range(10, 190))
    for each in (name, second.name):
        assert any(f"nothing of the shard {each} could be saved" in n for n in result.notes)
    assert result.lost == []  # of no row is known that it was there
    assert first.exists()


@pytest.mark.parametrize("how", ["whole", "damaged", "of as many rows"])
def test_another_shard_under_the_name_of_one_is_left_out(many, tmp_path, header, how):
    """Its rows are dead, edited or of another folder: the manifest says nothing of them."""
    folder, first, second, values, columns = many
    if how == "of as many rows":
        own = bp.open(first).rows
        own.keys[:] ^= 255
        write(first, header(), own, [np.zeros((200, 8), np.float32)])
    else:
        first.write_bytes(second.read_bytes())
    if how == "damaged":
        flip(first, "labels")
    result = repair(folder, tmp_path / "new.h5")
    equal(bp.open(result.output), values, columns, range(10))
    assert len(result.lost) == 180
    said = {why for _, _, why in result.lost}
    if how == "damaged":  # only then its rows had to be counted
        assert said == {f"{first.name}: another file of that name"}
        assert any("has 10 rows, not 200" in note for note in result.notes)
    else:
        assert said == {f"{first.name}: it is missing or unusable"}
        assert any("it is another feature file" in note for note in result.notes)


@pytest.mark.parametrize("n", [5, 500])
def test_without_the_manifest_one_recipe_counts_that_of_most_rows(
    many, tmp_path, header, rows, features, n
):
    folder, _, _, values, columns = many
    (folder / "manifest.json").unlink()
    own = header()
    recipe = {**own.recipe, "backbone": "another"}
    other = header(recipe, environment={})
    strange = rows(n)
    strange.paths = [f"strange/{i:05}.jpg" for i in range(n)]
    path = folder / "other.h5"
    write(path, other, strange, [features(n)])
    path.rename(folder / f"{blake3(path.read_bytes()).hexdigest()[:32]}.h5")
    result = repair(folder, tmp_path / "new.h5")
    new = bp.open(result.output)
    listed = [
        path for _, path, why in result.lost if why.endswith("another recipe or other outputs")
    ]
    assert any("has another recipe or other outputs than most rows" in n for n in result.notes)
    if n < 210:
        assert new.recipe == own.recipe
        equal(new.subset(slice(10, None)), values, columns, range(10, 190))
        assert listed == strange.paths
    else:
        assert new.recipe == recipe
        assert list(new.paths) == strange.paths
        assert len(listed) == 210


@pytest.mark.parametrize("larger", [True, False])
def test_targets_that_are_lost_in_one_shard_cost_no_row_of_any(
    tmp_path, header, rows, features, monkeypatch, larger
):
    """A shard whose labels are damaged says nothing of their task, and so contradicts nobody's."""
    monkeypatch.setattr(building, "SHARD_ROWS", 120)
    columns, values = rows(200), features(200)
    columns.labels[:] = -1
    columns.classes = ["car", "person"]
    columns.targets = Targets("multilabel", columns.classes, np.ones((200, 2), np.float32))
    write_directory(LocalStorage(tmp_path / "many"), header(), columns, [values])
    small, large = sorted((tmp_path / "many").glob("*.h5"), key=lambda path: path.stat().st_size)
    flip(large if larger else small, "targets")
    result = repair(tmp_path / "many", tmp_path / "new.h5")
    new = bp.open(result.output)
    equal(new, values, columns, range(200))
    lost = np.arange(200) < 120 if larger else np.arange(200) >= 120
    assert np.isnan(new.targets[lost]).all()
    np.testing.assert_array_equal(new.targets[~lost], columns.targets.values[~lost])
    assert new.classes == columns.classes
    assert any("the targets are damaged" in note for note in result.notes)


def test_a_quarantine_that_is_damaged_costs_no_row(many, tmp_path):
    folder, _, _, values, columns = many
    (lists,) = (path for path in folder.glob("*.json") if path.name != "manifest.json")
    lists.write_bytes(lists.read_bytes().replace(b"truncated", b"truncatec", 1))
    result = repair(folder, f"{tmp_path}/new/")
    new = bp.open(result.output)
    equal(new, values, columns, range(190))
    assert new.quarantine == []
    assert any("the quarantine is left out" in note for note in result.notes)
    assert (result.rows, result.lost) == (190, [])


def test_a_shard_whose_paths_are_lost_keeps_its_features_by_key(many, tmp_path):
    folder, first, _, values, columns = many
    data = first.read_bytes()
    first.write_bytes(data.replace(b"ants/00031.jpg", b"ants/0003~.jpg", 1))
    result = repair(folder, f"{tmp_path}/new/")
    assert (result.rows, result.by_key) == (10, 200)
    index, _ = load(tmp_path / "new.parts", bp.open(result.output).fingerprint)
    np.testing.assert_array_equal(take(index, columns.keys[10:]), values[10:])


def test_a_folder_of_anything_else_is_told(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(bp.CacheError, match=r"nothing of .*x .*can be saved"):
        repair(tmp_path / "x", tmp_path / "new.h5")


def test_a_file_into_a_directory_and_what_stands_there(written, tmp_path):
    path, X, _ = written(100)
    flip(path, "features")
    result = repair(path, f"{tmp_path}/new/")
    assert (tmp_path / "new" / "manifest.json").is_file()
    np.testing.assert_array_equal(bp.open(tmp_path / "new").features[:], X[64:])
    assert result.to_dict()["output"].endswith("/")
    with pytest.raises(bp.CacheError, match="exists"):
        repair(path, f"{tmp_path}/new/")
    assert repair(path, f"{tmp_path}/new/", force=True).rows == 36
    with pytest.raises(bp.InputError, match="is a file, not a directory"):
        repair(tmp_path / "new", f"{path}/", force=True)
    (tmp_path / "new" / "thesis.tex").write_text("mine")
    with pytest.raises(bp.InputError, match=r"thesis\.tex"):
        repair(path, f"{tmp_path}/new/", force=True)
    assert (tmp_path / "new" / "thesis.tex").is_file()


def test_force_with_a_source_that_is_gone_is_no_crash(written, tmp_path):
    target, _, _ = written(10, name="there.h5")
    before = target.read_bytes()
    with pytest.raises(bp.CacheError, match="does not exist, and no finished shards"):
        repair(tmp_path / "gone.h5", target, force=True)
    assert target.read_bytes() == before


def test_keys_of_a_damaged_block_are_proved_by_the_images(tmp_path, header, rows, features):
    folder = tmp_path / "photos" / "ants"
    folder.mkdir(parents=True)
    columns, X = rows(100), features(100)
    for i, name in enumerate(columns.paths):
        data = f"\x89PNG\r\n\x1a\n image number {i} of the test".encode("latin1")
        (tmp_path / "photos" / name).write_bytes(data)
        columns.keys[i] = np.frombuffer(blake3(data).digest(), np.uint8)
    path = tmp_path / "x.h5"
    write(path, header(root=str(tmp_path / "photos")), columns, [X])
    flip(path, "keys")  # of row 0
    (folder / "00007.jpg").write_bytes(b"\x89PNG\r\n\x1a\n another image by now, and long enough")
    (folder / "00009.jpg").unlink()
    result = repair(path, tmp_path / "new.h5")
    at = [i for i in range(100) if i not in (0, 7, 9)]
    assert verify(result.output).ok
    equal(bp.open(result.output), X, columns, at)
    assert [row for row, _, why in result.lost if why == "keys damaged"] == [0, 7, 9]
    assert any("97 rows" in note for note in result.notes)
    # Without the images there is no proof, and the reason is true.
    shutil.rmtree(tmp_path / "photos")
    with pytest.raises(bp.CacheError, match="100 rows: keys damaged"):
        repair(path, tmp_path / "newer.h5")
