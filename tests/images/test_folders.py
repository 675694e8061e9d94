"""Every file of a folder is counted once: as an image, or as ignored."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.images import folders
from bottleneck_probe.images.find import find
from bottleneck_probe.images.folders import walk
from hypothesis import given, settings
from hypothesis import strategies as st

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
Tree = Callable[..., Path]
posix = pytest.mark.skipif(os.name == "nt", reason="POSIX file types and links")

FOLDERS = st.sampled_from(["ants", "bees", "train", "Val", "test", ".git", "a b", "50%"])
FILES = st.sampled_from(
    ["1.jpg", "2.JPEG", "3.png", "n.xml", "README", ".x.jpg", "photo", "x.bin", "5%20.gif"]
)


@settings(deadline=None, max_examples=120)
@given(st.sets(st.tuples(st.lists(FOLDERS, max_size=3), FILES).map(lambda p: (*p[0], p[1]))))
def test_no_file_is_lost_or_doubled(tmp_path_factory: pytest.TempPathFactory, names: set):
    root = tmp_path_factory.mktemp("walk")
    for parts in names:
        path = root.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        # "photo" has no suffix and is an image all the same; the others hold text.
        path.write_bytes(PNG_HEAD if path.name == "photo" else b"text")
    hidden = {p for p in names if any(part.startswith(".") for part in p)}
    images = {
        p
        for p in names - hidden
        if p[-1] == "photo" or p[-1].endswith((".jpg", ".JPEG", ".png", ".gif"))
    }
    if not images:
        with pytest.raises(InputError, match="0 images"):
            find(root)
        return
    found = find(root)
    assert len(found.samples) + found.ignored == len(names)
    assert {sample.source for sample in found.samples} == {str(root.joinpath(*p)) for p in images}
    assert len({sample.path for sample in found.samples}) == len(images)
    ordered = [sample.path.encode() for sample in found.samples]
    assert ordered == sorted(ordered)
    assert sorted(found.order) == list(range(len(images)))


def test_only_unknown_suffixes_are_opened(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree("a/1.jpg", "a/1.xml", "a/data", "a/list.txt")
    opened = []
    real = open
    monkeypatch.setattr(
        folders,
        "open",
        lambda path, *a, **k: opened.append(path) or real(path, *a, **k),
        raising=False,
    )
    assert walk(str(root)).ignored == 3
    assert opened == [str(root / "a" / "data")]


def test_what_was_found_instead(tree: Tree):
    root = tree("a.xml", "b.xml", "c.txt", ".hidden.jpg")
    with pytest.raises(InputError) as caught:
        find(root)
    assert "0 images in" in caught.value.what
    assert caught.value.where == "4 other files: 2 .xml, 1 hidden files, 1 .txt"
    with pytest.raises(InputError, match="no files at all"):
        find(tree(folder="empty"))


@posix
def test_links_are_followed_and_each_folder_is_visited_once(tree: Tree):
    root = tree("z/1.jpg", "z/deep/2.jpg")
    other = tree("3.jpg", folder="elsewhere")
    (root / "a").symlink_to(root / "z")  # before z by name, yet z is the real place
    (root / "z" / "up").symlink_to(root)
    (root / "m").symlink_to(other)
    (root / "z" / "same.jpg").symlink_to(root / "z" / "1.jpg")
    paths = [sample.path for sample in find(root).samples]
    assert paths == ["m/3.jpg", "z/1.jpg", "z/deep/2.jpg", "z/same.jpg"]


@posix
def test_of_several_links_to_one_folder_the_first_by_name_counts(tree: Tree):
    root, other = tree("a/1.jpg"), tree("2.jpg", folder="elsewhere")
    for name in "kxbqmzd":
        (root / name).symlink_to(other)
    assert [sample.path for sample in find(root).samples] == ["a/1.jpg", "b/2.jpg"]


@posix
def test_faults_that_show_before_reading(tree: Tree):
    root = tree("a/1.jpg")
    (root / "a" / "2.jpg").symlink_to(root / "gone.jpg")
    (root / "a" / "loop.png").symlink_to(root / "a" / "loop.png")
    (root / "a" / "gone.txt").symlink_to(root / "gone.txt")
    os.mkfifo(root / "a" / "3.jpg")
    os.mkfifo(root / "a" / "pipe")
    (root / "a" / "4.jpg").mkdir()
    found = find(root)
    assert {sample.path: sample.fault for sample in found.samples} == {
        "a/1.jpg": None,
        "a/2.jpg": "broken link",
        "a/3.jpg": "not a regular file",
        "a/4.jpg": "not a regular file: a folder",
        "a/loop.png": "broken link",
    }
    assert found.ignored == 2


@posix
def test_a_folder_that_cannot_be_listed_is_told(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree("a/1.jpg", "b/2.jpg")
    real = os.scandir

    def scandir(path: str) -> object:
        if path.endswith("b"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(folders.os, "scandir", scandir)
    faults = {sample.path: sample.fault for sample in find(root).samples}
    assert faults == {"a/1.jpg": None, "b": "cannot be listed: Permission denied"}
    # It is no image, so it does not lie beside the class folders either.
    assert find(root).notes == []
    with pytest.raises(InputError, match="cannot be listed"):
        walk(str(root / "b"))


@posix
@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b'"q"', "\U0001f41c".encode(), b"x" * 251])
def test_names_of_any_bytes(tmp_path: Path, name: bytes):
    folder = os.fsencode(tmp_path / "photos") + b"/" + name
    try:
        os.makedirs(folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with open(folder + b"/" + name + b".jpg", "wb") as file:
        file.write(PNG_HEAD)
    (sample,) = find(tmp_path / "photos").samples
    sample.path.encode()
    assert sample.label is not None
    sample.label.encode()
    assert os.fsencode(sample.source) == folder + b"/" + name + b".jpg"
    assert os.path.isfile(sample.source)


def test_without_file_numbers_folders_are_told_apart_by_path(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
):
    """Some network drives on Windows report file number 0 for everything."""
    root = tree("a/1.jpg", "b/2.jpg")
    real = os.stat

    class Status:
        st_dev = st_ino = 0

    monkeypatch.setattr(folders.os, "stat", lambda p, **k: Status() if not k else real(p, **k))
    assert folders._identity(str(root / "a")) != folders._identity(str(root / "b"))
