import errno
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from bottleneck_probe.cache import checks, shards
from bottleneck_probe.cache import sealed as sealed_shards
from bottleneck_probe.cache.shards import Shards, discard, discard_all, load, load_all, take
from bottleneck_probe.errors import CacheError
from hypothesis import given, settings
from hypothesis import strategies as st

FINGERPRINT = "ab" * 32


def keys(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, 32), np.uint8)


def some(n, d=4, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def sealed(folder, n=10, d=4, seed=0, fingerprint=FINGERPRINT):
    writer = Shards(folder, fingerprint, recipe={"backbone": "x"}, environment={"engine": "onnx"})
    writer.append(keys(n, seed), some(n, d, seed))
    return writer.seal()


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(1, 5), st.randoms())
def test_every_sealed_row_is_found_under_its_key(tmp_path_factory, sizes, d, random):
    folder = tmp_path_factory.mktemp("parts") / "x.h5.parts"
    writer = Shards(folder, FINGERPRINT)
    known = {}
    for seed, n in enumerate(sizes):
        writer.append(keys(n, seed), some(n, d, seed))
        known.update({k.tobytes(): f for k, f in zip(keys(n, seed), some(n, d, seed), strict=True)})
        if random.random() < 0.5:
            writer.seal()
    writer.seal()
    index, notes = load(folder, FINGERPRINT)
    assert notes == []
    assert set(index) == set(known)
    wanted = [key for key in known for _ in range(2)]
    random.shuffle(wanted)
    if wanted:
        np.testing.assert_array_equal(take(index, wanted), [known[key] for key in wanted])


def test_a_shard_is_sealed_5_s_after_its_first_row_whatever_the_clock_does(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: 0.0)
    writer = Shards(tmp_path / "parts", FINGERPRINT)
    now[0] += 3600  # nothing waits yet, so nothing is late
    assert writer.append(keys(1), some(1)) is None
    now[0] += 4.9
    assert writer.append(keys(1, 1), some(1)) is None
    assert writer.seal_if_due() is None
    now[0] += 0.2
    assert writer.seal_if_due() is not None
    assert writer.seal_if_due() is None
    assert len(load(tmp_path / "parts", FINGERPRINT)[0]) == 2


def test_a_shard_is_sealed_at_64_mb(tmp_path, monkeypatch):
    assert shards.SEAL_AT_BYTES == 64 << 20
    monkeypatch.setattr(shards, "SEAL_AT_BYTES", 1000)
    writer = Shards(tmp_path, FINGERPRINT)
    assert writer.append(keys(10), some(10)) is None  # 480 bytes
    assert writer.append(keys(10, 1), some(10)) is None
    assert writer.append(keys(10, 2), some(10)) is not None


def test_the_caller_may_use_its_arrays_again(tmp_path):
    writer = Shards(tmp_path, FINGERPRINT)
    batch, names = some(3), keys(3)
    writer.append(names, batch)
    batch[:], names[:] = 0, 0
    writer.seal()
    index, _ = load(tmp_path, FINGERPRINT)
    np.testing.assert_array_equal(take(index, [key.tobytes() for key in keys(3)]), some(3))


def test_nothing_appended_is_nothing_sealed(tmp_path):
    writer = Shards(tmp_path / "parts", FINGERPRINT)
    writer.append(keys(0), some(0))
    assert writer.seal() is None
    assert not (tmp_path / "parts").exists()
    index, notes = load(tmp_path / "parts", FINGERPRINT)
    assert (list(index), len(index), notes) == ([], 0, [])


