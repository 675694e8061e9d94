"""Checksums that are not what the specification says are damage, and never a reason to skip them."""

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import checks, checksums, verify
from bottleneck_probe.errors import CacheError


@pytest.fixture(autouse=True)
def _opened_here(monkeypatch):
    """HDF5 has no trouble with any of these files."""
    monkeypatch.setattr(checks.child, "require_survived", lambda *arguments: None)


def changed(path, name, values, rows):
    """The file with other checksums, which do not contradict each other."""
    with h5py.File(path, "r+") as h5:
        group = h5["checksums"]
        del group[name]
        group[name] = values
        if rows is not None:
            group[name].attrs["rows"] = rows
        found: dict[str, np.ndarray] = {}
        group.visititems(
            lambda name, item: found.update({name: item[()]}) if hasattr(item, "shape") else None
        )
        group.attrs["content"] = checksums.content(found)
        group.attrs["content_without_stat"] = checksums.content_without_stat(found)


SUMS = np.zeros((1, 32), np.uint8)


@pytest.mark.parametrize(
    ("values", "rows", "words"),
    [
        (SUMS.astype(np.int32), 4096, r"checksums/keys is no \(m, 32\) uint8"),
        (SUMS[0], 4096, r"checksums/keys is no \(m, 32\) uint8"),
        (SUMS[:, :31], 4096, r"checksums/keys is no \(m, 32\) uint8"),
        (SUMS, None, "checksums/keys does not say of how many rows each is"),
        (SUMS, "4096", "checksums/keys does not say of how many rows each is"),
        (SUMS, 4096.0, "checksums/keys does not say of how many rows each is"),
        (SUMS, [4096], "checksums/keys does not say of how many rows each is"),
        (SUMS, 4096, "keys, rows 0 to 4095, differ from their checksum"),
        (SUMS, -1, "it has 1 checksums of keys, of 10 blocks"),
        (SUMS, 3, "it has 1 checksums of keys, of 4 blocks"),
        (SUMS[:0], 4096, "it has 0 checksums of keys, of 1 blocks"),
    ],
)
def test_odd_checksums_are_told(written, values, rows, words):
    path, _, _ = written()
    changed(path, "keys", values, rows)
    with pytest.raises(CacheError, match=f"is damaged: {words}") as caught:
        bp.open(path)
    assert str(path) in caught.value.where
    assert caught.value.next == verify.mended(path)
