"""A folder as a place for the files of a directory: what the system refuses is told with its name."""

import errno
import os

import pytest
from bottleneck_probe.cache import directory
from bottleneck_probe.cache import storage as storages
from bottleneck_probe.cache.directory import checking, save
from bottleneck_probe.cache.storage import LocalStorage
from bottleneck_probe.errors import CacheError


def fails(*args, **options):
    raise OSError(errno.EIO, "Input/output error")


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    return LocalStorage(tmp_path)


def test_it_is_read_up_to_its_limit(storage, tmp_path):
    assert repr(storage) == f"LocalStorage({str(tmp_path)!r})"
    assert storage.read("a", 5) == b"12345"
    with pytest.raises(CacheError, match="a has 5 bytes") as caught:
        storage.read("a", 4)
    assert caught.value.expected == "at most 4 bytes"
    assert storage.read("b", 5) is None


def test_what_is_not_there_has_no_files(storage, tmp_path):
    for folder in (tmp_path / "nowhere", tmp_path / "a"):  # and what is a file
        assert LocalStorage(folder).list() == []
        assert LocalStorage(folder).size("a") is None


@pytest.mark.parametrize(
    ("where", "name", "work"),
    [
        ("os", "lstat", lambda storage: storage.size("a")),
        ("os", "lstat", lambda storage: storage.read("a", 5)),
        ("os", "scandir", lambda storage: storage.list()),
        ("builtins", "open", lambda storage: storage.read("a", 5)),
    ],
    ids=["size", "look", "list", "read"],
)
def test_a_disk_that_fails_is_not_taken_for_a_file_that_is_missing(
    storage, tmp_path, monkeypatch, where, name, work
):
    """Or a run would compute anew, and put in its place, what it could not look at for a moment."""
    if where == "os":
        monkeypatch.setattr(storages.os, name, fails)
    else:
        monkeypatch.setattr(storages, name, fails, raising=False)
    with pytest.raises(CacheError, match="cannot be read: Input/output error") as caught:
        work(storage)
    monkeypatch.undo()
    assert str(tmp_path) in caught.value.where


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EIO, "Input/output error"), "cannot be read: Input/output error"),
        (CacheError("no permission (HTTP 403)"), "no permission (HTTP 403)"),
    ],
    ids=["disk", "storage"],
)
def test_checking_goes_on_where_a_file_cannot_be_read(
    tmp_path, header, rows, features, monkeypatch, error, words
):
    def refuse(file):
        raise error

    save(tmp_path, header(), rows(4), [features(4)])
    monkeypatch.setattr(checking, "digest_of", refuse)
    told = []
    found = directory.check(LocalStorage(tmp_path), told.append)
    parts = directory.load(LocalStorage(tmp_path)).parts()
    assert len(parts) == 2  # the shard and the quarantine
    assert found.faults == [(part.name, words) for part in parts]
    assert told == [os.path.getsize(tmp_path / part.name) for part in parts]