def test_a_shard_cut_at_any_length_is_set_aside_and_told(tmp_path):
    """What a power cut leaves: some prefix of the content, or its length filled with zeros."""
    whole = sealed(tmp_path).read_bytes()
    lengths = {0, 1, 7, 8, 9, 511, 512, 513, len(whole) // 2, len(whole) - 1}
    lengths |= set(range(0, len(whole), 331))
    for length in sorted(lengths):
        for tail in {b"", bytes(len(whole) - length)}:
            for old in tmp_path.iterdir():
                old.unlink()
            path = sealed(tmp_path)
            sealed(tmp_path, seed=1)
            torn = whole[:length] + tail
            if torn == whole:
                continue
            path.write_bytes(torn)
            index, notes = load(tmp_path, FINGERPRINT)
            assert set(index) == {key.tobytes() for key in keys(10, 1)}
            assert len(notes) == 1
            assert path.stem in notes[0]
            assert "set aside" in notes[0]
            assert not path.exists()
            assert path.with_suffix(".bad").exists()
            assert load(tmp_path, FINGERPRINT)[1] == []


def test_one_flipped_bit_is_enough(tmp_path):
    path = sealed(tmp_path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 4
    path.write_bytes(data)
    index, notes = load(tmp_path, FINGERPRINT)
    assert len(index) == 0
    assert "content" in notes[0]


def test_shards_of_another_recipe_are_named_and_never_merged(tmp_path):
    sealed(tmp_path)
    other = sealed(tmp_path, n=7, seed=1, fingerprint="cd" * 32)
    index, notes = load(tmp_path, FINGERPRINT)
    assert set(index) == {key.tobytes() for key in keys(10)}
    assert notes == [
        f"{tmp_path} also holds 7 finished rows of recipe cdcdcd, not of ababab; they are not used"
    ]
    assert other.exists()


def test_the_outputs_of_one_run_lie_side_by_side(tmp_path, monkeypatch):
    """One folder, a fingerprint for each output; every file is hashed once, none is foreign."""
    first, second, third = ("ab" * 32, "cd" * 32, "ef" * 32)
    sealed(tmp_path, fingerprint=first)
    sealed(tmp_path, d=2, seed=1, fingerprint=second)
    sealed(tmp_path, d=2, seed=2, fingerprint=second)
    hashed = []
    torn = sealed_shards.why_torn
    monkeypatch.setattr(sealed_shards, "why_torn", lambda path: hashed.append(path) or torn(path))
    found, notes = load_all(tmp_path, [first, second, third])
    assert notes == []
    assert len(hashed) == len(set(hashed)) == 3
    assert list(found) == [first, second, third]
    assert set(found[first]) == {key.tobytes() for key in keys(10)}
    assert set(found[second]) == {key.tobytes() for seed in (1, 2) for key in keys(10, seed)}
    assert len(found[third]) == 0
    wanted = [key.tobytes() for key in keys(10, 2)]
    np.testing.assert_array_equal(take(found[second], wanted), some(10, 2, 2))
    index, notes = load(tmp_path, first, siblings=[second])
    assert notes == []
    assert set(index) == set(found[first])
    other = load_all(tmp_path, [first, third])[1]
    assert other == [
        f"{tmp_path} also holds 20 finished rows of recipe cdcdcd, not of ababab or efefef; "
        "they are not used"
    ]
    assert "not of ababab;" in load(tmp_path, first, siblings=[third])[1][0]


def test_a_key_has_a_feature_for_each_output(tmp_path):
    first, second = "ab" * 32, "cd" * 32
    writers = [Shards(tmp_path, name) for name in (first, second)]
    for d, writer in enumerate(writers, start=1):
        writer.append(keys(5), some(5, d, d))
        writer.seal()
    found, _ = load_all(tmp_path, [first, second])
    wanted = [key.tobytes() for key in keys(5)]
    for d, name in enumerate((first, second), start=1):
        np.testing.assert_array_equal(take(found[name], wanted), some(5, d, d))


def test_all_outputs_are_discarded_together_and_nothing_else(tmp_path):
    parts = tmp_path / "x.h5.parts"
    names = ["ab" * 32, "cd" * 32, "ef" * 32]
    files = [sealed(parts, seed=seed, fingerprint=name) for seed, name in enumerate(names)]
    discard_all(parts, names[:2])
    assert list(parts.iterdir()) == files[2:]
    discard_all(parts, names)
    assert not parts.exists()
    discard_all(parts, names)


@pytest.mark.parametrize(
    "change",
    [
        lambda h5: h5.__delitem__("features"),
        lambda h5: h5.attrs.__delitem__("fingerprint"),
        lambda h5: h5.attrs.__setitem__("recipe", "{"),
        lambda h5: (h5.__delitem__("keys"), h5.create_dataset("keys", data=keys(9))),
        lambda h5: (h5.__delitem__("keys"), h5.create_dataset("keys", data=some(10, 32))),
        lambda h5: (h5.__delitem__("features"), h5.create_dataset("features", data=some(10)[0])),
        lambda h5: h5.create_dataset("phash", data=np.zeros(9, np.uint64)),
        lambda h5: h5.create_dataset("phash", data=np.zeros(10, np.int64)),
    ],
    ids=["features", "fingerprint", "recipe", "rows", "type", "axes", "hashes", "type of hashes"],
)
def test_a_shard_that_lacks_something_is_set_aside_though_its_name_is_right(tmp_path, change):
    import h5py

    path = sealed(tmp_path)
    with h5py.File(path, "r+") as h5:
        change(h5)
    path.rename(tmp_path / f"{sealed_shards.name_of(path.read_bytes())}.h5")
    index, notes = load(tmp_path, FINGERPRINT)
    assert len(index) == 0
    assert len(notes) == 1
    assert "set aside" in notes[0]


def test_a_shard_tells_the_recipe_and_environment_of_its_run(tmp_path):
    sealed(tmp_path)
    (shard,) = load(tmp_path, FINGERPRINT)[0].shards
    assert shard.recipe == {"backbone": "x"}
    assert shard.environment == {"engine": "onnx"}


def test_a_file_that_is_no_shard_is_set_aside(tmp_path, written):
    from blake3 import blake3

    data = written()[0].read_bytes()
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / f"{blake3(data).hexdigest()[:32]}.h5").write_bytes(data)
    index, notes = load(tmp_path / "parts", FINGERPRINT)
    assert len(index) == 0
    assert "not a shard" in notes[0]


def test_discard_removes_what_was_published_and_nothing_of_another_run(tmp_path):
    parts = tmp_path / "x.h5.parts"
    sealed(parts)
    other = sealed(parts, seed=1, fingerprint="cd" * 32)
    discard(parts, FINGERPRINT)
    assert list(parts.iterdir()) == [other]
    Shards(parts, "cd" * 32).discard()
    assert not parts.exists()
    discard(parts, FINGERPRINT)


def test_discard_takes_torn_and_temporary_files_with_it(tmp_path):
    parts = tmp_path / "x.h5.parts"
    sealed(parts)
    (parts / ".0123-4567.tmp").write_bytes(b"half")
    (parts / "0123.bad").write_bytes(b"")
    discard(parts, FINGERPRINT)
    assert not parts.exists()


def test_rows_that_could_not_be_sealed_are_sealed_by_the_next_try(tmp_path, monkeypatch):
    writer = Shards(tmp_path, FINGERPRINT)
    writer.append(keys(5), some(5))

    def fail(descriptor):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(CacheError, match="EIO"):
            writer.seal()
    assert list(tmp_path.iterdir()) == []
    writer.seal()
    assert len(load(tmp_path, FINGERPRINT)[0]) == 5


def test_a_disk_that_gives_back_other_bytes_is_noticed(tmp_path, monkeypatch):
    writer = Shards(tmp_path, FINGERPRINT)
    writer.append(keys(5), some(5))
    real = os.fsync

    def damaging(descriptor):
        real(descriptor)
        os.pwrite(descriptor, b"HDG", 1)

    monkeypatch.setattr(os, "fsync", damaging)
    with pytest.raises(CacheError, match="other bytes"):
        writer.seal()
    assert list(tmp_path.iterdir()) == []


def test_a_seal_syncs_twice_and_hashes_twice(tmp_path, monkeypatch):
    """The file and its folder; for the name, and to compare. More would cost without any use."""
    writer = Shards(tmp_path, FINGERPRINT)
    writer.append(keys(5), some(5))
    synced, hashed = [], []
    real, name_of, digest_of = os.fsync, shards.name_of, shards.digest_of
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(number) or real(number))
    monkeypatch.setattr(shards, "name_of", lambda data: hashed.append("name") or name_of(data))
    monkeypatch.setattr(shards, "digest_of", lambda file: hashed.append("read") or digest_of(file))
    writer.seal()
    assert len(synced) == 2
    assert hashed == ["name", "read"]


