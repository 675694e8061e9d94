"""What was computed is never computed again: only bytes that are new reach the network."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.backbones import registry
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.reporter import Silent


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "x.h5"


@pytest.fixture
def extract(calls, output):
    """One run; one image in each forward call, so that calls count images."""

    def extract_(images, **options):
        calls.forwards = calls.started = 0
        stated = {"backbone": "stub", "engine": "eager", "batch_size": 1, **options}
        result = run(find_images(images), output=output, reporter=Silent(), **stated)
        assert result.computed == calls.forwards
        assert result.computed + result.reused + result.quarantined == result.seen
        return result

    return extract_


def check_rows(root, features):
    """Each row is that of the file that lies there now."""
    for path, key, row in zip(features.paths, features.keys, features.features[:], strict=True):
        content = (root / path).read_bytes()
        assert key.tobytes() == blake3(content).digest()
        from PIL import Image

        colour = np.asarray(Image.open(root / path).convert("RGB"))[0, 0]
        np.testing.assert_allclose(row[:3], colour, atol=1e-4)


def test_a_second_run_computes_nothing_and_writes_nothing(extract, photos, output, calls):
    root = photos(9)
    assert extract(root).computed == 9
    before = output.read_bytes(), output.stat().st_mtime_ns
    again = extract(root)
    assert (again.computed, again.reused, again.written) == (0, 9, False)
    assert calls.started == 0
    assert (output.read_bytes(), output.stat().st_mtime_ns) == before
    assert not output.with_name("x.h5.parts").exists()


def test_only_the_added_image_is_computed(extract, photos, stub):
    root = photos(9)
    extract(root)
    stub.paint(root / "ants" / "new.png", 500)
    found = extract(root)
    assert (found.computed, found.reused) == (1, 9)
    check_rows(root, found.features)


def test_an_edited_image_is_computed_though_size_and_time_are_the_same(extract, photos, stub):
    root = photos(9)
    extract(root)
    path = root / "ants" / "00004.png"
    before = path.stat()
    old = path.read_bytes()
    for number in range(600, 700):  # until one compresses to the same size
        stub.paint(path, number)
        if path.stat().st_size == before.st_size and path.read_bytes() != old:
            break
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    found = extract(root)
    assert (found.computed, found.reused) == (1, 8)
    check_rows(root, found.features)


def test_swapped_files_swap_their_rows(extract, photos):
    root = photos(9)
    extract(root)
    a, b = root / "ants" / "00000.png", root / "ants" / "00002.png"
    content = a.read_bytes(), b.read_bytes()
    b.write_bytes(content[0])
    a.write_bytes(content[1])
    found = extract(root)
    assert found.computed == 0
    check_rows(root, found.features)


def test_renaming_moving_and_relabelling_cost_nothing(extract, photos):
    root = photos(9)
    extract(root)
    (root / "ants" / "00000.png").rename(root / "ants" / "zz.png")  # renamed
    (root / "wasps" / "deep").mkdir(parents=True)
    (root / "ants" / "00002.png").rename(root / "wasps" / "deep" / "a.png")  # another class
    (root / "bees").rename(root / "hornets")  # a class by another name
    found = extract(root)
    assert (found.computed, found.reused) == (0, 9)
    assert found.written
    assert found.features.classes == ["ants", "hornets", "wasps"]
    check_rows(root, found.features)
    for path, label in zip(found.features.paths, found.features.labels, strict=True):
        assert path.startswith(f"{label}/")


def test_one_name_in_two_folders_is_two_images_wherever_they_move(extract, photos, stub):
    root = photos(0)
    for number, folder in enumerate(("ants", "bees", "bees/deep")):
        stub.paint(root / folder / "1.png", 300 + number)
    found = extract(root)
    assert (found.computed, found.reused) == (3, 0)
    check_rows(root, found.features)
    (root / "ants").rename(root / "aside")
    (root / "bees").rename(root / "ants")  # each name now is another image's
    (root / "aside").rename(root / "bees")
    found = extract(root)
    assert (found.computed, found.reused) == (0, 3)
    check_rows(root, found.features)


def test_the_same_bytes_three_times_are_computed_once(extract, photos, stub):
    root = photos(2)
    for name in ("ants/copy.png", "wasps/copy.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes((root / "ants" / "00000.png").read_bytes())
    found = extract(root)
    assert (found.computed, found.reused, len(found.features)) == (2, 2, 4)
    assert found.features.classes == ["ants", "bees", "wasps"]
    check_rows(root, found.features)


def test_a_link_is_known_by_what_it_leads_to(extract, photos, stub, tmp_path):
    root = photos(3)
    targets = [stub.paint(tmp_path / "far" / f"{number}.png", number) for number in (700, 800, 0)]
    link = root / "bees" / "link.png"
    try:
        link.symlink_to(targets[0])
    except OSError:
        pytest.skip("no symbolic links here")
    (root / "bees" / "folder").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "far")  # a loop
    first = extract(root)
    assert (first.computed, first.reused, first.seen) == (5, 2, 7)  # number 0 is in the folder, too
    check_rows(root, first.features)
    link.unlink()
    link.symlink_to(targets[1])
    found = extract(root)
    assert (found.computed, found.written) == (0, True)
    check_rows(root, found.features)
    stub.paint(targets[1], 900)
    assert extract(root).computed == 1
    check_rows(root, extract(root).features)


def test_other_labels_and_splits_of_a_table_cost_nothing(extract, photos):
    root = photos(50)
    names = sorted(path.relative_to(root.parent).as_posix() for path in root.rglob("*.png"))
    keys = []
    for labels, splits in (("xy", ("train", "val")), ("zx", ("test", "train"))):
        lines = [f"{name},{labels[i % 2]},{splits[i % 2]}" for i, name in enumerate(names)]
        table = root.parent / "table.csv"
        table.write_text("\n".join(["path,label,split", *lines]))
        found = extract(table)
        assert list(found.features.labels) == list(labels * 25)
        assert list(found.features.splits) == list(splits * 25)
        keys.append(found.features.keys.tobytes())
    assert (found.computed, found.reused, found.written) == (0, 50, True)
    assert keys[0] == keys[1]


def test_splitting_anew_costs_nothing(extract, photos):
    root = photos(8)
    extract(root)
    for place, path in enumerate(sorted(root.rglob("*.png"))):
        split = ("train", "val")[place % 2]
        new = root / split / path.parent.name / path.name
        new.parent.mkdir(parents=True, exist_ok=True)
        path.rename(new)
    for empty in ("ants", "bees"):
        (root / empty).rmdir()
    found = extract(root)
    assert found.computed == 0
    assert sorted(found.features.splits) == ["train"] * 4 + ["val"] * 4
    check_rows(root, found.features)


def test_a_moved_root_costs_nothing(extract, photos, tmp_path):
    root = photos(7)
    extract(root)
    moved = root.rename(tmp_path / "elsewhere")
    found = extract(moved)
    assert (found.computed, found.reused, found.removed) == (0, 7, 0)
    assert found.features.root == str(moved)


def test_what_is_gone_loses_its_row_unless_it_is_kept(extract, photos, stub):
    root = photos(9)
    extract(root)
    gone = ["ants/00000.png", "bees/00003.png"]
    kept = (root / gone[0]).read_bytes()
    for path in gone:
        (root / path).unlink()
    stub.paint(root / "bees" / "aaa.png", 900)
    (root / "bees" / "torn.png").write_bytes(b"")
    added = extract(root, add=True)
    assert (added.seen, added.computed, added.removed) == (9, 1, 0)
    assert set(gone) <= set(added.features.paths)
    assert len(added.features) == 10
    assert list(added.features.paths) == sorted(added.features.paths)
    row = list(added.features.paths).index(gone[0])
    assert added.features.keys[row].tobytes() == blake3(kept).digest()
    np.testing.assert_allclose(added.features.features[row], stub.feature_of(0), atol=1e-4)
    assert added.features.labels[row] == "ants"
    mirrored = extract(root)
    assert (mirrored.computed, mirrored.removed) == (0, 2)
    assert not set(gone) & set(mirrored.features.paths)
    check_rows(root, mirrored.features)


def test_add_refuses_another_folder_where_the_same_path_is_another_image(extract, photos, output):
    """Rows of the first folder were overwritten by rows of the second with the same path."""
    root = photos(6)
    extract(root / "ants")
    before = output.read_bytes()
    with pytest.raises(bp.InputError, match="the same path is another image"):
        extract([root / "ants", root / "bees"], add=True)
    assert output.read_bytes() == before
    with pytest.raises(bp.InputError, match="one of the two"):
        extract(root / "ants", add=True, force=True)


def test_a_default_output_is_not_shrunk_to_a_part_of_its_images(
    calls, photos, tmp_path, monkeypatch
):
    """Trying two images once cost the features of all the others."""
    root = photos(6)
    monkeypatch.chdir(tmp_path)
    bp.extract(root, backbone="stub", quiet=True)
    some = sorted(str(file) for file in root.glob("*/*"))
    with pytest.raises(bp.InputError, match="would lose 4 rows whose images are still there"):
        bp.extract([some[0], some[-1]], backbone="stub", quiet=True)
    Path(some[0]).unlink()
    assert len(bp.extract(root, backbone="stub", quiet=True)) == 5


def test_rows_below_a_folder_that_cannot_be_listed_are_not_dropped(extract, photos, monkeypatch):
    root = photos(6)
    extract(root)
    real = os.scandir

    def scandir(path="."):
        if os.path.basename(os.fspath(path)) == "bees":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(bp.InputError, match=r"3 rows of .* lie below it"):
        extract(root)


def test_an_unchanged_file_needs_no_weights(extract, photos, monkeypatch):
    """They were asked for although nothing was to be computed."""
    root = photos(4)
    extract(root)
    monkeypatch.setattr("bottleneck_probe.backbones.registry.recall", lambda sha256: None)
    nothing = replace(registry.ENTRIES["stub"], weights=_Nowhere())
    monkeypatch.setitem(registry.ENTRIES, "stub", nothing)
    done = extract(root)
    assert (done.computed, done.reused) == (0, 4)
    with pytest.raises(bp.WeightsError, match="not on this machine"):
        registry.from_recipe(done.features.recipe)
    with pytest.raises(bp.WeightsError, match="not on this machine"):
        registry.from_recipe(done.features.recipe, lazy=True).weights.file()


class _Nowhere:
    label = licence = "x"

    def find(self):
        return None


RECIPE_CHANGES = {
    "resize": ({"resize": 9}, "preprocessing.resize"),
    "crop": ({"crop": 7}, "preprocessing.crop"),
    "interpolation": ({"interpolation": "nearest"}, "preprocessing.interpolation"),
    "mean": ({"mean": (0.1, 0.2, 0.3)}, "preprocessing.mean"),
    "std": ({"std": (1, 1, 1)}, "preprocessing.std"),
    "two at once": ({"std": (1, 1, 1), "resize": 10}, "preprocessing.resize"),
}


@pytest.mark.parametrize("name", list(RECIPE_CHANGES))
def test_another_recipe_is_refused_and_the_file_left_as_it_is(name, extract, photos, output, calls):
    root = photos(4)
    extract(root)
    before = output.read_bytes()
    changes, field = RECIPE_CHANGES[name]
    with pytest.raises(bp.RecipeError) as caught:
        extract(root, **changes)
    text = str(caught.value)
    assert field in text
    assert str(output) in text
    assert "-o " in caught.value.next
    for _, other in RECIPE_CHANGES.values():
        if other.split(".")[1] not in changes:
            assert other not in text
    assert output.read_bytes() == before
    assert calls.forwards == 0
    # Nothing stated: the file's own recipe.
    assert extract(root).computed == 0


def test_what_was_stated_once_need_not_be_stated_again(extract, photos, stub):
    root = photos(4)
    extract(root, interpolation="nearest", std=(0.2, 0.2, 0.2))
    stub.paint(root / "ants" / "new.png", 500)
    found = extract(root, backbone=None)
    assert (found.computed, found.reused) == (1, 4)
    assert found.features.recipe["preprocessing"]["interpolation"] == "nearest"
    assert found.features.recipe["preprocessing"]["std"] == [0.2, 0.2, 0.2]


def test_force_replaces_a_file_of_another_recipe(extract, photos):
    root = photos(4)
    extract(root)
    found = extract(root, interpolation="nearest", force=True)
    assert found.computed == 4
    assert found.features.recipe["preprocessing"]["interpolation"] == "nearest"


def test_a_file_of_other_images_is_refused_with_both_roots(extract, photos, output):
    first = photos(4)
    extract(first)
    before = output.read_bytes()
    second = photos(4, first=50, folder="others")
    for add in (False, True):
        with pytest.raises(bp.InputError) as caught:
            extract(second, add=add)
        assert str(first) in str(caught.value)
        assert str(second) in str(caught.value)
        assert "--force" in caught.value.next
        assert output.read_bytes() == before
    found = extract(second, force=True)
    assert (found.computed, found.seen) == (4, 4)
    check_rows(second, found.features)


def test_one_shared_image_makes_another_root_the_same_collection(extract, photos, stub):
    first = photos(4)
    extract(first)
    second = photos(4, first=50, folder="others")
    stub.paint(second / "ants" / "shared.png", 2)
    found = extract(second)
    assert (found.computed, found.reused, found.removed) == (4, 1, 4)
    check_rows(second, found.features)


def test_float16_is_kept_and_never_passes_for_float32(extract, photos, stub):
    root = photos(6)
    extract(root, store="float16")
    stub.paint(root / "ants" / "new.png", 500)
    found = extract(root)
    assert (found.computed, found.features.header.store) == (1, "float16")
    wide = extract(root, store="float32")
    assert (wide.computed, wide.features.header.store) == (7, "float32")
    check_rows(root, wide.features)


def test_widening_a_float16_file_that_also_keeps_rows_says_what_is_wrong(extract, photos):
    """Rows whose images are gone cannot be computed again, so they cannot become float32."""
    root = photos(6)
    extract(root, store="float16")
    (root / "ants" / "00000.png").unlink()
    with pytest.raises(bp.BottleneckError, match="float16"):
        extract(root, store="float32", add=True)


UNCHANGED = """
import sys
import bottleneck_probe as bp
cache = bp.extract(sys.argv[1], output=sys.argv[2], quiet=True)
assert len(cache) == 2, len(cache)
assert cache.environment["engine"] == "onnx"
heavy = [m for m in ("torch", "torchvision", "timm", "onnxruntime", "sklearn") if m in sys.modules]
assert not heavy, heavy
"""


def test_an_unchanged_folder_loads_no_network_library(tmp_path):
    rng = np.random.default_rng(0)
    from PIL import Image

    root = tmp_path / "photos"
    for name in ("ants/a.png", "bees/b.png"):
        (root / name).parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), np.uint8)).save(root / name)
    output = tmp_path / "x.h5"
    bp.extract(root, output=output, engine="onnx", device="cpu", batch_size=2, quiet=True)
    subprocess.run([sys.executable, "-c", UNCHANGED, root, output], check=True)


def test_a_dry_run_refuses_what_the_run_would(calls, photos, tmp_path, monkeypatch):
    """It once promised to remove rows that the run itself refused to lose."""
    from bottleneck_probe.extraction.dry import dry_run

    root = photos(6)
    monkeypatch.chdir(tmp_path)
    bp.extract(root, backbone="stub", quiet=True)
    some = sorted(str(file) for file in root.glob("*/*"))
    found = find_images([some[0], some[-1]])
    with pytest.raises(bp.InputError, match="would lose 4 rows"):
        dry_run(found, output=None, reporter=Silent(), backbone="stub")
    with pytest.raises(bp.InputError, match="is a folder"):
        dry_run(find_images(root), output=f"{tmp_path}/", reporter=Silent(), backbone="stub")
