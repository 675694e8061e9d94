"""Several folders: each says itself what its images are."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from bottleneck_probe.images.find import find
from hypothesis import given, settings
from hypothesis import strategies as st

Tree = Callable[..., Path]


def rows(found: object) -> dict[str, tuple[str | None, str]]:
    return {s.path: (s.label, s.split) for s in found.samples}


def test_class_folders_of_several_places(tree: Tree):
    root = tree("A/ants/1.jpg", "B/bees/2.jpg", "C/ants/3.jpg")
    found = find([root / "A" / "ants", root / "B" / "bees", root / "C" / "ants"])
    assert rows(found) == {
        "A/ants/1.jpg": ("ants", ""),
        "B/bees/2.jpg": ("bees", ""),
        "C/ants/3.jpg": ("ants", ""),
    }
    assert found.root == str(root)
    assert found.notes == ["Several folders: A/ants, B/bees, C/ants: taken as classes."]


def test_folders_of_classes(tree: Tree):
    root = tree("A/ants/1.jpg", "A/bees/new/2.jpg", "B/bees/3.jpg", "B/4.jpg")
    found = find([root / "A", root / "B"])
    assert {s.path: (s.label, s.meta["folder"]) for s in found.samples} == {
        "A/ants/1.jpg": ("ants", ""),
        "A/bees/new/2.jpg": ("bees", "new"),
        "B/4.jpg": (None, ""),
        "B/bees/3.jpg": ("bees", ""),
    }
    assert found.notes == [
        "Several folders: A, B: taken as read by the folders in them.",
        "B: 1 image lies beside the class folders: unlabelled.",
    ]


def test_a_folder_with_splits_and_one_without(tree: Tree):
    root = tree("A/train/ants/1.jpg", "A/val/ants/2.jpg", "bees/3.jpg")
    assert rows(find([root / "A", root / "bees"])) == {
        "A/train/ants/1.jpg": ("ants", "train"),
        "A/val/ants/2.jpg": ("ants", "val"),
        "bees/3.jpg": ("bees", ""),
    }


def test_split_folders_of_several_places(tree: Tree):
    root = tree("A/Train/ants/1.jpg", "B/valid/ants/2.jpg", "B/valid/test/3.jpg", "B/valid/4.jpg")
    found = find([root / "A" / "Train", root / "B" / "valid"])
    assert rows(found) == {
        "A/Train/ants/1.jpg": ("ants", "train"),
        "B/valid/4.jpg": (None, "val"),
        "B/valid/ants/2.jpg": ("ants", "val"),
        "B/valid/test/3.jpg": ("test", "val"),  # inside a split, folders are classes
    }
    assert found.notes[0] == "Several folders: A/Train, B/valid: taken as splits."


def test_a_split_folder_with_images_only_is_no_class(tree: Tree):
    root = tree("ants/1.jpg", "test/2.jpg")
    found = find([root / "ants", root / "test"])
    assert rows(found) == {"ants/1.jpg": ("ants", "train"), "test/2.jpg": (None, "test")}


def test_loose_images_among_folders(tree: Tree):
    root = tree("train/ants/1.jpg", "test/ants/2.jpg", "test/bees/3.jpg", "4.jpg", "x/5.jpg")
    given_as = [root / "train", root / "4.jpg", root / "test" / "ants" / "2.jpg", root / "x/5.jpg"]
    assert rows(find(given_as)) == {
        "4.jpg": (None, ""),
        "test/ants/2.jpg": ("ants", "test"),
        "train/ants/1.jpg": ("ants", "train"),
        "x/5.jpg": (None, ""),  # beside a train folder, others are no classes
    }


def test_an_image_in_two_of_the_arguments_counts_as_in_the_first_folder(tree: Tree):
    root = tree("ants/1.jpg", "ants/2.jpg")
    found = find([root / "ants" / "2.jpg", root / "ants", root])
    assert rows(found) == {"ants/1.jpg": ("ants", ""), "ants/2.jpg": ("ants", "")}
    assert [found.samples[i].path[-5] for i in found.entries] == list("21212")


def test_one_folder_twice_is_one_folder(tree: Tree):
    root = tree("1.jpg")
    assert rows(find([root, str(root) + os.sep])) == {"1.jpg": (None, "")}


def test_a_class_folder_beside_a_file_that_is_no_image(tree: Tree):
    root = tree("ants/1.jpg", "README.txt")
    found = find([root / "README.txt", root / "ants"])
    assert ([s.label for s in found.samples], found.ignored) == (["ants"], 1)


def test_a_root_that_is_stated_says_the_classes(tree: Tree):
    root = tree("A/ants/1.jpg", "B/bees/2.jpg")
    found = find([root / "A" / "ants", root / "B" / "bees"], root=root)
    assert [s.label for s in found.samples] == ["A", "B"]


FOLDERS = ["ants", "bees", "a b", "test", "Val", "dev"]


@settings(deadline=None, max_examples=60)
@given(st.sets(st.tuples(st.sampled_from(FOLDERS), st.sampled_from(["ants", "bees"])), min_size=1))
def test_what_the_shell_expands_is_read_as_the_folder(
    tmp_path_factory: pytest.TempPathFactory, names: set
):
    """`extract photos/*` gives every image the class and split of `extract photos`."""
    root = tmp_path_factory.mktemp("photos")
    for folder, kind in names:
        inner = (kind,) if folder in ("test", "Val", "dev") else ()
        path = root.joinpath(folder, *inner, f"{kind}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "README").write_text("so that there are several arguments")
    expanded = find(sorted(root.iterdir()))
    quoted = find(str(root / "*"))
    whole = {s.source: (s.label, s.split) for s in find(root).samples}
    for found in (expanded, quoted):
        assert {s.source: (s.label, s.split) for s in found.samples} == whole
