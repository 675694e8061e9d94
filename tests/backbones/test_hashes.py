"""The hash of a large file of weights is kept, and never outlives the file's content."""

import hashlib
import os

import pytest
from bottleneck_probe.backbones import hashes


@pytest.fixture
def read(monkeypatch):
    """How often a file was hashed; any size counts as large, any age as old enough."""
    calls = []
    real = hashes.sha256_of
    monkeypatch.setattr(hashes, "sha256_of", lambda path: calls.append(path) or real(path))
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 0)
    monkeypatch.setattr(hashes, "_SETTLED_NS", -(10**9))
    return calls


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unchanged_file_is_hashed_once(tmp_path, read):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"abc")
    assert [hashes.sha256_kept(file) for _ in range(3)] == [digest(file)] * 3
    assert len(read) == 1


@pytest.mark.parametrize("way", ["edited", "replaced", "moved", "touched"])
def test_a_changed_file_is_hashed_again(tmp_path, read, way):
    file, other = tmp_path / "weights.pth", tmp_path / "other.pth"
    file.write_bytes(b"abc")
    other.write_bytes(b"xyz")
    before = file.stat()
    hashes.sha256_kept(file)
    if way == "edited":
        file.write_bytes(b"abd")
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    elif way == "replaced":
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        other.replace(file)
    elif way == "moved":
        file = file.rename(tmp_path / "moved.pth")
    else:
        os.utime(file)
    assert hashes.sha256_kept(file) == digest(file)
    assert len(read) == 2


def test_a_file_made_a_moment_ago_is_hashed_again(tmp_path, read, monkeypatch):
    monkeypatch.setattr(hashes, "_SETTLED_NS", 10**9)
    file = tmp_path / "weights.pth"
    file.write_bytes(b"abc")
    assert [hashes.sha256_kept(file) for _ in range(2)] == [digest(file)] * 2
    assert len(read) == 2


def test_a_damaged_note_is_made_anew(tmp_path, read):
    file = tmp_path / "weights.pth"
    file.write_bytes(b"abc")
    hashes.sha256_kept(file)
    for note in (hashes.usercache.folder("hashes")).iterdir():
        note.write_text("{")
    assert hashes.sha256_kept(file) == digest(file)
    assert len(read) == 2


def test_a_small_file_is_simply_hashed(tmp_path, read, monkeypatch):
    monkeypatch.setattr(hashes, "_WORTH_KEEPING", 10)
    file = tmp_path / "weights.pth"
    file.write_bytes(b"abc")
    assert [hashes.sha256_kept(file) for _ in range(2)] == [digest(file)] * 2
    assert len(read) == 2
