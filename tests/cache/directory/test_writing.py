"""How the files looked, in a directory: shards that know less than the run does are written again."""

from dataclasses import replace

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory import building, writing
from bottleneck_probe.cache.index import FileIndex, index_of
from bottleneck_probe.cache.storage import LocalStorage

N = 8
STATUSES = np.array([[100 + i, 5, 5, 1 + i] for i in range(N)])
INDEX = FileIndex(
    files=STATUSES,
    quarantine=np.empty((0, 4), np.int64),
    quarantine_keys=np.empty((0, 32), np.uint8),
    time_ns=100,
    grain_ns=10,
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the same rows with an index; gives the directory, opened, and its shards.

    `write.rows` are those that were written by the last call.
    """
    monkeypatch.setattr(building, "SHARD_ROWS", 4)
    real = writing.write_shard

    def counted(*args):
        write_.rows += args[4].tolist()
        return real(*args)

    monkeypatch.setattr(writing, "write_shard", counted)
    storage = LocalStorage(tmp_path / "many")

    def write_(index, views=None, **options):
        own = bp.Features.from_arrays(np.eye(N), ids=[str(i) for i in range(N)])
        if views is not None:
            own.rows.view, own.rows.paths = views, [str(i // 2) for i in range(N)]
        existing = directory.open_directory(storage) if storage.list() else None
        header, rows, X = own.header, own.rows, own.features
        write_.rows = []
        with storage.writing():
            directory.write_directory(
                storage, header, rows, [X], index=index, existing=existing, **options
            )
        found = bp.open(tmp_path / "many")
        return found, [shard.name for shard in found.features.directory.manifest.shards]

    return write_


def test_only_shards_that_know_less_are_refreshed(write):
    young = STATUSES.copy()
    young[5:8, 1] = 95  # as young as the moment they were read
    found, names = write(replace(INDEX, files=young))
    known = np.where((young[:, 1] == 5)[:, None], STATUSES, -1)
    np.testing.assert_array_equal(index_of(found).files, known)
    same, kept = write(INDEX)
    assert (kept, write.rows) == (names, [])
    np.testing.assert_array_equal(index_of(same).files, known)
    fresh, now = write(INDEX, refresh=True)
    np.testing.assert_array_equal(index_of(fresh).files, STATUSES)
    np.testing.assert_array_equal(fresh.features[:], np.eye(N))
    assert write.rows == [4, 5, 6, 7]
    assert now[0] == names[0]
    assert now[1] != names[1]
    assert write(INDEX, refresh=True)[1] == now
    assert not write.rows


def test_of_a_directory_without_an_index_all_are_refreshed(write):
    found, names = write(None)
    assert (index_of(found).files == -1).all()
    assert write(None, refresh=True)[1] == names
    fresh, now = write(INDEX, refresh=True)
    np.testing.assert_array_equal(index_of(fresh).files, STATUSES)
    assert not set(now) & set(names)


def test_all_views_of_a_refreshed_file_are_written_again(write):
    """Else one path would have rows in two shards, of which only the last counts."""
    views = np.array([0, 1] * (N // 2), np.int32)
    young = STATUSES.copy()
    young[5, 1] = 95
    write(replace(INDEX, files=young), views)
    fresh, _ = write(INDEX, views, refresh=True)
    assert write.rows == [4, 5]
    np.testing.assert_array_equal(index_of(fresh).files, STATUSES)
    np.testing.assert_array_equal(fresh.features[:], np.eye(N))
