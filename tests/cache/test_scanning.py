"""Blocks that are not what was written are found, however the dataset lies in the file."""

import os

import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import checksums, scanning
from bottleneck_probe.cache.scanning import scan


@pytest.fixture(params=["contiguous", "gzip", "big-endian", "userblock"])
def stored(request, tmp_path, features):
    """A dataset of 1,000 rows in blocks of 64, its digests, and where the file is."""
    values = features(1000, 16)
    path = tmp_path / "x.h5"
    kind = request.param
    options = {"chunks": (100, 16), "compression": "gzip"} if kind == "gzip" else {}
    dtype = ">f4" if kind == "big-endian" else "<f4"
    with h5py.File(path, "w", userblock_size=512 if kind == "userblock" else 0) as h5:
        h5.create_dataset("features", data=values.astype(dtype), **options)
    return path, values, checksums.digests(values, 64)


def look(path, digests, **options):
    told = []
    with h5py.File(path) as h5:
        found = scan(h5, "features", path, digests, 64, tell=told.append, **options)
    assert sum(told) == found.n_bytes == 1000 * 16 * 4
    return found


@pytest.mark.parametrize("span", [4 << 20, 64 * 64, 1])
def test_every_block_is_compared(stored, span, monkeypatch):
    monkeypatch.setattr(scanning, "SPAN_BYTES", span)
    path, _, digests = stored
    assert look(path, digests).bad == []
    wrong = digests.copy()
    wrong[[0, 7, 8, 15], 5] ^= 1
    found = look(path, wrong)
    assert found.bad == [0, 7, 8, 15]
    assert found.bad_ranges() == [(0, 63), (448, 575), (960, 999)]
    assert found.vouched
    assert found.unreadable == []
    good = found.good_rows()
    assert len(good) == 1000
    assert np.flatnonzero(~good).tolist() == [*range(64), *range(448, 576), *range(960, 1000)]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["<f4", "<f2"])
def test_what_is_no_number_is_found_by_row(tmp_path, features, value, dtype):
    values = features(1000, 16).astype(dtype)
    values[[3, 64, 999], [0, 15, 7]] = value
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as h5:
        h5["features"] = values
    with h5py.File(path) as h5:
        digests = checksums.digests(values, 64).copy()
        found = scan(h5, "features", path, digests, 64, finite=True)
        assert found.not_finite == [3, 64, 999]
        digests[1] ^= 1  # of a damaged block it is enough to say that it is damaged
        found = scan(h5, "features", path, digests, 64, finite=True)
        assert (found.bad, found.not_finite) == ([1], [3, 999])
        assert np.flatnonzero(~found.good_rows()).tolist() == [3, *range(64, 128), 999]


def test_large_finite_numbers_are_numbers(tmp_path):
    """Their sum is infinite, which only makes the look closer."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as h5:
        h5["features"] = np.full((100, 4), 3e38, np.float32)
    with h5py.File(path) as h5:
        assert scan(h5, "features", path, None, 64, finite=True).not_finite == []


def test_texts_are_compared_and_missing_digests_are_told(tmp_path):
    path = tmp_path / "x.h5"
    texts = [f"ants/{i}".encode() for i in range(10)]
    with h5py.File(path, "w") as h5:
        h5.create_dataset("paths", data=texts, dtype=h5py.string_dtype())
    digests = checksums.digests(texts, 4).copy()
    with h5py.File(path) as h5:
        assert scan(h5, "paths", path, digests, 4).bad == []
        digests[2] ^= 1
        assert scan(h5, "paths", path, digests, 4).bad_ranges() == [(8, 9)]
        assert "3 checksums" in scan(h5, "paths", path, digests, 5).fault
        found = scan(h5, "paths", path, None, 4)
        assert (found.vouched, found.fault) == (False, "")


def test_a_part_that_cannot_be_read_loses_its_blocks_alone(tmp_path, features, monkeypatch):
    values = features(1000, 16)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as h5:
        h5["features"] = values
    with h5py.File(path) as h5:
        offset = h5["features"].id.get_offset()
        bad_bytes = range(offset + 70 * 64, offset + 71 * 64)  # row 70

        class Disk:
            def __init__(self):
                self.file = open(path, "rb", buffering=0)  # noqa: SIM115
                self.at = 0

            def seek(self, at):
                self.at = at
                self.file.seek(at)

            def readinto(self, view):
                if self.at < bad_bytes.stop and self.at + len(view) > bad_bytes.start:
                    raise OSError(5, "Input/output error")
                return self.file.readinto(view)

            def close(self):
                self.file.close()

        monkeypatch.setattr(type(path), "open", lambda *a, **k: Disk())
        found = scan(h5, "features", path, checksums.digests(values, 64), 64)
    assert found.bad == found.unreadable == [1]


def test_runs_of_numbers():
    assert scanning.runs([]) == []
    assert scanning.runs([5]) == [(5, 5)]
    assert scanning.runs([0, 1, 3, 4, 5]) == [(0, 1), (3, 5)]


def test_of_a_dataset_that_could_not_be_looked_at_no_row_is_good():
    assert scanning.Scan("keys", 5, 2).good_rows().tolist() == [True] * 5
    assert scanning.Scan("keys", 5, 2, fault="HDF5 crashed").good_rows().tolist() == [False] * 5


def test_a_file_that_ends_too_soon_loses_the_blocks_behind_its_end(tmp_path, features):
    values = features(1000, 16)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as h5:
        h5["features"] = values
    with h5py.File(path) as h5:
        with path.open("r+b") as file:  # another program, meanwhile
            file.truncate(h5["features"].id.get_offset() + 640 * 64 + 63)
        found = scan(h5, "features", path, checksums.digests(values, 64), 64, finite=True)
    assert found.bad == found.unreadable == [*range(10, 16)]
    assert found.bad_ranges() == [(640, 999)]
    assert found.not_finite == []


@pytest.mark.parametrize("broken", [1, None])
def test_a_chunk_that_cannot_be_unpacked_loses_its_blocks_alone(tmp_path, features, broken):
    """With or without somebody who is told how far it is."""
    values = features(1000, 16)
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as h5:
        found = h5.create_dataset("features", data=values, chunks=(128, 16), compression="gzip")
        place = found.id.get_chunk_info(1).byte_offset
    if broken is not None:
        data = bytearray(path.read_bytes())
        data[place : place + 8] = b"\xff" * 8
        path.write_bytes(data)
    told = []
    for tell in (None, told.append):
        with h5py.File(path) as h5:
            digests = checksums.digests(values, 64)
            found = scan(h5, "features", path, digests, 64, finite=True, tell=tell)
        assert found.bad == found.unreadable == ([2, 3] if broken else [])
        assert found.bad_ranges() == ([(128, 255)] if broken else [])
    assert sum(told) == 1000 * 16 * 4


@pytest.mark.parametrize("cores", [6, None])
def test_systems_that_do_not_tell_whose_cores_they_are_tell_how_many(monkeypatch, cores):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert scanning._cores() == (cores or 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3}, raising=False)
    assert scanning._cores() == 2
