"""One file, several, a glob, a list on stdin: read as the folder that holds them all."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.errors import InputError, MissingExtraError
from bottleneck_probe.images.find import find
from bottleneck_probe.remote import door
from bottleneck_probe.remote.objects import RemoteObject
from hypothesis import given, settings
from hypothesis import strategies as st

Tree = Callable[..., Path]


def rows(found: object) -> dict[str, tuple[str | None, str]]:
    return {s.path: (s.label, s.split) for s in found.samples}


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_one_image(tree: Tree):
    root = tree("ants/1.jpg")
    for given_as in (root / "ants" / "1.jpg", [str(root / "ants" / "1.jpg")]):
        found = find(given_as)
        assert (found.root, found.name, found.notes) == (str(root / "ants"), "1", [])
        assert rows(found) == {"1.jpg": (None, "")}


def test_a_single_file_may_have_any_name(tree: Tree, tmp_path: Path):
    image = tree("a.jpg") / "a.jpg"
    odd = image.rename(tmp_path / "photo.dat")
    assert rows(find(odd)) == {"photo.dat": (None, "")}


def test_several_are_read_as_their_common_folder(tree: Tree):
    root = tree("train/ants/1.jpg", "train/ants/2.jpg", "val/bees/3.jpg", "val/bees/no.xml")
    found = find([root / "val", root / "train" / "ants" / "2.jpg"])
    assert found.root == str(root)
    assert rows(found) == {
        "train/ants/2.jpg": ("ants", "train"),
        "val/bees/3.jpg": ("bees", "val"),
    }
    assert list(found.order) == [1, 0]  # the user gave val first
    assert found.ignored == 1


def test_class_folders_given_one_by_one(tree: Tree):
    root = tree("ants/1.jpg", "bees/2.jpg", "wasps/3.jpg")
    assert rows(find([root / "ants", root / "bees"])) == {
        "ants/1.jpg": ("ants", ""),
        "bees/2.jpg": ("bees", ""),
    }


def test_overlapping_inputs_count_once_and_it_is_told(tree: Tree):
    root = tree("ants/1.jpg", "bees/2.jpg")
    found = find([root, root / "ants", root / "bees" / ".." / "bees" / "2.jpg"])
    assert list(rows(found)) == ["ants/1.jpg", "bees/2.jpg"]
    assert found.notes[0] == "2 files were given more than once and count once."
    assert list(found.order) == [0, 1]  # where each stood first
    assert list(found.entries) == [0, 1, 0, 1]


def test_a_glob(tree: Tree):
    root = tree("ants/1.jpg", "ants/deep/2.png", "bees/3.jpg", "bees/a.xml")
    assert list(rows(find(str(root / "*" / "*.jpg")))) == ["ants/1.jpg", "bees/3.jpg"]
    found = find(str(root / "**" / "*.*"))
    assert list(rows(found)) == ["ants/1.jpg", "ants/deep/2.png", "bees/3.jpg"]
    assert found.ignored == 1
    with pytest.raises(InputError, match="no file matches"):
        find(str(root / "*.tif"))


def test_a_file_whose_name_is_a_pattern(tree: Tree):
    root = tree("a[1].jpg", "a1.jpg")
    assert list(rows(find(str(root / "a[1].jpg")))) == ["a[1].jpg"]


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\0"])
def test_a_list_on_stdin(tree: Tree, monkeypatch: pytest.MonkeyPatch, ends: bytes):
    root = tree("ants/1.jpg", "bees/2.jpg")
    paths = [root / "bees" / "2.jpg", root / "ants" / "1.jpg", root / "ants" / "gone.jpg"]
    stdin(monkeypatch, ends.join(os.fsencode(path) for path in paths) + ends)
    found = find("-")
    assert rows(found) == {
        "ants/1.jpg": ("ants", ""),
        "ants/gone.jpg": ("ants", ""),
        "bees/2.jpg": ("bees", ""),
    }
    assert [s.fault for s in found.samples] == [None, "no such file", None]
    assert list(found.order) == [1, 2, 0]


def test_an_address_in_a_list_is_a_sample(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree("ants/1.jpg", "bees/2.jpg")
    lines = [str(root / "bees/2.jpg"), "https://x.org/y.jpg", str(root / "ants/1.jpg")]
    stdin(monkeypatch, "\n".join(lines).encode())
    found = find("-")
    assert rows(found) == {
        "ants/1.jpg": ("ants", ""),
        "bees/2.jpg": ("bees", ""),
        "https://x.org/y.jpg": (None, ""),
    }
    assert [s.fault for s in found.samples] == [None, None, None]
    assert isinstance(found.samples[2].source, RemoteObject)
    assert list(found.entries) == [1, 2, 0]
    stdin(monkeypatch, b"ssh://host/1.jpg")
    assert find("-").samples[0].fault == "ssh:// is not read"


def closed() -> io.TextIOWrapper:
    file = io.TextIOWrapper(io.BytesIO())
    file.close()
    return file


@pytest.mark.parametrize("file", [None, closed(), io.StringIO()], ids=["none", "closed", "text"])
def test_no_stdin(monkeypatch: pytest.MonkeyPatch, file: object):
    monkeypatch.setattr(sys, "stdin", file)
    with pytest.raises(InputError, match="stdin cannot be read"):
        find("-")


def test_nothing_on_stdin(monkeypatch: pytest.MonkeyPatch):
    stdin(monkeypatch, b"\n")
    with pytest.raises(InputError, match="stdin is empty"):
        find("-")


def test_a_missing_path(tree: Tree):
    root = tree("ants-bees/1.jpg")
    with pytest.raises(InputError, match=r"did you mean .*ants-bees") as caught:
        find(root / "Ant-bees")
    assert "there is no" in caught.value.what
    assert (
        find([root / "ants-bees" / "1.jpg", root / "gone.jpg"]).samples[1].fault == "no such file"
    )
    with pytest.raises(InputError, match="there is no"):
        find([root / "ants-bees", root / "gone.jpg"], missing="error")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("photos.tar", "is no tar"),
        ("photos.tar.gz", "is no tar"),
        ("notes.txt", "not an image"),
        ("features.h5", "not an image"),
    ],
)
def test_files_that_are_something_else(tree: Tree, name: str, reason: str):
    root = tree("1.jpg", name)
    with pytest.raises(InputError, match=reason):
        find(root / name)


def test_other_files_among_several_are_ignored_and_counted(tree: Tree):
    root = tree("1.jpg", "1.xml", "notes")
    found = find(sorted(str(path) for path in root.iterdir()))
    assert (list(rows(found)), found.ignored) == (["1.jpg"], 2)


@pytest.mark.parametrize("address", ["https://x.org/a.jpg", "s3://bucket/photos", ["gs://x/a.jpg"]])
def test_addresses_need_fsspec(monkeypatch: pytest.MonkeyPatch, address: object):
    """The extra is not needed for anything else, and its line is told."""
    door.filesystem.cache_clear()
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingExtraError, match="needs the package fsspec") as caught:
        find(address)
    assert "pip install 'bottleneck-probe[remote]'" in caught.value.next


@pytest.mark.parametrize("address", ["ssh://host/a.jpg", "file://elsewhere/a.jpg"])
def test_addresses_that_are_not_read(address: str):
    with pytest.raises(InputError, match=r"is not read|of the computer elsewhere"):
        find(address)


def test_a_table_among_images(tree: Tree):
    root = tree("1.jpg", "labels.csv")
    with pytest.raises(InputError, match="--labels"):
        find([root / "1.jpg", root / "labels.csv"])


@pytest.mark.parametrize("nothing", [[], (), ""])
def test_nothing(nothing: object):
    with pytest.raises(InputError, match="empty"):
        find(nothing)


def test_root_gives_the_classes(tree: Tree):
    root = tree("ants/1.jpg", "ants/2.jpg")
    found = find(root / "ants", root=root)
    assert rows(found) == {"ants/1.jpg": ("ants", ""), "ants/2.jpg": ("ants", "")}


def test_labels_as_a_list(tree: Tree):
    root = tree("b.jpg", "a.jpg")
    found = find([root / "b.jpg", root / "a.jpg"], labels=["bee", None])
    assert rows(found) == {"a.jpg": (None, ""), "b.jpg": ("bee", "")}
    assert found.notes == []
    with pytest.raises(InputError, match="3 labels for 2 images"):
        find([root / "b.jpg", root / "a.jpg"], labels=["x", "y", "z"])
    with pytest.raises(InputError, match="two labels"):
        find([root / "b.jpg", root / "b.jpg"], labels=["x", "y"])
    with pytest.raises(InputError, match="a list of images"):
        find([root], labels=["x", "y"])


def test_repeats_are_known(tree: Tree, monkeypatch: pytest.MonkeyPatch):
    root = tree("a.jpg", "b.jpg", "no.xml")
    names = ["b.jpg", "a.jpg", "b.jpg", "no.xml", "gone.jpg", "a.jpg", "gone.jpg"]
    expected = ["b.jpg", "a.jpg", "b.jpg", "gone.jpg", "a.jpg", "gone.jpg"]
    stdin(monkeypatch, "\n".join(str(root / name) for name in names).encode())
    for found in (find([root / name for name in names]), find("-")):
        assert [found.samples[i].path for i in found.entries] == expected
        assert len(found.samples) == 3
    assert list(find(root).entries) == [0, 1]


@pytest.mark.parametrize("kind", [str, object])
def test_arrays_of_paths(tree: Tree, kind: type):
    root = tree("b.jpg", "a.jpg")
    paths = np.array([str(root / "b.jpg"), str(root / "a.jpg")], dtype=kind)
    found = find(paths, labels=np.array(["bee", "ant"]))
    assert rows(found) == {"a.jpg": ("ant", ""), "b.jpg": ("bee", "")}
    assert list(found.entries) == [1, 0]
    assert find(np.array([root / "a.jpg"], dtype=object)).samples[0].source == str(root / "a.jpg")


def test_a_column_of_paths(tree: Tree):
    pd = pytest.importorskip("pandas")
    root = tree("b.jpg", "a.jpg")
    column = pd.Series([str(root / "b.jpg"), str(root / "a.jpg")], index=[7, 9])
    assert list(rows(find(column))) == ["a.jpg", "b.jpg"]


def test_columns_without_a_table(tree: Tree):
    with pytest.raises(InputError, match="no table"):
        find(tree("1.jpg"), path_column="file")


@settings(deadline=None, max_examples=40)
@given(st.permutations(["ants/1.jpg", "ants/2.jpg", "bees/1.jpg", "\u00e9/1.jpg", "z.jpg"]))
def test_order_leads_back_to_the_input(tmp_path_factory: pytest.TempPathFactory, names: list):
    root = tmp_path_factory.mktemp("order")
    for name in names:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    found = find([root / name for name in names])
    answer = {place: s.path for place, s in zip(found.order, found.samples, strict=True)}
    assert [answer[i] for i in range(len(names))] == names
    assert [found.samples[i].path for i in found.entries] == names


def test_finding_imports_nothing_heavy(tree: Tree):
    root = tree("a/1.jpg")
    code = (
        "import sys; from bottleneck_probe.images.find import find; find(sys.argv[1]);"
        "print({'torch', 'pandas', 'PIL', 'sklearn', 'h5py', 'pyarrow'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
