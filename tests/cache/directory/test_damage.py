"""A directory whose files are missing, cut, changed or something else: one clear error each."""

import os
import sys

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory import building
from bottleneck_probe.cache.storage import LocalStorage

N, D = 40, 6


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(building, "SHARD_ROWS", 10)
    rng = np.random.default_rng(0)
    own = bp.Features.from_arrays(
        rng.normal(size=(N, D)),
        [("ants", "bees")[i % 2] for i in range(N)],
        [f"{i:03d}" for i in range(N)],
        meta={"age": np.arange(N, dtype=float), "site": [f"s{i}" for i in range(N)]},
    )
    own.rows.quarantine = [("bad.jpg", "truncated")]
    own.save(f"{tmp_path / 'many'}/")
    assert len(list((tmp_path / "many").glob("*.h5"))) == 4
    return tmp_path / "many"


def shards(folder):
    return [folder / shard.name for shard in directory.load(LocalStorage(folder)).shards]


def test_it_is_read_as_it_was_saved(folder):
    features = bp.open(folder)
    assert (len(features), features.features.shape) == (N, (N, D))
    assert features.meta["site"].tolist() == [f"s{i}" for i in range(N)]
    assert features.quarantine == [("bad.jpg", "truncated")]
    assert directory.check(LocalStorage(folder)).faults == []


def test_a_slice_touches_only_its_shards(folder):
    """The others may as well be gone; and no file stays open."""
    features = bp.open(folder)
    for path in shards(folder)[2:]:
        path.unlink()
    assert features.features[3:17].shape == (14, D)
    with pytest.raises(bp.CacheError):
        features.features[19:21]
    if sys.platform == "linux":
        open_files = [
            os.readlink(f"/proc/self/fd/{fd}")
            for fd in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{fd}")
        ]
        assert not [name for name in open_files if str(folder) in name]


def test_a_missing_shard(folder):
    shards(folder)[1].unlink()
    with pytest.raises(bp.CacheError, match=r"\.h5 is missing"):
        bp.open(folder)


def test_a_cut_shard(folder):
    path = shards(folder)[1]
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    with pytest.raises(bp.CacheError, match=f"has {len(data) - 7} bytes, not {len(data)}"):
        bp.open(folder)


def test_another_shard_under_its_name(folder):
    """Whole in itself, and of the same size."""
    first, second, *_ = shards(folder)
    assert first.stat().st_size == second.stat().st_size
    first.write_bytes(second.read_bytes())
    with pytest.raises(bp.CacheError, match="is not the shard that the manifest lists"):
        bp.open(folder)


def test_a_flipped_bit_gives_an_error_or_the_right_values(folder):
    wanted = bp.open(folder)
    values = wanted.features[:]
    rng = np.random.default_rng(1)
    found = 0
    for path in [*shards(folder)[:1], folder / "manifest.json"]:
        data = path.read_bytes()
        for _ in range(25):
            broken = bytearray(data)
            broken[rng.integers(len(data))] ^= 1 << rng.integers(8)
            path.write_bytes(broken)
            assert directory.check(LocalStorage(folder)).faults or broken == data
            try:
                features = bp.open(folder)
                np.testing.assert_array_equal(features.features[:], values)
                assert list(features.labels) == list(wanted.labels)
                assert list(features.paths) == list(wanted.paths)
            except bp.CacheError:
                found += 1
        path.write_bytes(data)
    assert found > 25


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_links_and_pipes_are_not_followed(folder, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(shards(folder)[0].read_bytes())
    shards(folder)[0].unlink()
    shards_path = folder / directory.load(LocalStorage(folder)).shards[0].name
    shards_path.symlink_to(secret)
    with pytest.raises(bp.CacheError, match="is no regular file, or a link"):
        bp.open(folder)
    shards_path.unlink()
    os.mkfifo(shards_path)
    with pytest.raises(bp.CacheError, match="is no regular file, or a link"):
        bp.open(folder)
    manifest = folder / "manifest.json"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(bp.CacheError, match="is no regular file, or a link"):
        bp.open(folder)


def test_a_folder_without_a_manifest(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(bp.CacheError, match=r"is a folder without manifest\.json"):
        bp.open(folder)


def test_a_manifest_that_is_too_large(folder, monkeypatch):
    from bottleneck_probe.cache.directory import reading

    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    with pytest.raises(bp.CacheError, match="at most 100 bytes"):
        bp.open(folder)


@pytest.mark.parametrize("damage", ["gone", "cut", "flipped"])
def test_a_damaged_quarantine(folder, damage):
    (path,) = folder.glob("*[0-9a-f].json")
    data = path.read_bytes()
    path.unlink()
    if damage != "gone":
        path.write_bytes(data[:-3] if damage == "cut" else data.replace(b"truncated", b"Truncated"))
    with pytest.raises(bp.CacheError, match="is missing" if damage == "gone" else "is damaged"):
        bp.open(folder)
    assert directory.check(LocalStorage(folder)).faults


def test_check_names_every_fault(folder):
    first, second, *_ = shards(folder)
    first.unlink()
    data = bytearray(second.read_bytes())
    data[len(data) // 2] ^= 1
    second.write_bytes(data)
    (folder / f"{'0' * 32}.h5").write_bytes(b"stray")
    found = directory.check(LocalStorage(folder))
    assert dict(found.faults) == {
        first.name: "is missing",
        second.name: "differs from its BLAKE3 in the manifest",
    }
    assert found.strays == [f"{'0' * 32}.h5"]


def test_a_replaced_directory_is_told(folder, tmp_path):
    """A reader from before must never mix rows of two states."""
    features = bp.open(folder)
    other = bp.Features.from_arrays(np.ones((N, D)), None, [f"{i:03d}" for i in range(N)])
    other.save(f"{folder}/")
    with pytest.raises(bp.CacheError, match="was replaced after it was opened"):
        features.features[:]


def test_a_reader_that_a_writer_overtakes_begins_again(folder, monkeypatch):
    """It read the old manifest, and what that lists was removed before it could open it."""
    from bottleneck_probe.cache.directory import reading

    real, calls = reading.load, []

    def load(storage):
        found = real(storage)
        calls.append(found)
        if len(calls) == 1:
            other = bp.Features.from_arrays(np.ones((3, D)), None, ["a", "b", "c"])
            other.save(f"{folder}/")
        return found

    monkeypatch.setattr(reading, "load", load)
    assert bp.open(folder).paths.tolist() == ["a", "b", "c"]
    assert len(calls) == 2


def test_a_subset_and_a_copy(folder, tmp_path):
    features = bp.open(folder)
    picked = features.subset([30, 2, 11])
    assert picked.paths.tolist() == ["030", "002", "011"]
    np.testing.assert_array_equal(picked.features[:], features.features[:][[30, 2, 11]])
    picked.save(tmp_path / "some.h5")
    picked.save(f"{tmp_path / 'some'}/")
    one, many = bp.open(tmp_path / "some.h5"), bp.open(tmp_path / "some")
    np.testing.assert_array_equal(one.features[:], many.features[:])
    assert one.paths.tolist() == many.paths.tolist() == ["002", "011", "030"]
    with pytest.raises(bp.InputError, match="other files"):
        picked.save(f"{tmp_path}/")
