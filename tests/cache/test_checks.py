import errno
import io
import subprocess
import sys

import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import checks
from bottleneck_probe.cache.array import FeatureArray
from bottleneck_probe.cache.checks import opened
from bottleneck_probe.cache.format import read
from bottleneck_probe.errors import CacheError


def replace(h5, name, data=None, **options):
    del h5[name]
    return h5.create_dataset(name, data=data, **options)


def soft(h5, folder):
    del h5["keys"]
    h5["keys"] = h5py.SoftLink("/labels")


def outside(h5, folder):
    with h5py.File(folder / "secret.h5", "w") as secret:
        secret["keys"] = np.zeros((10, 32), np.uint8)
    del h5["keys"]
    h5["keys"] = h5py.ExternalLink("secret.h5", "keys")


def hidden_outside(h5, folder):
    h5.create_group("later")["x"] = h5py.ExternalLink("secret.h5", "keys")


def external_storage(h5, folder):
    (folder / "secret.txt").write_bytes(b"s" * 320)
    name = str(folder / "secret.txt")
    replace(h5, "keys", None, shape=(10, 32), dtype="u1", external=[(name, 0, 320)])


def virtual(h5, folder):
    layout = h5py.VirtualLayout((10, 32), np.uint8)
    layout[:] = h5py.VirtualSource(str(folder / "secret.h5"), "keys", (10, 32))
    del h5["keys"]
    h5.create_virtual_dataset("keys", layout)


def unknown_filter(h5, folder):
    del h5["keys"]
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((10, 32))
    creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((10, 32))
    h5py.h5d.create(h5.id, b"keys", h5py.h5t.STD_U8LE, space, creation)


def huge(h5, folder):
    replace(h5, "keys", None, shape=(10**14, 50), dtype="u1", chunks=(1, 50), compression="gzip")


def huge_plain(h5, folder):
    replace(h5, "features", None, shape=(10**6, 1000), dtype="f4")


def never_written(h5, folder):
    replace(h5, "labels", None, shape=(10,), dtype="i4")


def chunk_missing(h5, folder):
    replace(h5, "keys", None, shape=(10, 32), dtype="u1", chunks=(5, 32))[:5] = 1


def twice(h5, folder):
    h5["copy"] = h5["keys"]


def loop(h5, folder):
    h5.create_group("a")["b"] = h5["/"]


def no_shape(h5, folder):
    replace(h5, "labels", h5py.Empty("i4"))


def deep(h5, folder):
    h5.create_group("/".join("abcdefghijklmnop"))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (soft, "keys points outside"),
        (outside, "keys points outside"),
        (hidden_outside, "later/x points outside"),
        (external_storage, "keys points outside"),
        (virtual, "keys is virtual"),
        (unknown_filter, "filter 32015"),
        (huge, r"declares 5\.0 PB in a file of"),
        (huge_plain, "declares 4.0 GB in a file of"),
        (never_written, "never written in full"),
        (chunk_missing, "never written in full"),
        (twice, "stands twice"),
        (loop, "stands twice"),
        (no_shape, "labels has no shape"),
        (deep, "nested over"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_hostile_file_is_refused_before_a_value_is_read(written, tmp_path, break_it, words):
    path, _, _ = written()
    with h5py.File(path, "r+") as h5:
        break_it(h5, tmp_path)
    with pytest.raises(CacheError, match=words):
        read(path)  # a child says so
    with pytest.raises(CacheError, match=words), opened(path, vouched=True):
        pass  # and without one it is looked at here


@pytest.mark.parametrize(
    "options", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf"}, {"fletcher32": 1}]
)
def test_filters_that_every_hdf5_has_are_read(written, options):
    path, _, rows = written()
    with h5py.File(path, "r+") as h5:
        replace(h5, "keys", rows.keys, **options)
    np.testing.assert_array_equal(read(path)[1].keys, rows.keys)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"path,label\na,b\n", "not an HDF5 file"),
        ((80).to_bytes(8, "little") + b'{"__metadata__":{}}', "is a probe"),
    ],
)
def test_another_kind_of_file_is_named(tmp_path, content, words):
    path = tmp_path / "x.h5"
    path.write_bytes(content)
    with pytest.raises(CacheError, match=words):
        read(path)


def test_a_folder_is_named(tmp_path):
    with pytest.raises(CacheError, match="is a folder"):
        read(tmp_path)


