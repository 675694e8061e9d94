"""The index of files in a feature file: written, read back, checked, and never carried elsewhere."""

from dataclasses import replace

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.index import FileIndex, index_of, settled, status_of
from bottleneck_probe.cache.joining import concat, join
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def make_index(n, q=1, ignored=("ants/notes",), seed=0) -> FileIndex:
    rng = np.random.default_rng(seed)
    return FileIndex(
        files=rng.integers(-1, 2**62, (n, 4)),
        quarantine=rng.integers(-1, 2**62, (q, 4)),
        quarantine_keys=rng.integers(0, 256, (q, 32), np.uint8),
        ignored_paths=list(ignored),
        ignored=rng.integers(0, 2**62, (len(ignored), 4)),
        time_ns=1_700_000_000_123_456_789,
        grain_ns=100_000_000,
        decoders={"pillow": "13.0.0"},
    )


@pytest.fixture
def indexed(tmp_path, header, rows, features):
    """Writes a feature file with an index; gives its path and the index."""

    def write_one(n=10, d=8, name="ants.h5", seed=0, **changes):
        path, index = tmp_path / name, make_index(n, seed=seed)
        index = replace(index, **changes)
        write(path, header(), rows(n, seed), [features(n, d, seed)], index=index)
        return path, index

    return write_one


def assert_equal(a: FileIndex, b: FileIndex) -> None:
    for name in ("files", "quarantine", "quarantine_keys", "ignored"):
        left, right = getattr(a, name), getattr(b, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    for name in ("ignored_paths", "time_ns", "grain_ns", "decoders"):
        assert getattr(a, name) == getattr(b, name)


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the fixtures are functions
)
@given(
    n=st.integers(1, 40),
    q=st.integers(0, 3),
    ignored=st.lists(TEXT, max_size=4),
    seed=st.integers(0, 1000),
    versions=st.dictionaries(TEXT, TEXT, max_size=3),
)
def test_what_is_written_is_read_back(
    header, rows, features, tmp_path_factory, n, q, ignored, seed, versions
):
    path = tmp_path_factory.mktemp("index") / "x.h5"
    index = replace(make_index(n, q, tuple(ignored), seed), decoders=versions)
    table = replace(rows(n, seed), quarantine=[(f"bad{i}.jpg", "torn") for i in range(q)])
    write(path, header(), table, [features(n)], index=index)
    found = index_of(bp.open(path))
    assert found is not None
    assert_equal(found, index)


def test_a_file_without_an_index_has_none(written):
    path, _, _ = written()
    assert index_of(bp.open(path)) is None
    assert index_of(bp.Features.from_arrays([[0.0, 1.0]])) is None


def test_it_takes_at_most_45_bytes_a_sample(tmp_path, header, rows, features):
    sizes = []
    for name, index in (("a", None), ("b", make_index(10_000))):
        write(tmp_path / name, header(), rows(10_000), [features(10_000, 2)], index=index)
        sizes.append((tmp_path / name).stat().st_size)
    assert 0 < sizes[1] - sizes[0] <= 45 * 10_000


def test_an_index_of_other_rows_is_refused(tmp_path, header, rows, features):
    with pytest.raises(bp.CacheError, match=r"paths 10, stat/files 9"):
        write(tmp_path / "x.h5", header(), rows(10), [features(10)], index=make_index(9))
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize("name", ["files", "quarantine_keys", "ignored_paths", "clock", "decoders"])
def test_a_changed_value_is_found(indexed, name):
    path, _ = indexed()
    features = bp.open(path)
    with h5py.File(path, "r+") as h5:
        dataset = h5[f"stat/{name}"]
        dataset[0] = "other" if dataset.dtype.kind == "O" else dataset[0] ^ 1
    with pytest.raises(bp.CacheError, match=f"stat/{name}, rows 0 to .*differ from their checksum"):
        index_of(features)


