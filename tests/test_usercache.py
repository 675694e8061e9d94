"""The user's cache: where it is, whole files only, and what clearing it removes."""

import os

import pytest
from bottleneck_probe import usercache
from bottleneck_probe.errors import CacheError


def test_the_variable_decides_where_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "mine"))
    assert usercache.folder("networks") == tmp_path / "mine" / "networks"
    assert usercache.folder("networks").is_dir()


def test_without_it_the_systems_own_place_is_taken(tmp_path, monkeypatch):
    monkeypatch.delenv("BOTTLENECK_CACHE_DIR")
    monkeypatch.setattr(
        usercache.platformdirs, "user_cache_dir", lambda name, appauthor: str(tmp_path / name)
    )
    assert usercache.folder() == tmp_path / "bottleneck-probe"


def test_a_relative_place_and_a_tilde_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", "here")
    assert usercache.folder() == tmp_path / "here"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", os.path.join("~", "there"))
    assert usercache.folder() == tmp_path / "there"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    usercache.write(path, b"old")

    def full(descriptor, content):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(CacheError, match="No space"):
            usercache.write(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_clear_removes_every_file_and_says_how_much(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "mine"))
    usercache.write(usercache.folder("a") / "x", b"12345")
    usercache.write(usercache.folder("b", "c") / "y", b"123")
    outside = tmp_path / "outside"
    outside.write_bytes(b"stays")
    assert [p.name for p in usercache.files()] == ["x", "y"]
    assert usercache.clear() == (2, 8)
    assert usercache.files() == []
    assert usercache.clear() == (0, 0)
    assert outside.exists()
