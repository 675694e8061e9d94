import errno
import pickle
import sys

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache.array import FeatureArray
from bottleneck_probe.cache.format import read, write
from bottleneck_probe.errors import CacheError
from common import flip
from hypothesis import given, settings
from hypothesis import strategies as st

N, D = 300, 5


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One feature file of 300 rows as a lazy array, and its features in memory."""
    from bottleneck_probe.cache.format import Header, Rows
    from bottleneck_probe.recipe import fingerprint

    recipe = {"outputs": [{"node": "penultimate", "pooling": "none"}]}
    X = np.random.default_rng(0).standard_normal((N, D)).astype(np.float32)
    rows = Rows(
        [f"{i:04}" for i in range(N)],
        np.zeros((N, 32), np.uint8),
        np.full(N, -1, np.int32),
        [""] * N,
        [],
    )
    path = tmp_path_factory.mktemp("array") / "x.h5"
    header = Header(recipe, {}, fingerprint(recipe, recipe["outputs"][0]))
    write(path, header, rows, [X])
    return FeatureArray(read(path)[2]), X


ROWS = (
    st.integers(-N, N - 1)
    | st.slices(N)
    | st.lists(st.integers(-N, N - 1), max_size=20)
    | st.lists(st.integers(0, N - 1), min_size=1, max_size=20).map(np.array)
    | st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)
)


@settings(deadline=None, max_examples=150)
@given(rows=ROWS, columns=st.none() | st.slices(D) | st.integers(-D, D - 1), fresh=st.booleans())
def test_any_index_gives_what_numpy_gives(both, rows, columns, fresh):
    lazy, X = both
    lazy = FeatureArray(lazy.stored) if fresh else lazy
    index = rows if columns is None else (rows, columns)
    if isinstance(rows, list) and not rows:
        index = np.array([], int) if columns is None else (np.array([], int), columns)
    np.testing.assert_array_equal(lazy[index], X[index])
    assert np.shape(lazy[index]) == X[index].shape


@settings(deadline=None, max_examples=50)
@given(first=ROWS.filter(lambda rows: not isinstance(rows, int)), second=st.slices(10))
def test_taking_twice_is_taking_from_what_was_taken(both, first, second):
    lazy, X = both
    first = np.array(first, int) if isinstance(first, list) else first
    picked = np.arange(N)[first]
    np.testing.assert_array_equal(lazy.take(picked)[:], X[picked])
    deeper = np.arange(len(picked))[second]
    np.testing.assert_array_equal(lazy.take(picked).take(deeper)[:], X[picked][deeper])


def test_runs_are_read_one_after_the_other(both):
    lazy, X = both
    found = lazy.runs(np.array([0, 7, 120, 298]), 4)
    assert np.array_equal(found, np.concatenate([X[0:4], X[7:11], X[120:124], X[298:]]))
    assert lazy.runs(np.arange(0), 4).shape == (0, D)


def test_it_behaves_as_an_array_of_numpy(both):
    lazy, X = both
    assert (lazy.shape, lazy.dtype, lazy.ndim, len(lazy)) == (X.shape, X.dtype, X.ndim, len(X))
    assert (lazy.size, lazy.nbytes) == (X.size, X.nbytes)
    np.testing.assert_array_equal(np.asarray(lazy, np.float64), X.astype(np.float64))
    np.testing.assert_array_equal(lazy @ np.ones(D), X @ np.ones(D))
    np.testing.assert_array_equal(
        (lazy - lazy.mean(axis=0)) / lazy.std(0), (X - X.mean(0)) / X.std(0)
    )
    np.testing.assert_array_equal(np.concatenate([lazy, lazy]), np.concatenate([X, X]))
    np.testing.assert_array_equal(np.stack(list(lazy)), X)
    np.testing.assert_array_equal(lazy[...], X)
    np.testing.assert_array_equal(lazy[[1, 2], [3, 4]], X[[1, 2], [3, 4]])
    np.testing.assert_array_equal(lazy[[[1, 2], [5, 4]]], X[[[1, 2], [5, 4]]])
    np.testing.assert_array_equal(lazy[[[1, 2], [5, 4]], 3], X[[[1, 2], [5, 4]], 3])
    np.testing.assert_array_equal(lazy[None].shape, X[None].shape)
    np.testing.assert_array_equal(np.concatenate(list(lazy.blocks(7))), X)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(lazy))[:], X)
    with pytest.raises(IndexError):
        lazy[N]
    with pytest.raises(ValueError, match="copy"):
        np.asarray(lazy, copy=False)
    with pytest.raises(TypeError, match="read-only"):
        lazy += 1


def test_scikit_learn_takes_it_as_it_is(both):
    from sklearn.preprocessing import StandardScaler

    lazy, X = both
    np.testing.assert_array_equal(StandardScaler().fit(lazy).mean_, StandardScaler().fit(X).mean_)


@pytest.mark.parametrize("checksums", [True, False])
def test_only_the_rows_asked_for_are_read(written, monkeypatch, checksums):
    """A file of another program, which has no checksums, may be larger than the memory."""
    path, X, _ = written(n=1000)
    if not checksums:
        with h5py.File(path, "r+") as h5:
            del h5["checksums"], h5.attrs["created_by"]
    lazy = FeatureArray(read(path)[2])
    asked = []
    real = h5py.Dataset.__getitem__

    def counted(dataset, rows, *rest):
        result = real(dataset, rows, *rest)
        if dataset.name == "/features":
            asked.append(len(result))
        return result

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    np.testing.assert_array_equal(lazy[500], X[500])
    assert asked == [64 if checksums else 1]  # the block that its checksum covers
    np.testing.assert_array_equal(lazy[[500, 505]], X[[500, 505]])
    assert asked[1:] == [6]


def test_no_handle_stays_open_between_reads(written):
    path, _, _ = written()
    lazy = FeatureArray(read(path)[2])
    lazy[:3]
    with h5py.File(path, "r+"):  # fails with a lock error if anybody in the process has it open
        pass
    path.unlink()
    with pytest.raises(CacheError, match="cannot be read"):
        lazy[:3]


def test_a_file_that_was_replaced_is_not_read_on(written):
    """Paths and labels in memory belong to the old file's rows."""
    path, X, _ = written()
    lazy = FeatureArray(read(path)[2])
    written(seed=1)
    with pytest.raises(CacheError, match="was replaced after it was opened"):
        lazy[0]
    written(seed=0)  # the same content again is the same file
    np.testing.assert_array_equal(lazy[0], X[0])


