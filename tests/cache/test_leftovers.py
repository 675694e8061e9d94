"""What lies beside a feature file is counted, and stays as it is whatever is wrong with it."""

import errno

import numpy as np
import pytest
from bottleneck_probe.cache import leftovers as beside
from bottleneck_probe.cache import sealed
from bottleneck_probe.cache.leftovers import leftovers
from bottleneck_probe.cache.shards import Shards

PRINT = "ab" * 32
KEYS = np.arange(32 * 5, dtype=np.uint8).reshape(5, 32)


@pytest.fixture
def folder(tmp_path):
    """One whole shard; one with a name that fits, and nothing in it; one that is cut; one set aside."""
    parts = tmp_path / "x.h5.parts"
    writer = Shards(parts, PRINT)
    writer.append(KEYS, np.zeros((5, 2), np.float32))
    writer.seal()
    (parts / f"{sealed.name_of(b'no shard')}.h5").write_bytes(b"no shard")
    (parts / f"{'0' * 32}.h5").write_bytes(b"cut")
    (parts / "old.bad").write_bytes(b"")
    return parts


def test_what_the_next_run_takes_and_what_not(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = leftovers(folder)
    ((shard, keys, made_by),) = found.shards
    assert (shard.shape, made_by) == ((5, 2), PRINT)
    np.testing.assert_array_equal(keys, KEYS)
    reasons = dict(found.torn)
    assert reasons.pop("0" * 32 + ".h5") == "its content is not what its name says"
    assert reasons.pop("old.bad") == "set aside"
    assert "is not an HDF5 file" in reasons.pop(f"{sealed.name_of(b'no shard')}.h5")
    assert not reasons
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    told = found.summary([PRINT], KEYS[:2])
    assert (told["rows"], told["images_not_in_the_file"], len(told["torn"])) == (5, 3, 3)
    assert leftovers(folder / "nowhere") is None


def test_a_shard_that_the_disk_does_not_give_is_named_and_the_others_are_counted(
    folder, monkeypatch
):
    """Else neither could a file be verified, nor what is left of it be saved."""
    real = sealed.open_regular

    def failing(path):
        if path.name.startswith("0"):
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(sealed, "open_regular", failing)
    found = beside.leftovers(folder)
    assert len(found.shards) == 1
    assert "could not be read: Input/output error (EIO" in dict(found.torn)["0" * 32 + ".h5"]
