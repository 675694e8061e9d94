"""The digest at the end of a feature file, from the specification; and what it finds."""

import json
import os
import shutil

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import checks, child, trailer
from bottleneck_probe.cache.descriptor import Descriptor
from bottleneck_probe.errors import CacheError
from bottleneck_probe.recipe import canonical_json
from common import flip


@pytest.fixture
def no_child(monkeypatch):
    """Fails the test if a file is tried in another process."""

    def refuse(*args, **kwargs):
        raise AssertionError("a child was started")

    monkeypatch.setattr(child, "require_survived", refuse)


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(checks, "_whole", type(checks._whole)())


def parts(path):
    """HDF5's part and the trailer, by hand."""
    data = path.read_bytes()
    assert data.endswith(b"\x89BPT\r\n\x1a\n")
    size = int.from_bytes(data[-16:-8], "little")
    return data[: -16 - size], json.loads(data[-16 - size : -16])


def test_the_trailer_is_what_the_specification_says(layered, no_child):
    path, values, _ = layered()
    hdf5, told = parts(path)
    assert told["version"] == 1
    assert told["hdf5_bytes"] == len(hdf5)
    names = {"penultimate:none": "features", "layer3:avg": "layers/layer3:avg"}
    for output, name in names.items():
        start, stop = told["raw"][name]
        assert hdf5[start:stop] == values[output].tobytes()
    covered, place = blake3(), 0
    for start, stop in sorted(told["raw"].values()):
        covered.update(hdf5[place:start])
        place = stop
    covered.update(hdf5[place:])
    said = told.pop("blake3")
    covered.update(canonical_json(told))
    assert covered.hexdigest() == said
    assert len(told["raw"]) == 4
    np.testing.assert_array_equal(bp.open(path).features, values["penultimate:none"])


def test_hdf5_alone_reads_the_file_and_cuts_the_trailer_off_when_it_writes(written):
    path, X, _ = written()
    length = path.stat().st_size
    with h5py.File(path) as h5:
        np.testing.assert_array_equal(h5["features"][:], X)
    assert path.stat().st_size == length
    with h5py.File(path, "r+") as h5:
        h5.attrs["note"] = "mine"
    assert not path.read_bytes().endswith(trailer.MAGIC)
    np.testing.assert_array_equal(bp.open(path).features[:], X)


def test_any_changed_byte_outside_the_numbers_is_found_before_hdf5_reads(written, no_child):
    """Every byte that is not a raw feature, one after the other."""
    path, X, _ = written(n=3, d=4)
    whole = path.read_bytes()
    start, stop = parts(path)[1]["raw"]["features"]
    outside = [i for i in range(len(whole)) if not start <= i < stop]
    assert whole[start:stop] == X.tobytes()
    rng = np.random.default_rng(0)
    for place in sorted(rng.choice(outside, 700, replace=False).tolist()):
        data = bytearray(whole)
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(CacheError, match=r"damaged|not an HDF5|newer"), checks.opened(path):
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-3], "are no trailer of ours"),
        (lambda data: data + b"\0" * 9, "are no trailer of ours"),
        (lambda data: data[:-16] + (2**40).to_bytes(8, "little") + data[-8:], "impossible length"),
        (lambda data: data[:-16] + (0).to_bytes(8, "little") + data[-8:], "impossible length"),
        (lambda data: data[:-16] + (5).to_bytes(8, "little") + data[-8:], "cannot be read"),
        (lambda data: data.replace(b'"hdf5_bytes":', b'"hdf5_bytex":'), "cannot be read"),
        (lambda data: data[:1000] + data[1001:], "not about this file"),
        (lambda data: data[:700], "it was cut off after 700 of"),
        (lambda data: data[:63], "it was cut off after 63 bytes"),
        (lambda data: data[:8], "it was cut off after 8 bytes"),
    ],
    ids=range(10),
)
def test_what_is_wrong_with_the_end_is_told(written, no_child, change, words):
    path, _, _ = written()
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CacheError, match=words) as caught, checks.opened(path):
        pass
    assert caught.value.next


def signed(path, told):
    """The file with another trailer, whose digest is right for what it says."""
    hdf5, _ = parts(path)
    raw = {name: tuple(span) for name, span in told["raw"].items()}
    with path.open("r+b") as file:
        file.truncate(len(hdf5))
        file.seek(0)
        found = trailer._digest(file, trailer.Trailer(len(hdf5), raw, ""))
        file.seek(0, os.SEEK_END)
        text = canonical_json({**told, "blake3": found})
        file.write(text + len(text).to_bytes(8, "little") + trailer.MAGIC)