@pytest.mark.parametrize("row", [0, 63, 64, 99])
def test_a_flipped_bit_is_found_by_every_read_that_touches_its_block(written, row):
    path, X, _ = written(n=100)
    with h5py.File(path) as h5:
        offset = h5["features"].id.get_offset()
    data = bytearray(path.read_bytes())
    data[offset + row * 8 * 4 + 2] ^= 1
    path.write_bytes(data)
    lazy = FeatureArray(read(path)[2])
    for index in (row, slice(None), [row, 5], slice(row, row + 1)):
        with pytest.raises(CacheError, match=r"is damaged: features, rows"):
            lazy[index]
    other = 99 if row < 64 else 0
    np.testing.assert_array_equal(lazy[other], X[other])


def test_nan_in_a_file_of_another_program_is_refused_with_its_row(written):
    path, _, _ = written()
    with h5py.File(path, "r+") as h5:
        del h5["checksums"], h5.attrs["created_by"]
        h5["features"][4, 4] = np.nan
    with pytest.raises(CacheError, match="NaN or infinity in the features of row 4"):
        FeatureArray(read(path)[2])[:]


def test_a_checksum_of_hdf5_itself_is_damage_with_its_rows(written, monkeypatch):
    """Files of other programs have none of ours, but may have that."""
    monkeypatch.setattr(sys, "executable", "")  # nothing to try the whole file out with
    path, X, _ = written(n=100)
    with h5py.File(path, "r+") as h5:
        del h5["checksums"], h5.attrs["created_by"], h5["features"]
        h5.create_dataset("features", data=X, chunks=(10, 8), fletcher32=True)
        place = h5["features"].id.get_chunk_info(3).byte_offset
    flip(path, place)
    lazy = FeatureArray(read(path)[2])
    with pytest.raises(CacheError, match="is damaged: features, rows 30 to 39"):
        lazy[30:40]
    np.testing.assert_array_equal(lazy[40:50], X[40:50])


@pytest.mark.parametrize("known", [False, True], ids=["first", "again"])
def test_a_disk_that_fails_is_not_called_a_damaged_file(written, monkeypatch, known):
    path, X, _ = written(n=100)
    lazy = FeatureArray(read(path)[2])
    if known:
        lazy[:]
    real = h5py.Dataset.__getitem__

    def fails(dataset, rows, *rest):
        if dataset.name == "/features":
            raise OSError(errno.EIO, "Input/output error")
        return real(dataset, rows, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(h5py.Dataset, "__getitem__", fails)
        for index in (5, slice(None), [0, 99]):
            with pytest.raises(CacheError, match=r"cannot be read: .*EIO") as caught:
                lazy[index]
            assert "damaged" not in str(caught.value)
    np.testing.assert_array_equal(lazy[:], X)


def test_it_shows_which_output_it_is(written, layered):
    assert repr(bp.open(written()[0]).features) == (
        "<features of ants.h5: (10, 8), float32, read on demand>"
    )
    layer = bp.open(layered()[0]).output("layer3:avg").features
    assert repr(layer) == "<features of ants.h5::layer3:avg: (100, 4), float32, read on demand>"
