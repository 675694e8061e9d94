"""Extraction from tars: the same rows as from folders, nothing twice, nothing lost."""

import io
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.cli.extract import exit_code
from bottleneck_probe.errors import InputError
from bottleneck_probe.extraction import dry, record
from bottleneck_probe.extraction.api import find_images
from bottleneck_probe.extraction.judge import TooManyBadError
from bottleneck_probe.images.tars import contents
from bottleneck_probe.images.tars.members import TarMember
from bottleneck_probe.report.tables import show_plan
from bottleneck_probe.reporter import Silent
from common import extractor

HOUR_NS = 3600 * 10**9


@pytest.fixture
def settled(monkeypatch):
    """As if all files had been made long before the run."""
    monkeypatch.setattr(record, "GRAIN_NS", -HOUR_NS)
    monkeypatch.setattr(record, "FOREIGN_GRAIN_NS", -HOUR_NS)
    monkeypatch.setattr(contents, "GRAIN_NS", -HOUR_NS)


@pytest.fixture
def extract(calls, tmp_path):
    return extractor(calls, tmp_path / "out.h5")


def pack(folder: Path, tar: Path, *, names=None) -> Path:
    """A tar of a folder's files, in the order of `names`."""
    tar.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(tar, "w") as file:
        for path in names or sorted(folder.rglob("*.png")):
            file.add(path, path.relative_to(folder))
    return tar


def test_a_tar_gives_the_rows_of_its_folder(extract, photos, tmp_path):
    root = photos(12)
    folder = extract(root, tmp_path / "folder.h5").features
    tar = extract(str(pack(root, tmp_path / "p.tar")), tmp_path / "tar.h5").features
    assert list(tar.paths) == [f"p.tar/{path}" for path in folder.paths]
    assert np.array_equal(tar.keys, folder.keys)
    assert np.array_equal(tar.features[:], folder.features[:])
    assert list(tar.labels) == list(folder.labels)
    assert tar.root == str(tmp_path)


def test_an_unchanged_tar_is_not_read(extract, photos, tmp_path, settled, monkeypatch):
    tar = pack(photos(9), tmp_path / "p.tar")
    assert extract(str(tar)).read == 9
    monkeypatch.setattr(TarMember, "read", None)  # who reads fails
    again = extract(str(tar))
    assert (again.read, again.computed, again.reused, again.written) == (0, 0, 9, False)


def test_a_touched_tar_is_read_and_nothing_is_computed(extract, photos, tmp_path, settled):
    tar = pack(photos(9), tmp_path / "p.tar")
    extract(str(tar))
    os.utime(tar, (5, 5))
    again = extract(str(tar))
    assert (again.read, again.computed, again.reused) == (9, 0, 9)


def test_a_fresh_tar_is_read_again(extract, photos, tmp_path):
    tar = pack(photos(3), tmp_path / "p.tar")
    extract(str(tar))
    assert extract(str(tar)).read == 3


def test_images_moved_between_tars_are_not_computed_again(extract, photos, tmp_path):
    root = photos(10)
    files = sorted(root.rglob("*.png"))
    folder = tmp_path / "shards"
    pack(root, folder / "0.tar", names=files[:5])
    pack(root, folder / "1.tar", names=files[5:])
    assert extract(str(folder / "{0..1}.tar")).computed == 10
    pack(root, folder / "0.tar", names=files[::2])
    pack(root, folder / "1.tar", names=files[1::2])
    moved = extract(str(folder))
    assert (moved.computed, moved.reused, moved.seen) == (0, 10, 10)
    # From tars to the folder they were made of.
    assert extract(root).computed == 0


def test_an_edited_member_is_computed_alone(extract, photos, stub, tmp_path, settled):
    root = photos(6)
    tar = pack(root, tmp_path / "p.tar")
    extract(str(tar))
    stub.paint(root / "ants" / "00002.png", 900)
    pack(root, tar)
    found = extract(str(tar))
    assert (found.computed, found.reused) == (1, 5)
    place = list(found.features.paths).index("p.tar/ants/00002.png")
    np.testing.assert_allclose(found.features.features[place], stub.feature_of(900), atol=1e-4)