def test_a_trailer_that_leaves_out_more_than_the_numbers_is_refused(written, no_child):
    path, _, _ = written()
    _, told = parts(path)
    told.pop("blake3")
    signed(path, told)
    with checks.opened(path):
        pass  # signed as it was, it is good
    for raw in (
        {"features": [0, told["raw"]["features"][1]]},
        {**told["raw"], "keys": [2048, 2080]},
        {},
    ):
        signed(path, {**told, "raw": raw})
        with pytest.raises(CacheError, match=r"leaves out other bytes|not about"):
            checks.opened(path).__enter__()


def test_a_trailer_of_a_later_version_is_no_reason_to_refuse(written):
    path, X, _ = written()
    _, told = parts(path)
    told.pop("blake3")
    signed(path, {**told, "version": 2})
    np.testing.assert_array_equal(bp.open(path).features[:], X)


def test_a_damaged_number_of_a_feature_is_found_when_it_is_read(written, no_child):
    path, _, _ = written()
    start, _ = parts(path)[1]["raw"]["features"]
    data = bytearray(path.read_bytes())
    data[start] ^= 1
    path.write_bytes(data)
    found = bp.open(path)
    with pytest.raises(CacheError, match="features, rows 0 to 9, differ"):
        found.features[:]


def test_a_file_is_looked_at_once_and_again_when_it_was_replaced(written, tmp_path, monkeypatch):
    path, _, _ = written()
    other, _, _ = written(name="other.h5", seed=1)
    looked = []
    real = trailer.require_equal
    monkeypatch.setattr(
        trailer, "require_equal", lambda *args: (looked.append(args[2].name), real(*args))[1]
    )
    found = bp.open(path)
    for row in range(10):
        found.features[row]
    assert looked == ["ants.h5"]
    damaged = bytearray(other.read_bytes())
    damaged[700] ^= 1
    other.write_bytes(damaged)
    shutil.copy(other, tmp_path / "copy.h5")
    os.replace(tmp_path / "copy.h5", path)
    with pytest.raises(CacheError, match="damaged"):
        found.features[0]
    assert looked == ["ants.h5"] * 2


def test_numbers_that_do_not_lie_in_one_piece_are_covered(layered, no_child):
    """Of features in chunks, which a later version may write, each byte counts."""
    path, values, _ = layered()
    with h5py.File(path, "r+") as h5:
        del h5["features"]
        h5.create_dataset("features", data=values["penultimate:none"], chunks=(50, 8))
    with h5py.File(path) as h5:
        raw = trailer.raw_spans(h5)
        place = h5["features"].id.get_chunk_info(1).byte_offset
    assert len(raw) == 3
    assert "features" not in raw
    with Descriptor(os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))) as file:
        trailer.append(file, raw)
    np.testing.assert_array_equal(bp.open(path).features, values["penultimate:none"])
    flip(path, place + 3)
    with pytest.raises(CacheError, match="structure or columns differ"):
        checks.opened(path).__enter__()


def test_a_file_that_becomes_shorter_while_it_is_hashed_is_damaged(written):
    path, _, _ = written()
    with path.open("r+b") as file:
        end = trailer.read(file, path)
        trailer.require_equal(file, end, path)
        file.truncate(2000)
        with pytest.raises(CacheError, match="differ from the digest at its end"):
            trailer.require_equal(file, end, path)


@pytest.mark.parametrize("address_bytes", [4, 8])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_where_a_file_ends_is_taken_from_hdf5_where_it_says_so_plainly(
    tmp_path, address_bytes, libver
):
    """A file with addresses of another length is cut off all the same, and HDF5 says so."""
    path = tmp_path / "x.h5"
    creation = h5py.h5p.create(h5py.h5p.FILE_CREATE)
    creation.set_sizes(address_bytes, 8)
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    bounds = {"earliest": h5py.h5f.LIBVER_EARLIEST, "latest": h5py.h5f.LIBVER_LATEST}
    access.set_libver_bounds(bounds[libver], h5py.h5f.LIBVER_LATEST)
    opened = h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_TRUNC, creation, access)
    with h5py.File(opened) as h5:
        h5["keys"] = np.zeros((100, 32), np.uint8)
    with path.open("rb") as file:
        assert trailer.read(file, path) is None
    for change, words in (
        (path.read_bytes()[:-9], "was cut off after"),
        (path.read_bytes() + b"more", "its last 4 bytes are no trailer"),
    ):
        (tmp_path / "y.h5").write_bytes(change)
        with (tmp_path / "y.h5").open("rb") as file:
            if address_bytes == 8:
                with pytest.raises(CacheError, match=words):
                    trailer.read(file, path)
            else:
                assert trailer.read(file, path) is None
    whole = path.read_bytes()
    # Of a version that does not exist yet nobody knows where it says so.
    path.write_bytes(whole[:8] + b"\x63" + whole[9:])
    with path.open("rb") as file:
        assert trailer.read(file, path) is None
    path.write_bytes(whole[:-9])
    with pytest.raises(CacheError, match="damaged"), checks.opened(path, vouched=True):
        pass