def test_a_file_cut_anywhere_is_refused(written):
    """A download that broke off: HDF5 notices it, and the message is ours."""
    path, _, _ = written()
    whole = path.read_bytes()
    for length in [*range(1, 200, 13), *range(200, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CacheError, match=r"damaged|not an HDF5"):
            read(path)


def test_a_lock_of_another_program_does_not_keep_from_reading(written):
    """On network disks locking fails, or a viewer holds the file; it never changes in place."""
    pytest.importorskip("fcntl")
    path, _, rows = written()
    code = f"""
import fcntl, sys
file = open({str(path)!r}, "rb")
fcntl.flock(file, fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout.readline() == b"locked\n"
        assert read(path)[1].paths == rows.paths
        with opened(path) as h5:
            assert h5["features"].shape == (10, 8)
        child.stdin.close()


@pytest.mark.parametrize("value", ["TRUE", "FALSE", "BEST_EFFORT"])
def test_every_setting_of_hdf5_locking_reads(written, value):
    path, _, _ = written()
    code = f"import bottleneck_probe as bp; print(bp.open({str(path)!r}).features[:].shape)"
    environment = {**__import__("os").environ, "HDF5_USE_FILE_LOCKING": value}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == "(10, 8)", done.stderr


def test_a_flipped_byte_anywhere_is_found_or_changes_nothing(written):
    """Values are covered by checksums, HDF5's own structures by the checks; padding is free."""
    path, X, rows = written()
    whole = path.read_bytes()
    found = 0
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(whole), 400):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            header, table, stored = read(path)
            features = FeatureArray(stored)[:]
        except CacheError:
            found += 1
            continue
        np.testing.assert_array_equal(features, X)
        assert (table.paths, table.splits, table.classes) == (rows.paths, rows.splits, rows.classes)
        assert table.meta["folder"] == rows.meta["folder"]
        np.testing.assert_array_equal(table.labels, rows.labels)
        assert header.root == "/data/ants"
    assert found > 50


class Disk(io.FileIO):
    """A file whose reads fail from some point on, as on a disk that is about to die."""

    left = 10**9

    def _count(self):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.EIO, "Input/output error")

    def read(self, size=-1, /):
        self._count()
        return super().read(size)

    def readinto(self, buffer, /):
        self._count()
        return super().readinto(buffer)


@pytest.mark.parametrize("vouched", [False, True], ids=["its digest first", "at once"])
def test_a_disk_that_fails_at_any_read_is_not_called_a_damaged_file(written, monkeypatch, vouched):
    path, X, _ = written()
    for reads in range(1000):
        monkeypatch.setattr(checks, "_whole", type(checks._whole)())
        disk = Disk(path)
        disk.left = reads
        monkeypatch.setattr(checks, "open_regular", lambda path, disk=disk: disk)
        told = None
        try:
            with opened(path, vouched=vouched) as h5:
                np.testing.assert_array_equal(h5["features"][:], X)
        except CacheError as error:
            told = error
        if told is None:
            break
        assert told.what == f"{path} cannot be read: Input/output error (EIO)"
        assert told.next == "check the disk (dmesg, SMART)"
    assert 5 < reads < 1000


def test_an_address_that_no_file_has_is_damage_and_not_the_disk_s_fault(tmp_path):
    """HDF5 seeks to whatever a damaged file says."""
    path = tmp_path / "x.h5"
    path.write_bytes(b"x" * 100)
    with (
        pytest.raises(CacheError, match=r"x\.h5 is damaged: HDF5 cannot read it .*nvalid arg"),
        checks.explained(path),
        path.open("rb", buffering=0) as file,
    ):
        file.seek(-1)


def test_of_files_that_were_found_whole_only_the_latest_are_remembered(written, monkeypatch):
    monkeypatch.setattr(checks, "_whole", type(checks._whole)())
    monkeypatch.setattr(checks, "_MOST_KNOWN", 2)
    looked = []
    real = checks.trailer.require_equal
    monkeypatch.setattr(
        checks.trailer,
        "require_equal",
        lambda file, end, path: (looked.append(path.stem), real(file, end, path)),
    )
    paths = {name: written(name=f"{name}.h5")[0] for name in "abc"}
    looked.clear()
    checks._whole.clear()
    for name in "aababcbca":
        with opened(paths[name]) as h5:
            assert h5["features"].shape == (10, 8)
    assert looked == ["a", "b", "c", "a"]
    assert len(checks._whole) == 2
