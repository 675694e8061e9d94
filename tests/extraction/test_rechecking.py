"""`verify --images` and `--recompute`: the file against its images, and against a fresh computation."""

import json
import shutil
import tarfile

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache.features import Features
from bottleneck_probe.cache.repairing import repair
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.engines import select
from click.testing import CliRunner
from PIL import Image

pytestmark = pytest.mark.usefixtures("opened_here", "examined_here")


@pytest.fixture
def extracted(calls, photos, tmp_path):
    """Twelve images and their feature file."""
    root = photos(12)
    return root, bp.extract(root, backbone="stub", engine="eager", output=tmp_path / "x.h5").file


def test_images_that_are_as_they_were(extracted):
    _, path = extracted
    report = verify(path, images=True)
    assert report.ok
    assert report.images == {"same": 12, "changed": 0, "missing": 0, "unreadable": 0, "new": 0}


def test_changed_missing_unreadable_and_new_images_are_counted_and_listed(extracted, stub):
    root, path = extracted
    stub.paint(root / "ants" / "00000.png", 500)
    (root / "bees" / "00001.png").unlink()
    (root / "ants" / "00002.png").unlink()
    (root / "ants" / "00002.png").mkdir()
    stub.paint(root / "bees" / "00099.png", 99)
    report = verify(path, images=True)
    assert report.images == {"same": 9, "changed": 1, "missing": 1, "unreadable": 1, "new": 1}
    assert [(p.path, p.what) for p in report.problems] == [
        ("ants/00000.png", "is another image than the one the feature was computed from"),
        ("ants/00002.png", "not a regular file"),
        ("bees/00001.png", "no such file"),
    ]
    assert {p.dataset for p in report.problems} == {"images"}


