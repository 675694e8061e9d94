"""`extract` into a directory of shards: what is written, what stays, what is refused."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory import building, writing
from bottleneck_probe.cache.repairing import repair
from bottleneck_probe.cache.storage import LocalStorage
from bottleneck_probe.extraction import api
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.images.part import Part
from bottleneck_probe.reporter import Silent

STATED = {"backbone": "stub", "engine": "eager", "batch_size": 4}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "many"


@pytest.fixture
def extract(calls, output):
    def extract_(images, to=None, **options):
        calls.forwards = 0
        where = f"{to or output}/"
        return run(find_images(images), output=where, reporter=Silent(), **{**STATED, **options})

    return extract_


def manifest_of(folder):
    return directory.load(LocalStorage(folder))


def files_of(folder):
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_ino)
        for path in folder.iterdir()
    }


def check_rows(root, features, stub):
    """Each row is that of the picture at its path."""
    from PIL import Image

    assert len(features)
    for path, row in zip(features.paths, features.features[:], strict=True):
        colour = np.asarray(Image.open(root / path).convert("RGB"))[0, 0]
        np.testing.assert_allclose(row[:3], colour, atol=1e-4)


def test_an_unchanged_run_writes_nothing(extract, photos, output, calls):
    root = photos(9)
    assert extract(root).computed == 9
    before = files_of(output)
    again = extract(root)
    assert (again.computed, again.reused, again.written) == (0, 9, False)
    assert calls.forwards == 0
    assert files_of(output) == before
    assert not output.with_name("many.parts").exists()


def test_ten_more_images_write_ten_rows(extract, photos, output, stub, monkeypatch):
    """Whatever is there already stays the very same file."""
    monkeypatch.setattr(building, "SHARD_ROWS", 50)
    root = photos(400)
    extract(root)
    before = files_of(output)
    assert len(before) == 9  # eight shards and the manifest
    photos(10, first=400)
    result = extract(root)
    assert (result.computed, result.reused) == (10, 400)
    after = files_of(output)
    new = after.keys() - before.keys()
    assert len(new) == 1
    assert all(after[name] == before[name] for name in before if name != "manifest.json")
    written = sum(len(after[name][0]) for name in [*new, "manifest.json"])
    # A feature file of ten rows, with what HDF5 needs for any file at all, and the manifest.
    assert written < 60_000 < sum(len(data) for data, _, _ in before.values())
    assert [shard.rows for shard in manifest_of(output).shards] == [50] * 8 + [10]
    check_rows(root, result.features, stub)
    assert list(result.features.paths) == sorted(result.features.paths)


def test_a_result_is_what_opening_gives(extract, photos, output, monkeypatch):
    """After a run the rows are known and not read again: they must be those on the disk."""
    monkeypatch.setattr(building, "SHARD_ROWS", 3)
    root = photos(10)
    for number in (1, 4, 8):
        result = extract(root).features
        opened = bp.open(output)
        assert list(result.paths) == list(opened.paths)
        assert list(result.labels) == list(opened.labels)
        np.testing.assert_array_equal(result.keys, opened.keys)
        np.testing.assert_array_equal(result.features[:], opened.features[:])
        some = np.array([3, 0, 2, 2])
        np.testing.assert_array_equal(result.features[some], opened.features[some])
        (root / ("ants", "bees")[number % 2] / f"{number:05d}.png").unlink()
        photos(2, first=20 + 2 * number)


def test_edited_removed_and_relabelled(extract, photos, output, stub, monkeypatch):
    monkeypatch.setattr(building, "SHARD_ROWS", 5)
    root = photos(20)
    extract(root)
    first = manifest_of(output)
    stub.paint(root / "ants" / "00002.png", 500)
    (root / "ants" / "00004.png").unlink()
    result = extract(root)
    assert (result.computed, result.removed, result.seen) == (1, 1, 19)
    assert manifest_of(output).rows == 19
    assert sum(shard.rows for shard in manifest_of(output).shards) == 21
    assert len(first.shards) == 4
    check_rows(root, bp.open(output), stub)
    (root / "bees").rename(root / "wasps")
    result = extract(root)
    assert result.computed == 0
    assert result.features.classes == ["ants", "wasps"]
    # All rows of two shards moved: nothing lists these any more, and they are gone.
    assert {path.name for path in output.iterdir()} == {
        "manifest.json",
        *(shard.name for shard in manifest_of(output).shards),
    }
    check_rows(root, bp.open(output), stub)


def test_a_shard_that_is_mostly_dead_is_written_anew(extract, photos, output, monkeypatch):
    monkeypatch.setattr(building, "SHARD_ROWS", 10)
    root = photos(40)
    extract(root)
    gone = sorted(root.glob("ants/*"))[:6]  # of the ten of the first shard
    for path in gone:
        path.unlink()
    extract(root)
    shards = manifest_of(output).shards
    assert [shard.rows for shard in shards] == [10, 10, 10, 4]
    assert not any(shard.dead for shard in shards)


def test_many_small_shards_become_one(extract, photos, output, monkeypatch):
    """Else a thousand additions of ten images would be a thousand files to open."""
    monkeypatch.setattr(writing, "SMALL_COUNT", 4)
    root = photos(2)
    counts = []
    for number in range(5):
        photos(1, first=10 + number)
        result = extract(root)
        counts.append(len(manifest_of(output).shards))
        assert result.computed == (3 if number == 0 else 1)
    assert counts == [1, 2, 3, 1, 2]
    assert len(bp.open(output)) == 7


@pytest.mark.parametrize("column", ["age", "site", "split", "label"])
def test_one_changed_value_of_a_table_writes_one_row(extract, photos, output, column):
    root = photos(6)
    values = {
        "age": ("1", "2"),
        "site": ("n", "s"),
        "split": ("train", "test"),
        "label": ("x", "y"),
    }
    lines = []
    for changed in (False, True):
        lines = [",".join(["path", *values])]
        for i, path in enumerate(sorted(root.glob("*/*"))):
            new = changed and i == 3
            row = [pair[new and name == column] for name, pair in values.items()]
            lines.append(",".join([path.relative_to(root).as_posix(), *row]))
        (root / "t.csv").write_text("\n".join(lines) + "\n")
        assert extract(str(root / "t.csv")).computed == (0 if changed else 6)
    opened = bp.open(output)
    found = {"split": opened.splits, "label": opened.labels, **opened.meta}[column].tolist()
    wanted = [float(v) if column == "age" else v for v in values[column]]
    assert found == [wanted[i == 3] for i in range(6)]
    assert [shard.rows for shard in manifest_of(output).shards] == [6, 1]
    assert manifest_of(output).shards[0].dead == ((3, 4),)


def test_a_column_that_comes_back_has_only_its_new_values(extract, photos, output):
    """Its old values still stand in shards that stay, and do not count any more."""
    root = photos(4)
    names = [path.relative_to(root).as_posix() for path in sorted(root.glob("*/*"))]

    def table(*columns):
        lines = [",".join(["path", *columns])]
        lines += [
            ",".join([name, *("" if name == names[0] else "7" for _ in columns)]) for name in names
        ]
        (root / "t.csv").write_text("\n".join(lines) + "\n")
        return str(root / "t.csv")

    (root / "t.csv").write_text("path,age\n" + "".join(f"{name},5\n" for name in names))
    extract(str(root / "t.csv"))
    (root / "t.csv").write_text("path\n" + "".join(f"{name}\n" for name in names))
    shards = manifest_of(output).shards
    extract(str(root / "t.csv"))
    assert bp.open(output).meta == {}
    assert [shard.name for shard in manifest_of(output).shards] == [shard.name for shard in shards]
    extract(table("age"))
    ages = bp.open(output).meta["age"]
    np.testing.assert_array_equal(ages, [np.nan, 7, 7, 7])


def test_layers_are_chosen_as_of_a_file(extract, photos, output, stub):
    root = photos(7)
    extract(root, layer=["penultimate", "double"])
    photos(3, first=7)
    extract(root)
    whole = bp.open(output)
    chosen = bp.open(f"{output}/::double")
    assert whole.outputs == ["penultimate:none", "double:none"]
    np.testing.assert_array_equal(chosen.features[:], 2 * whole.features[:][:, :3])
    assert chosen.name == f"{output}::double:none"
    assert bp.open(chosen.name).fingerprint == chosen.fingerprint


def test_tiles_stay_together(extract, photos, output, stub, monkeypatch, tmp_path):
    monkeypatch.setattr(building, "SHARD_ROWS", 5)
    root = photos(6)
    extract(root, framing="tiles:1x3")
    one = run(
        find_images(root),
        output=tmp_path / "one.h5",
        reporter=Silent(),
        **STATED,
        framing="tiles:1x3",
    ).features
    stub.paint(root / "ants" / "00002.png", 300)
    (root / "bees" / "00003.png").unlink()
    photos(1, first=9)
    extract(root)
    run(find_images(root), output=tmp_path / "one.h5", reporter=Silent(), **STATED)
    one, many = bp.open(tmp_path / "one.h5"), bp.open(output)
    assert many.views_per_image == 3
    assert list(many.paths) == list(one.paths)
    np.testing.assert_array_equal(many.views, one.views)
    np.testing.assert_array_equal(many.features[:], one.features[:])
    assert all(shard.rows % 3 == 0 for shard in manifest_of(output).shards)


def test_another_recipe_is_refused_and_force_replaces(extract, photos, output):
    root = photos(5)
    extract(root)
    before = files_of(output)
    with pytest.raises(bp.RecipeError, match="other"):
        extract(root, backbone="other")
    assert files_of(output) == before
    extract(root, backbone="other", force=True)
    assert bp.open(output).recipe["backbone"] == "other"
    assert len(list(output.iterdir())) == 2


def test_a_folder_of_other_files_is_left_alone(extract, photos, tmp_path):
    root = photos(4)
    before = sorted(root.rglob("*"))
    with pytest.raises(bp.InputError, match=r"is a folder with other files in it, such as ants"):
        extract(root, to=root)
    with pytest.raises(bp.InputError, match="is a folder"):
        run(find_images(root), output=root, reporter=Silent(), **STATED)
    (tmp_path / "x.h5").write_bytes(b"")
    with pytest.raises(bp.InputError, match="is a file"):
        extract(root, to=tmp_path / "x.h5")
    assert sorted(root.rglob("*")) == before


def test_without_a_slash_a_directory_is_gone_on_with(extract, photos, output):
    root = photos(4)
    extract(root)
    photos(2, first=4)
    result = run(find_images(root), output=output, reporter=Silent(), **STATED)
    assert (result.computed, result.reused) == (2, 4)


def test_more_than_a_million_rows_become_a_directory(calls, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "MOST_ROWS_OF_A_FILE", 10)
    monkeypatch.chdir(tmp_path)
    told = []

    class Ear(Silent):
        def note(self, sentence):
            told.append(sentence)

    root = photos(4)
    tiled = {**STATED, "framing": "tiles:2x2"}
    result = run(find_images(root), output=None, reporter=Ear(), **tiled)
    assert result.output == Path("cache/photos-stub")
    assert (tmp_path / "cache" / "photos-stub" / "manifest.json").exists()
    assert any("directory of shards, cache/photos-stub" in sentence for sentence in told)
    # With fewer it stays what it is: nothing is ever computed twice.
    told.clear()
    (root / "ants" / "00000.png").unlink()
    (root / "ants" / "00002.png").unlink()
    again = run(find_images(root), output=None, reporter=Ear(), **tiled)
    assert (again.output, again.computed) == (Path("cache/photos-stub"), 0)
    assert not any("directory of shards" in sentence for sentence in told)


def test_a_file_that_is_there_stays_a_file(calls, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = photos(4)
    run(find_images(root), output=None, reporter=Silent(), **STATED)
    monkeypatch.setattr(api, "MOST_ROWS_OF_A_FILE", 2)
    again = run(find_images(root), output=None, reporter=Silent(), **STATED)
    assert (again.output, again.written) == (Path("cache/photos-stub.h5"), False)


def test_add_keeps_what_is_not_given(extract, photos, output, stub):
    root = photos(6)
    extract(root)
    some = sorted(str(path) for path in root.glob("ants/*"))
    stub.paint(root / "ants" / "00002.png", 77)
    result = run(
        find_images(some, root=str(root)),
        output=f"{output}/",
        reporter=Silent(),
        **STATED,
        add=True,
    )
    assert (result.seen, result.computed, result.removed) == (3, 1, 0)
    assert len(bp.open(output)) == 6
    check_rows(root, bp.open(output), stub)


def test_files_that_are_unchanged_are_not_read(extract, photos, output, monkeypatch):
    from bottleneck_probe.extraction import record

    monkeypatch.setattr(record, "GRAIN_NS", -(10**13))
    monkeypatch.setattr(record, "FOREIGN_GRAIN_NS", -(10**13))
    root = photos(8)
    (root / "ants" / "bad.png").write_bytes(b"no image")
    assert extract(root, allow_bad=True).read == 9
    assert extract(root, allow_bad=True).read == 0
    photos(2, first=8)
    assert extract(root, allow_bad=True).read == 2
    os.utime(root / "ants" / "00002.png")
    assert extract(root, allow_bad=True).read == 1
    result = extract(root, allow_bad=True, retry=True)
    assert (result.quarantined, result.computed) == (1, 0)


def test_orphans_of_a_killed_run_go_with_the_next(extract, photos, output):
    """Also by a run that has nothing to write."""
    root = photos(5)
    extract(root)
    name = f"{'ab' * 16}.h5"
    (output / name).write_bytes(b"a shard that no manifest lists")
    (output / ".new-0123456789abcdef.h5").write_bytes(b"half")
    (output / f".{'0' * 12}-{'0' * 16}.tmp").write_bytes(b"half")
    (output / "notes.txt").write_text("mine")
    assert extract(root).written is False
    assert sorted(path.name for path in output.iterdir() if path.suffix != ".h5") == [
        "manifest.json",
        "notes.txt",
    ]
    assert not (output / name).exists()


def test_a_run_that_ends_before_the_manifest_changes_nothing(extract, photos, output, monkeypatch):
    root = photos(6)
    extract(root)
    before = files_of(output)
    photos(4, first=6)

    def put(self, name, data):
        raise bp.CacheError("the power is gone")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", put)
        with pytest.raises(bp.CacheError, match="power"):
            extract(root)
    assert len(bp.open(output)) == 6
    assert {name: files_of(output)[name] for name in before} == before
    result = extract(root)
    assert (result.computed, result.resumed) == (0, 4)
    assert len(files_of(output)) == 3


def test_a_killed_run_is_resumed(photos, output):
    root = photos(60)
    stub = Path(__file__).with_name("stub.py")
    base = [sys.executable, str(stub)]
    stated = ["extract", str(root), "--backbone", "stub", "--engine", "eager", "--batch-size", "1"]
    command = [*base, "0.01", "0.05", *stated, "-o", f"{output}/"]
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stderr.readline() == "ready\n"
        time.sleep(0.5)
        child.kill()
    if (output / "manifest.json").exists():
        assert len(bp.open(output)) == 60
    end = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    told = json.loads(end.stdout)
    assert (end.returncode, told["seen"], told["features"]) == (0, 60, [60, 4])
    assert not output.with_name("many.parts").exists()
    assert {path.name for path in output.iterdir()} == {
        "manifest.json",
        *(shard.name for shard in manifest_of(output).shards),
    }


def test_two_writers_lose_nothing(photos, output, tmp_path):
    """Each adds images of its own: the second waits, and keeps those of the first."""
    root = photos(20)
    stub = Path(__file__).with_name("stub.py")
    children = []
    for name in ("ants", "bees"):
        some = [str(path) for path in sorted(root.glob(f"{name}/*"))]
        (tmp_path / f"{name}.csv").write_text("path\n" + "\n".join(some) + "\n")
        command = [sys.executable, str(stub), "0.01", "5", "extract", str(tmp_path / f"{name}.csv")]
        command += ["--root", str(root), "--backbone", "stub", "--engine", "eager", "--add"]
        children.append(
            subprocess.Popen(
                [*command, "-o", f"{output}/"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        )
    assert [child.wait(60) for child in children] == [0, 0]
    assert len(bp.open(output)) == 20


# Parts


def test_parts_share_the_images_among_them():
    """By paths alone: each in exactly one, about as many in each, and no other one moves."""
    paths = [f"class {i % 7}/{i}.jpg" for i in range(4000)]
    held = [Part(number, 16).holds(paths) for number in range(1, 17)]
    assert (np.sum(held, axis=0) == 1).all()
    assert all(180 < each.sum() < 320 for each in held)
    some = list(range(0, 4000, 3))
    np.testing.assert_array_equal(Part(3, 16).holds([paths[i] for i in some]), held[2][some])
    # Pinned: machines of several versions of this program work on one job.
    assert np.flatnonzero(Part(3, 16).holds(paths[:40])).tolist() == PINNED


PINNED = [1, 3, 11, 19, 35, 38]


@pytest.mark.parametrize(
    "text", ["0/4", "5/4", "3", "3/", "a/b", "-1/4", "1/0", "1/100000", "3/4/5"]
)
def test_what_is_no_part(text):
    with pytest.raises(bp.InputError, match="is no part"):
        Part.parse(text)


def test_parts_of_one_output_leave_each_other_alone(extract, photos, output, stub):
    """One after the other into one directory: each takes care of its own images only."""
    root = photos(30)
    counts = [extract(root, part=f"{number}/3").computed for number in (1, 2, 3)]
    assert sum(counts) == 30
    assert min(counts) > 0
    whole = bp.open(output)
    assert len(whole) == 30
    gone = [path for path in whole.paths if Part(2, 3).holds([path])[0]][:2]
    other = next(path for path in whole.paths if Part(3, 3).holds([path])[0])
    for path in [*gone, other]:
        (root / path).unlink()
    result = extract(root, part="2/3")
    assert (result.removed, result.computed) == (2, 0)
    assert set(whole.paths) - set(bp.open(output).paths) == set(gone)
    assert extract(root).removed == 1
    check_rows(root, bp.open(output), stub)


def test_a_part_shows_the_quarantine_of_its_own_images(extract, photos, capsys):
    from bottleneck_probe.report.tables import show_extraction

    root = photos(30)
    names = [f"ants/bad{i}.png" for i in range(6)]
    for name in names:
        (root / name).write_bytes(b"x")
    own = [set(np.array(names)[Part(number, 2).holds(names)]) for number in (1, 2)]
    assert all(own)
    extract(root, part="1/2")
    result = extract(root, part="2/2")
    assert {path for path, _ in result.bad} == own[1]
    assert len(result.features.quarantine) == 6
    show_extraction(result, verbose=True)
    said = capsys.readouterr().out
    assert [name in said for name in names] == [name in own[1] for name in names]
    assert f"{len(own[0])} more in the quarantine of" in said


def test_two_parts_in_one_command_are_refused(photos):
    from bottleneck_probe.cli.main import bottleneck
    from click.testing import CliRunner

    result = CliRunner().invoke(
        bottleneck, ["extract", str(photos(4)), "--part", "1/2", "--part", "2/2"]
    )
    assert result.exit_code == 2
    assert "given 2 times" in result.stderr


def test_a_part_has_a_default_output_of_its_own(calls, photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = photos(10)
    result = run(find_images(root), output=None, reporter=Silent(), **STATED, part="1/2")
    assert result.output == Path("cache/photos-part-1-of-2-stub.h5")
    again = run(find_images(root), output=None, reporter=Silent(), **STATED, part="1/2")
    assert (again.computed, again.written) == (0, False)


def test_a_part_without_images_is_told(extract, photos):
    root = photos(2)
    empty = next(
        number
        for number in range(1, 4)
        if not Part(number, 3).holds(["ants/00000.png", "bees/00001.png"]).any()
    )
    with pytest.raises(bp.InputError, match=r"holds none of the 2 images"):
        extract(root, part=f"{empty}/3")


def test_parts_of_another_folder_do_not_mix(extract, photos, output):
    """Though one picture is in both, by which a folder that was moved is known."""
    first, second = photos(8), photos(8, folder="others")
    extract(first, part="1/2")
    stored = bp.open(output).paths[0]
    for path in sorted(second.glob("*/*")):
        if Part(2, 2).holds([path.relative_to(second).as_posix()])[0]:
            shutil.copy(first / stored, path)
            break
    with pytest.raises(bp.InputError, match="--part"):
        extract(second, part="2/2")


def test_merged_parts_are_the_whole_run(extract, photos, output, tmp_path, calls):
    """Linked, not written: the very files."""
    root = photos(30)
    (root / "ants" / "bad.png").write_bytes(b"no image")
    folders = [tmp_path / f"part{number}" for number in (1, 2, 3)]
    for number, folder in enumerate(folders, start=1):
        extract(root, to=folder, part=f"{number}/3", allow_bad=True)
    extract(root, allow_bad=True)
    target = LocalStorage(tmp_path / "merged")
    merged = directory.merge([bp.open(folder) for folder in folders], target)
    whole = bp.open(output)
    assert list(merged.paths) == list(whole.paths)
    np.testing.assert_array_equal(merged.features[:], whole.features[:])
    np.testing.assert_array_equal(merged.y, whole.y)
    assert merged.quarantine == whole.quarantine
    assert merged.classes == whole.classes
    own = {path.stat().st_ino for path in target.folder.glob("*.h5")}
    assert own == {path.stat().st_ino for folder in folders for path in folder.glob("*.h5")}
    for folder in folders:
        shutil.rmtree(folder)
    calls.forwards = 0
    assert extract(root, to=target.folder, allow_bad=True).computed == 0


def test_a_directory_without_its_manifest_is_not_begun_anew(extract, photos, output, calls):
    root = photos(9)
    extract(root)
    (output / "manifest.json").unlink()
    before = files_of(output)
    with pytest.raises(bp.CacheError, match=r"1 shards and no manifest\.json") as caught:
        extract(root)
    assert calls.forwards == 0
    assert files_of(output) == before
    assert f"cache repair {output}{os.sep}" in caught.value.next
    assert "--force" in caught.value.next
    repair(output, f"{output}-new/")  # as the error says
    assert extract(root, f"{output}-new").computed == 0
    assert extract(root, force=True).computed == 9


def test_shards_that_a_killed_first_run_has_not_listed_yet_do_not_stop_the_next(
    extract, photos, output, monkeypatch
):
    def put(self, name, data):
        raise bp.CacheError("the power is gone")

    root = photos(6)
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", put)
        with pytest.raises(bp.CacheError, match="power"):
            extract(root)
    assert len(list(output.glob("*.h5"))) == 1
    result = extract(root)
    assert (result.computed, result.resumed) == (0, 6)


@pytest.mark.parametrize("damage", ["missing", "bit", "manifest"])
def test_force_begins_a_damaged_directory_anew(extract, photos, output, monkeypatch, stub, damage):
    monkeypatch.setattr(building, "SHARD_ROWS", 4)
    root = photos(9)
    extract(root)
    assert extract(root, force=True).computed == 0  # a sound one is gone on with
    shard = output / manifest_of(output).shards[1].name
    if damage == "missing":
        shard.unlink()
    elif damage == "manifest":
        (output / "manifest.json").write_text("{")
    else:
        data = bytearray(shard.read_bytes())
        at = data.find(bp.open(shard).features[2].tobytes())
        assert at > 0
        data[at] ^= 1
        shard.write_bytes(data)
        with pytest.raises(bp.CacheError, match="differ from their checksum") as caught:
            bp.open(output).features[:]
        assert f"cache repair {output}{os.sep}" in caught.value.next
    if damage != "bit":
        with pytest.raises(bp.CacheError):
            extract(root)
    reporter = Silent()
    found = run(
        find_images(root), output=f"{output}/", reporter=reporter, **{**STATED, "force": True}
    )
    assert found.computed == 9
    assert any("computes every feature again" in warning for warning in reporter.warnings)
    assert directory.check(LocalStorage(output)).faults == []
    check_rows(root, bp.open(output), stub)
