"""Folders say class and split."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from bottleneck_probe.images import layout
from bottleneck_probe.images.find import find
from bottleneck_probe.images.layout import SPLIT_WORDS, read_layout
from bottleneck_probe.paths import escape
from hypothesis import given, settings
from hypothesis import strategies as st

Tree = Callable[..., Path]


def rows(root: object, **options: object) -> dict[str, tuple[str | None, str]]:
    return {s.path: (s.label, s.split) for s in find(root, **options).samples}


def test_classes(tree: Tree):
    found = find(tree("ants/1.jpg", "ants/new/2.jpg", "ants/new/er/3.jpg", "bees/1.jpg"))
    assert [(s.path, s.label, s.split, dict(s.meta)) for s in found.samples] == [
        ("ants/1.jpg", "ants", "", {"folder": ""}),
        ("ants/new/2.jpg", "ants", "", {"folder": "new"}),
        ("ants/new/er/3.jpg", "ants", "", {"folder": "new/er"}),
        ("bees/1.jpg", "bees", "", {"folder": ""}),
    ]
    assert found.name == "photos"
    assert found.notes == []


def test_no_deeper_folders_no_column(tree: Tree):
    assert not find(tree("ants/1.jpg")).samples[0].meta


@pytest.mark.parametrize("word", SPLIT_WORDS)
@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_split_words(tree: Tree, word: str, case: Callable[[str], str]):
    folder = case(word)
    split = SPLIT_WORDS[word]
    found = find(tree(f"{folder}/ants/1.jpg", f"{folder}/ants/deep/2.jpg", f"{folder}/3.jpg"))
    assert {s.path: (s.label, s.split, s.meta["folder"]) for s in found.samples} == {
        f"{folder}/3.jpg": (None, split, ""),
        f"{folder}/ants/1.jpg": ("ants", split, ""),
        f"{folder}/ants/deep/2.jpg": ("ants", split, "deep"),
    }
    assert found.notes == ["photos: 1 image lies beside the class folders: unlabelled."]


def test_split_folders_without_images_are_none(tree: Tree):
    assert rows(tree("ants/1.jpg", "train/notes.txt")) == {"ants/1.jpg": ("ants", "")}


def test_split_words_below_a_class_are_ordinary_folders(tree: Tree):
    found = find(tree("ants/train/1.jpg", "bees/2.jpg"))
    assert (found.samples[0].label, found.samples[0].split) == ("ants", "")


def test_beside_a_train_folder_others_are_no_classes(tree: Tree):
    found = find(tree("train/ants/1.jpg", "test/ants/2.jpg", "extra/3.jpg", "4.jpg"))
    assert {s.path: (s.label, s.split) for s in found.samples} == {
        "4.jpg": (None, ""),
        "extra/3.jpg": (None, ""),
        "test/ants/2.jpg": ("ants", "test"),
        "train/ants/1.jpg": ("ants", "train"),
    }
    assert "extra, 1 image): taken as unlabelled" in found.notes[0]


def test_beside_a_test_folder_alone_others_are_the_training_classes(tree: Tree):
    found = find(tree("ants/1.jpg", "bees/2.jpg", "test/ants/3.jpg"))
    assert {s.path: (s.label, s.split) for s in found.samples} == {
        "ants/1.jpg": ("ants", "train"),
        "bees/2.jpg": ("bees", "train"),
        "test/ants/3.jpg": ("ants", "test"),
    }
    assert "taken as classes of the train split" in found.notes[0]


def test_images_without_classes_are_unlabelled_and_it_is_said(tree: Tree):
    found = find(tree("1.jpg", "2.jpg"))
    assert {s.label for s in found.samples} == {None}
    assert found.notes == ["photos: no class folders, so 2 images unlabelled."]
    both = find(tree("a/3.jpg"))
    assert both.notes == ["photos: 2 images lie beside the class folders: unlabelled."]


def test_a_data_set_one_folder_too_high(tree: Tree):
    found = find(tree("data/train/ants/1.jpg", "data/val/ants/2.jpg"))
    assert "did you mean photos/data?" in found.notes[0]


def test_the_percent_sign_is_escaped_in_paths_and_kept_in_classes(tree: Tree):
    (sample,) = find(tree("50%/1.jpg")).samples
    assert (sample.path, sample.label) == ("50%25/1.jpg", "50%")


@pytest.mark.parametrize("name", ["bad%FF", "bad%25FF", "100%25", "%E9t%E9"])
def test_no_two_folders_become_one_class(name: str):
    """`bad%FF` is also how the folder `bad` + byte FF is written as text."""
    others = ["bad\udcff", "bad%\udcff", "100%", "\udce9t\udce9", "bad%FF", "bad%25FF"]
    names = {name, *others}
    assert len({layout.as_text(n) for n in names}) == len(names)


@settings(deadline=None, max_examples=300)
@given(st.sets(st.text("%25EFé\udcff\udce9", max_size=7), min_size=2))
def test_classes_are_told_apart(names: set):
    assert len({layout.as_text(name) for name in names}) == len(names)


@pytest.mark.skipif(os.name == "nt", reason="names of any bytes")
def test_a_name_and_its_escaped_spelling_are_two_classes(tmp_path: Path):
    for name in (b"bad\xff", b"bad%FF"):
        folder = os.fsencode(tmp_path) + b"/" + name
        try:
            os.mkdir(folder)
        except OSError:
            pytest.skip("this file system takes UTF-8 names only")
        with open(folder + b"/1.jpg", "wb"):
            pass
    assert {s.label for s in find(tmp_path).samples} == {"bad%FF", "bad%25FF"}


def test_windows_paths(monkeypatch: pytest.MonkeyPatch):
    """The separator of the system splits, and paths are stored with slashes."""
    monkeypatch.setattr(os, "sep", "\\")
    files = ["C:\\photos\\train\\ants\\new\\1.jpg", "C:\\photos\\Val\\bees\\2.jpg"]
    paths = [escape(layout.relative(file, "C:\\photos")) for file in files]
    assert paths == ["train/ants/new/1.jpg", "Val/bees/2.jpg"]
    found, notes = read_layout(paths, "C:\\photos")
    assert [found.places[i] for i in found.which] == [("ants", "train", "new"), ("bees", "val", "")]
    assert notes == []
    assert layout.relative("C:\\a.jpg", "C:\\") == "a.jpg"


def test_the_root_of_the_system():
    assert layout.relative(os.sep + "a.jpg", os.sep) == "a.jpg"


def test_ants_bees(test_data: Path):
    found = find(test_data / "ants-bees")
    counts: dict = {}
    for sample in found.samples:
        counts[sample.split, sample.label] = counts.get((sample.split, sample.label), 0) + 1
    assert counts == {
        ("train", "ants"): 124,
        ("train", "bees"): 121,
        ("val", "ants"): 70,
        ("val", "bees"): 83,
    }