def test_a_shard_that_cannot_be_read_stays_and_the_error_is_named(tmp_path, monkeypatch):
    """A disk that fails for a moment must not cost finished work, nor be called a damaged file."""
    path = sealed(tmp_path)
    broken = OSError(errno.EIO, "Input/output error")

    def unreadable(where, *args, **options):
        raise broken

    for place, name in ((sealed_shards, "open_regular"), (checks, "_hdf5")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, unreadable)
            with pytest.raises(
                CacheError, match=r"not be read: .*EIO|cannot be read: .*EIO"
            ) as told:
                load(tmp_path, FINGERPRINT)
            assert "damaged" not in str(told.value)
        assert path.exists()
    assert len(load(tmp_path, FINGERPRINT)[0]) == 10


def test_a_disk_that_fails_while_features_are_taken_is_named(tmp_path, monkeypatch):
    sealed(tmp_path)
    index, _ = load(tmp_path, FINGERPRINT)

    def unreadable(*args, **options):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(checks, "_hdf5", unreadable)
    with pytest.raises(CacheError, match="EIO") as told:
        take(index, list(index))
    assert "damaged" not in str(told.value)


def test_a_shard_that_cannot_be_read_is_not_discarded(tmp_path, monkeypatch):
    """It may be finished work of another run; what is torn goes."""
    parts = tmp_path / "x.h5.parts"
    sealed(parts)
    other = sealed(parts, seed=1, fingerprint="cd" * 32)
    torn = parts / f"{'0' * 32}.h5"
    torn.write_bytes(b"no shard")
    real = checks._hdf5

    def unreadable(file):
        if os.fstat(file.fileno()).st_ino == other.stat().st_ino:
            raise OSError(errno.EIO, "Input/output error")
        return real(file)

    with monkeypatch.context() as patch:
        patch.setattr(checks, "_hdf5", unreadable)
        discard(parts, FINGERPRINT)
    assert list(parts.iterdir()) == [other]
    assert len(load(parts, "cd" * 32)[0]) == 10