def test_what_is_in_the_quarantine_is_not_new(calls, photos, tmp_path):
    root = photos(12)
    (root / "ants" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n no")
    path = bp.extract(root, backbone="stub", engine="eager", output=tmp_path / "x.h5").file
    report = verify(path, images=True)
    assert report.ok
    assert report.images["new"] == 0


def test_images_that_were_moved_are_found_by_root(extracted, tmp_path):
    root, path = extracted
    shutil.move(root, tmp_path / "elsewhere")
    with pytest.raises(bp.InputError, match="there is no folder") as caught:
        verify(path, images=True)
    assert "--root" in caught.value.next
    assert verify(path, images=True, root=tmp_path / "elsewhere").images["same"] == 12


def test_features_of_no_images_have_none_to_look_at(tmp_path):
    path = Features.from_arrays(np.eye(3)).save(tmp_path / "own.h5")
    for options in ({"images": True}, {"recompute": 1}):
        with pytest.raises(bp.InputError, match="does not say where its images are"):
            verify(path, **options)


def test_rows_computed_again_agree(extracted, calls):
    _, path = extracted
    before = calls.forwards
    report = verify(path, recompute=5, seed=3)
    assert report.ok
    assert calls.forwards > before
    assert report.recomputed["rows"] == 5
    assert report.recomputed["engines"] == {"eager on cpu": 0.0}
    assert verify(path, recompute=100).recomputed["rows"] == 12


def test_every_output_is_computed_again(calls, photos, tmp_path):
    root = photos(4)
    path = bp.extract(
        root,
        backbone="stub",
        engine="eager",
        layer=["penultimate", "double"],
        output=tmp_path / "x.h5",
    ).file
    assert verify(path, recompute=4).ok
    rewrite(path, _layer(path), 2, 1.01)
    problems = verify(path, recompute=4).problems
    assert [p.dataset for p in problems] == [_layer(path)]


def _layer(path):
    with h5py.File(path) as h5:
        return f"layers/{next(iter(h5['layers']))}"


def rewrite(path, name, row, factor):
    """A wrong value under right checksums, as a program that writes the file anew would make it."""
    features = bp.open(path)
    arrays = {
        "features": features.features,
        **{f"layers/{n}": a for n, a in features.layers.items()},
    }
    values = {each: np.array(array[:]) for each, array in arrays.items()}
    values[name][row] *= factor
    changed = Features(
        features.header,
        features.rows,
        values.pop("features"),
        layers={each.removeprefix("layers/"): array for each, array in values.items()},
    )
    changed.save(path)


def test_a_feature_that_another_network_made_is_found(extracted):
    """Checksums vouch for what was written; only a fresh computation tells that it was wrong."""
    _, path = extracted
    rewrite(path, "features", 4, 1.01)
    assert verify(path).ok
    report = verify(path, recompute=12)
    (problem,) = report.problems
    assert (problem.dataset, problem.rows, problem.path) == ("features", (4, 4), "ants/00008.png")
    assert "eager on cpu" in problem.what
    assert report.recomputed["engines"]["eager on cpu"] == pytest.approx(0.01 / 1.01, rel=1e-3)
    rewrite(path, "features", 4, 1 / 1.01 + 1e-5)
    assert verify(path, recompute=12).ok  # within the tolerance of fp32


def test_images_that_are_gone_or_changed_are_not_compared(extracted, stub):
    root, path = extracted
    stub.paint(root / "ants" / "00000.png", 500)
    (root / "bees" / "00001.png").unlink()
    report = verify(path, recompute=12)
    assert report.ok
    assert report.recomputed["rows"] == 10
    assert "2 images that were picked are gone or have changed" in report.notes[0]
    shutil.rmtree(root / "ants")
    shutil.rmtree(root / "bees")
    assert not verify(path, recompute=3).ok


def test_the_files_engine_and_the_default_one_are_both_tried(extracted, calls, monkeypatch):
    _, path = extracted
    asked = []
    real = select.choose

    def choose(backbone, **options):
        asked.append(options["recorded"].get("engine"))
        choice = real(backbone, **options)
        if not options["recorded"]:
            object.__setattr__(choice, "engine", "compile")
        return choice

    monkeypatch.setattr(select, "choose", choose)
    report = verify(path, recompute=3)
    assert asked == ["eager", None]
    assert report.recomputed["engines"] == {"eager on cpu": 0.0, "compile on cpu": 0.0}
    calls.scale = 1.01
    assert len(verify(path, recompute=3).problems) == 6


def test_after_a_repair_extract_computes_the_lost_rows_alone(calls, photos, tmp_path):
    root = photos(200)
    path = bp.extract(root, backbone="stub", engine="eager", output=tmp_path / "x.h5").file
    whole = bp.open(path)
    wanted = whole.features[:]
    with h5py.File(path) as h5:
        at = h5["features"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[at + 70 * 16] ^= 4
    path.write_bytes(data)
    new = repair(path, tmp_path / "new.h5").output
    command = ["extract", str(root), "-o", str(new), "--backbone", "stub", "--json"]

    reply = json.loads(CliRunner().invoke(bottleneck, command).stdout)
    assert (reply["computed"], reply["reused"], reply["seen"]) == (64, 136, 200)
    np.testing.assert_array_equal(bp.open(new).features[:], wanted)
    assert bp.open(new).paths.tolist() == whole.paths.tolist()
    data = bytearray(path.read_bytes())
    data[data.index(b"ants/00002.png")] ^= 1  # now no path is known, but all keys of good blocks
    path.write_bytes(data)
    lost = repair(path, tmp_path / "again.h5")
    assert (lost.rows, lost.by_key) == (0, 136)
    command[3] = str(lost.output)
    reply = json.loads(CliRunner().invoke(bottleneck, command).stdout)
    assert (reply["computed"], reply["reused"]) == (64, 136)
    np.testing.assert_array_equal(bp.open(lost.output).features[:], wanted)


def test_tiles_are_compared_tile_by_tile(calls, tmp_path):
    """Each half of these images has a colour of its own, so no tile passes for another."""
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.zeros((8, 16, 3), np.uint8)
        pixels[:, :8], pixels[:, 8:] = 10 + number, 200 + number
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    path = bp.extract(
        tmp_path / "photos",
        backbone="stub",
        engine="eager",
        framing="tiles:1x2",
        output=tmp_path / "x.h5",
    ).file
    assert verify(path, images=True, recompute=6).ok
    rewrite(path, "features", 3, 1.01)
    assert [p.rows for p in verify(path, recompute=6).problems] == [(3, 3)]


def test_members_of_tars_are_compared_where_they_lie(calls, photos, tmp_path, stub):
    root = photos(6)
    (tmp_path / "tars" / "more").mkdir(parents=True)

    def pack(numbers, name):
        with tarfile.open(tmp_path / "tars" / name, "w") as tar:
            for number in numbers:
                folder = ("ants", "bees")[number % 2]
                tar.add(root / folder / f"{number:05d}.png", f"{number:05d}.png")

    pack([0, 1, 2], "000.tar")
    pack([3, 4], "more/001.tar")
    path = bp.extract(
        tmp_path / "tars", backbone="stub", engine="eager", output=tmp_path / "t.h5"
    ).file
    report = verify(path, images=True, recompute=5)
    assert report.ok
    assert report.images["same"] == report.recomputed["rows"] == 5
    stub.paint(root / "ants" / "00004.png", 700)
    pack([3, 4, 5], "more/001.tar")
    report = verify(path, images=True)
    assert report.images == {"same": 4, "changed": 1, "missing": 0, "unreadable": 0, "new": 1}
    (tmp_path / "tars" / "000.tar").unlink()
    assert verify(path, images=True).images["missing"] == 3
