"""Perceptual hashes beside the features: once an image, kept through every way to a file."""

import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import shards
from bottleneck_probe.cache.features import open as open_features
from bottleneck_probe.cache.joining import join
from bottleneck_probe.extraction import hashes, pipeline, prepare
from bottleneck_probe.extraction.api import extract as extract_api
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.images.phash import phash
from bottleneck_probe.reporter import Silent
from PIL import Image


class Ears(Silent):
    """Keeps notes and warnings."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    warn = note


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "x.h5"


@pytest.fixture
def extract(calls, output):
    def extract_(images, ears=None, **options):
        calls.forwards = calls.started = 0
        stated = {"backbone": "stub", "engine": "eager", "batch_size": 2, **options}
        reporter = ears or Silent()
        return run(find_images(images), output=output, reporter=reporter, **stated)

    return extract_


@pytest.fixture
def pictures(tmp_path):
    """A folder of images that have some structure, two of them with the same bytes."""

    def make(n, first=0):
        root = tmp_path / "pictures"
        for i in range(first, first + n):
            pixels = np.random.default_rng(i).integers(0, 256, (6, 8, 3), np.uint8)
            file = root / ("ants", "bees")[i % 2] / f"{i:03d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((64, 48), Image.Resampling.BICUBIC).save(file)
        (root / "bees" / "copy.png").write_bytes((root / "ants" / "000.png").read_bytes())
        return root

    return make


def expected(root, features):
    images = [np.asarray(Image.open(root / path)) for path in features.paths]
    return [phash(image) for image in images]


def forget(output):
    """The file as an earlier version would have written it."""
    with h5py.File(output, "a") as h5:
        del h5["phash"]
        del h5["checksums/phash"]
        for name in ("content", "content_without_stat"):
            if name in h5["checksums"].attrs:
                del h5["checksums"].attrs[name]
        found = {}
        h5["checksums"].visititems(
            lambda name, each: (
                found.update({name: each[()]}) if isinstance(each, h5py.Dataset) else None
            )
        )
        from bottleneck_probe.cache import checksums

        h5["checksums"].attrs["content"] = checksums.content(found)
        h5["checksums"].attrs["content_without_stat"] = checksums.content_without_stat(found)


def test_each_row_has_the_hash_of_its_image(extract, pictures):
    root = pictures(7)
    features = extract(root).features
    assert features.phash.dtype == np.uint64
    assert features.phash.tolist() == expected(root, features)
    assert len(set(features.phash.tolist())) == 7  # the copy has that of its original
    again = extract(root)
    assert not again.written
    assert np.array_equal(again.features.phash, features.phash)


def test_it_is_computed_once_an_image_whatever_its_views(extract, pictures, monkeypatch):
    seen = []

    def count(pixels):
        seen.append(pixels.shape)
        return phash(pixels)

    monkeypatch.setattr(prepare, "phash", count)
    root = pictures(4)
    features = extract(root, framing="tiles:1x2").features
    assert len(seen) == 4  # of five files, two of which are one
    assert np.array_equal(features.phash[::2], features.phash[1::2])
    assert features.phash[::2].tolist() == expected(root, features)[::2]


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_neither_workers_nor_batches_change_it(extract, pictures, workers, batch_size):
    root = pictures(9)
    features = extract(root, workers=workers, batch_size=batch_size).features
    assert features.phash.tolist() == expected(root, features)


def test_images_in_memory_have_one(calls):
    images = [np.random.default_rng(i).integers(0, 256, (20, 30, 3), np.uint8) for i in range(4)]
    features = extract_api(images, backbone="stub", engine="eager", quiet=True)
    assert features.phash.tolist() == [phash(image) for image in images]


def test_rows_of_an_earlier_run_keep_theirs(extract, pictures, monkeypatch):
    root = pictures(6)
    first = extract(root).features
    before = dict(zip(first.paths, first.phash.tolist(), strict=True))
    monkeypatch.setattr(prepare, "phash", lambda pixels: 7)  # what is computed from here on
    pictures(2, first=6)
    features = extract(root, add=True).features
    (root / "ants" / "000.png").unlink()
    kept = extract(root, add=True).features
    for each in (features, kept):
        for path, value in zip(each.paths, each.phash.tolist(), strict=True):
            assert value == before.get(path, 7)
    assert len(kept) == 9


def test_an_interrupted_run_takes_them_from_its_shards(extract, calls, pictures, monkeypatch):
    monkeypatch.setattr(shards, "SEAL_AFTER_S", 0.0)
    root = pictures(9)

    def interrupt(seen):
        if seen.forwards == 3:
            raise KeyboardInterrupt

    calls.on_call = interrupt
    with pytest.raises(pipeline.Interrupted):
        extract(root)
    calls.on_call = None
    monkeypatch.setattr(prepare, "phash", lambda pixels: 7)
    features = extract(root).features
    own = [
        found == true for found, true in zip(features.phash, expected(root, features), strict=True)
    ]
    assert 2 <= sum(own) < 10
    assert set(features.phash[~np.array(own)].tolist()) <= {7}


def test_a_file_without_stays_as_it_is_until_rehash_adds_them(
    extract, calls, pictures, output, monkeypatch
):
    """Nothing is decoded again unasked, and with --rehash nothing goes through the network again."""
    root = pictures(6)
    extract(root)
    forget(output)
    ears = Ears()
    unchanged = extract(root, ears)
    assert unchanged.features.phash is None
    assert not unchanged.written
    assert not any("hash" in note for note in ears.notes)
    pictures(1, first=6)
    more = extract(root, ears)
    assert more.computed == 1
    assert more.features.phash is None
    (told,) = (note for note in ears.notes if "perceptual" in note)
    assert "7 of 8 images are from a version without perceptual hashes" in told
    assert "--rehash adds them" in told
    filled = extract(root, rehash=True)
    assert (filled.computed, filled.written, calls.started) == (0, True, 0)
    assert filled.features.phash.tolist() == expected(root, filled.features)
    assert np.array_equal(open_features(output).phash, filled.features.phash)
    monkeypatch.setattr(hashes, "glance", None)
    assert not extract(root, rehash=True).written


def test_a_row_whose_image_is_gone_keeps_the_file_without(extract, pictures, output):
    root = pictures(6)
    extract(root)
    forget(output)
    (root / "ants" / "002.png").unlink()
    ears = Ears()
    assert extract(root, ears, add=True, rehash=True).features.phash is None
    assert any("1 of 7 images" in note for note in ears.notes)


def test_a_shard_without_is_read_and_its_rows_have_none(tmp_path):
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 256, (6, 32), np.uint8)
    values = rng.normal(size=(6, 4)).astype(np.float32)
    numbers = np.arange(6, dtype=np.uint64)
    writer = shards.Shards(tmp_path, "f" * 64)
    writer.append(keys[:2], values[:2])
    writer.seal()
    writer.append(keys[2:4], values[2:4], numbers[2:4])
    writer.seal()
    writer.append(keys[4:5], values[4:5], numbers[4:5])
    writer.append(keys[5:], values[5:])  # one without: then none of the shard
    writer.seal()
    index, notes = shards.load(tmp_path, "f" * 64)
    assert notes == []
    asked = np.concatenate([keys[::-1], rng.integers(0, 256, (1, 32), np.uint8)])
    found, known = index.hashes(asked)
    assert known.tolist() == [False, False, True, True, False, False, False]
    assert found[known].tolist() == [3, 2]
    assert np.array_equal(shards.take(index, keys), values)


def test_what_is_made_from_a_file_carries_them(extract, pictures, output, tmp_path):
    root = pictures(6)
    features = extract(root).features
    part = features.subset([4, 1, 2])
    assert part.phash.tolist() == features.phash[[4, 1, 2]].tolist()
    saved = open_features(part.save(tmp_path / "part.h5"))
    assert saved.phash.tolist() == features.phash[[1, 2, 4]].tolist()
    other = features.subset([0, 3])
    joined = join([part, other])
    where = dict(zip(features.paths, features.phash, strict=True))
    assert joined.phash.tolist() == [where[path] for path in joined.paths]
    other.rows.phash = None
    assert join([part, other]).phash is None
    table = part.to_pandas()
    assert table["phash"].tolist() == [f"{value:016x}" for value in part.phash.tolist()]
    with np.load(part.to(tmp_path / "part.npz")) as arrays:
        assert np.array_equal(arrays["phash"], part.phash)
    lines = (part.to(tmp_path / "part.csv")).read_text().splitlines()
    assert f"{part.phash[0]:016x}" in lines[1]


def test_a_changed_hash_is_found_by_its_checksum(extract, pictures, output):
    extract(pictures(3))
    with h5py.File(output, "a") as h5:
        h5["phash"][1] ^= 1
    with pytest.raises(Exception, match="phash"):
        open_features(output)


def test_a_wrong_type_is_refused(extract, pictures, output):
    extract(pictures(3))
    with h5py.File(output, "a") as h5:
        del h5["phash"]
        h5["phash"] = np.zeros(4, np.int32)
    with pytest.raises(Exception, match="phash is 1-dimensional int32"):
        open_features(output)