def break_shape(h5):
    del h5["stat/files"]
    h5["stat/files"] = np.zeros((9, 4), np.int64)


def break_type(h5):
    del h5["stat/files"]
    h5["stat/files"] = np.zeros((10, 4), np.float64)


def break_count(h5):
    del h5["stat/ignored"]
    h5["stat/ignored"] = np.zeros((2, 4), np.int64)


def break_part(h5):
    del h5["stat/clock"]


@pytest.mark.parametrize("change", [break_shape, break_type, break_count, break_part])
def test_an_index_of_another_kind_counts_as_none(indexed, change):
    """A later version may keep it in another way; then files are read, and nothing is lost."""
    path, _ = indexed()
    with h5py.File(path, "r+") as h5:
        change(h5)
        del h5["checksums"], h5.attrs["created_by"]
    assert index_of(bp.open(path)) is None


@pytest.mark.parametrize("told", ["{", "[]", "[" * 99999])
def test_versions_that_nobody_can_read_are_unknown(indexed, told):
    """So that what other versions found unusable is tried again; the files count all the same."""
    path, index = indexed()
    with h5py.File(path, "r+") as h5:
        h5["stat/decoders"][0] = told
        del h5["checksums"], h5.attrs["created_by"]
    found = index_of(bp.open(path))
    assert found.decoders == {}
    np.testing.assert_array_equal(found.files, index.files)


def test_rows_go_on_being_readable_when_only_the_index_changes(indexed):
    """A run that reads files again may write the index alone; nobody has to open the file again."""
    path, _ = indexed()
    features = bp.open(path)
    indexed(time_ns=5)
    assert features.features[:].shape == (10, 8)
    assert index_of(features).time_ns == 5
    indexed(seed=1)
    with pytest.raises(bp.CacheError, match="was replaced"):
        features.features[:]
    with pytest.raises(bp.CacheError, match="was replaced"):
        index_of(features)


def test_both_digests_of_the_content_are_checked(indexed):
    path, _ = indexed()
    with h5py.File(path, "r+") as h5:
        sums = h5["checksums"].attrs
        assert len(sums["content_without_stat"]) == 64
        sums["content_without_stat"] = sums["content"]
    with pytest.raises(bp.CacheError, match="contradict each other"):
        bp.open(path)


MADE = {
    "save": lambda f, _: f.save(f.file.with_name("copy.h5")),
    "subset": lambda f, _: f.subset([1, 2]).save(f.file.with_name("copy.h5")),
    "join": lambda f, g: join([f, g]).save(f.file.with_name("copy.h5")),
    "concat": lambda f, g: concat([f, f]).save(f.file.with_name("copy.h5")),
    "output": lambda f, _: f.output("penultimate").save(f.file.with_name("copy.h5")),
}


@pytest.mark.parametrize("how", list(MADE))
def test_what_is_made_from_a_file_has_no_index(indexed, how):
    first, second = (bp.open(indexed(name=name)[0]) for name in ("a.h5", "b.h5"))
    copy = MADE[how](first, second)
    with h5py.File(copy) as h5:
        assert "stat" not in h5
    assert index_of(bp.open(copy)) is None


def test_a_status_fits_into_int64(tmp_path):
    class Found:
        st_size, st_mtime_ns, st_ctime_ns = 1, 2, 3
        st_ino = 2**64 - 1

    np.array([status_of(Found)], np.int64)
    Found.st_mtime_ns = 2**63 - 1
    assert status_of(Found)[1] == 2**63 - 1
    for name in ("st_mtime_ns", "st_ctime_ns"):
        for value in (2**63, -(2**63) - 1):
            beyond = type("Beyond", (Found,), {name: value})
            row = np.array([status_of(beyond)], np.int64)
            assert not settled(row, 2**63 - 1, 0).any()
            assert row[0, 0] == 1
    file = tmp_path / "x"
    file.write_bytes(b"ab")
    found = file.stat()
    assert status_of(found) == (2, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