def test_hostile_and_broken_members_are_accounted_for(extract, photos, tmp_path):
    root = photos(12)
    tar = pack(root, tmp_path / "p.tar")
    with tarfile.open(tar, "a") as file:
        for name, kind in (("../out.png", tarfile.REGTYPE), ("ants/link.png", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            file.addfile(info)
        info = tarfile.TarInfo("ants/text.png")
        info.size = 4
        file.addfile(info, io.BytesIO(b"text"))
    found = extract(str(tar))
    assert (found.computed, found.quarantined, found.seen) == (12, 3, 15)
    assert [path for path, _ in found.features.quarantine] == [
        "p.tar/%2E%2E/out.png",
        "p.tar/ants/link.png",
        "p.tar/ants/text.png",
    ]
    again = extract(str(tar))
    assert (again.computed, again.quarantined) == (0, 3)


def test_a_cut_tar_keeps_what_was_computed_and_publishes_nothing(extract, photos, tmp_path):
    """Nobody knows what was behind the cut; what precedes is sealed and taken up later."""
    root = photos(10)
    tar = pack(root, tmp_path / "p.tar")
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    output = tmp_path / "out.h5"
    with pytest.raises(TooManyBadError, match="a tar ends too early") as caught:
        extract(str(tar), output)
    assert f"{tar}, byte" in caught.value.what
    assert "--allow-bad" in caught.value.next
    assert not output.exists()
    counts = caught.value.counts
    assert counts["computed"] + counts["quarantined"] == counts["seen"]
    tar.write_bytes(whole)
    rest = extract(str(tar), output)
    assert (rest.seen, rest.reused, rest.computed) == (
        10,
        counts["computed"],
        10 - counts["computed"],
    )


def test_a_cut_tar_is_published_if_that_was_allowed(extract, photos, tmp_path):
    tar = pack(photos(10), tmp_path / "p.tar")
    whole = tar.read_bytes()
    tar.write_bytes(whole[: len(whole) // 2])
    found = extract(str(tar), allow_bad=True)
    assert 0 < found.computed < 10
    with pytest.raises(InputError):
        extract(str(tar), tmp_path / "strict.h5", strict=True)


def test_a_default_output_does_not_lose_the_rows_of_tars_that_are_still_there(
    extract, photos, tmp_path, monkeypatch
):
    root = photos(4)
    files = sorted(root.rglob("*.png"))
    folder = tmp_path / "shards"
    for i in range(4):
        pack(root, folder / f"{i}.tar", names=files[i : i + 1])
    monkeypatch.chdir(tmp_path)
    assert extract(str(folder / "{0..3}.tar"), None).computed == 4
    with pytest.raises(InputError, match="would lose 2 rows whose images are still there"):
        extract(str(folder / "{0..1}.tar"), None)
    (folder / "2.tar").unlink()
    (folder / "3.tar").unlink()
    assert extract(str(folder / "{0..1}.tar"), None).removed == 2


def test_a_tar_that_is_replaced_during_the_run_gives_no_wrong_rows(
    extract, photos, tmp_path, calls
):
    root = photos(30)
    files = sorted(root.rglob("*.png"))
    tar = pack(root, tmp_path / "p.tar", names=files)

    def replace_it(calls):
        if calls.forwards == 3:
            pack(root, tmp_path / "new.tar", names=files[::-1])
            os.replace(tmp_path / "new.tar", tar)

    calls.on_call = replace_it
    found = extract(str(tar), allow_bad=True, workers=1).features
    for path, row in zip(found.paths, found.features[:], strict=True):
        number = int(Path(path).stem)
        np.testing.assert_allclose(row, _stub_feature(number), atol=1e-4)


def _stub_feature(number):
    return [number >> 8 & 255, number & 255, number * 83 + 7 & 255, 1]


def test_members_can_be_read_in_another_process(photos, tmp_path):
    import pickle

    tar = pack(photos(1), tmp_path / "p.tar")
    (sample,) = find_images(str(tar)).samples
    again = pickle.loads(pickle.dumps(sample))
    assert again == sample
    assert again.source.read(10**6) == sample.source.read(10**6)
    assert replace(again, path="x").source.name.endswith(f"byte {again.source.offset}")


def test_rows_behind_a_cut_are_kept_and_the_tar_is_named(extract, photos, tmp_path, capsys):
    """Whether their images are gone nobody knows; those of a whole tar that has lost some are gone."""
    root = photos(12)
    names = sorted(root.rglob("*.png"))
    cut = pack(root, tmp_path / "t" / "a.tar", names=names[:6])
    other = pack(root, tmp_path / "t" / "b.tar", names=names[6:])
    before = extract(str(tmp_path / "t")).features
    rows = {path: row.tobytes() for path, row in zip(before.paths, before.features, strict=True)}
    whole = cut.read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    pack(root, other, names=names[7:])
    found = find_images(str(tmp_path / "t"))
    (plan,) = dry.dry_run(found, output=tmp_path / "out.h5", reporter=Silent(), backbone="stub")
    assert plan.removed == 1
    show_plan(plan)
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "ends too early" in line]
    assert told.startswith(f"a tar ends too early: {cut}, byte")
    result = extract(str(tmp_path / "t"), allow_bad=True)
    assert result.removed == 1
    for broken in (plan.to_json()["broken"], result.to_json()["broken"]):
        assert len(broken) == 1
        assert broken[0].startswith(f"{cut}, byte")
    assert exit_code(result, {"allow_bad": True, "allow_bad_rate": None}) == 3
    after = {
        path: row.tobytes()
        for path, row in zip(result.features.paths, result.features.features, strict=True)
    }
    quarantined = {path for path, _ in result.features.quarantine}
    gone = set(rows) - set(after) - quarantined
    assert [path.rpartition("/")[2] for path in gone] == [names[6].name]
    assert all(after[path] == rows[path] for path in after)
    assert len(after) + len(quarantined) == 11