def test_a_mistake_of_the_caller_is_not_sealed(tmp_path):
    writer = Shards(tmp_path, FINGERPRINT)
    with pytest.raises(ValueError, match="2 keys for 3 rows"):
        writer.append(keys(2), some(3))
    writer.append(keys(2), some(2))
    with pytest.raises(ValueError, match="length 5 after 4"):
        writer.append(keys(1, 1), some(1, 5))
    writer.seal()
    index, _ = load(tmp_path, FINGERPRINT)
    assert set(index) == {key.tobytes() for key in keys(2)}
    with pytest.raises(KeyError):
        take(index, keys(3)[1:])
    (shard,) = index.shards
    assert shard.take([]).shape == (0, 4)


def test_shards_of_one_recipe_and_of_different_length_are_never_mixed(tmp_path):
    sealed(tmp_path)
    sealed(tmp_path, d=5, seed=1)
    index, _ = load(tmp_path, FINGERPRINT)
    np.testing.assert_array_equal(take(index, keys(10, 1)), some(10, 5, 1))
    with pytest.raises(CacheError, match="features of different length") as caught:
        take(index, list(index))
    assert all(str(shard.path) in caught.value.where for shard in index.shards)


def test_where_the_system_cannot_be_told_to_forget_a_shard_is_read_back_all_the_same(
    tmp_path, monkeypatch
):
    monkeypatch.delattr(os, "posix_fadvise", raising=False)  # as on Windows and macOS
    assert len(load(sealed(tmp_path).parent, FINGERPRINT)[0]) == 10
    monkeypatch.setattr(shards, "digest_of", lambda file: b"other bytes")
    with pytest.raises(CacheError, match="other bytes"):
        sealed(tmp_path, seed=1)


def test_killed_at_any_moment_every_shard_that_is_there_is_whole(tmp_path):
    """A child seals as fast as it can; after SIGKILL all it left has the content of its name."""
    code = f"""
import numpy as np
from bottleneck_probe.cache.shards import Shards
rng = np.random.default_rng()
writer = Shards({str(tmp_path)!r}, {FINGERPRINT!r})
while True:
    writer.append(rng.integers(0, 256, (50, 32), np.uint8), rng.random((50, 64), np.float32))
    writer.seal()
    print("sealed", flush=True)
"""
    count = 0
    for wait_s in (0.0, 0.003, 0.011, 0.02):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
            child.stdout.readline()
            time.sleep(wait_s)
            child.kill()
            told = 1 + child.stdout.read().count(b"sealed")
        count += told
        index, notes = load(tmp_path, FINGERPRINT)
        assert notes == []
        assert len(index) >= 50 * count
        count = len(index) // 50
