"""Labels of a table for images that a folder names."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.images.find import find

Tree = Callable[..., Path]


def labels(root: Path, text: str) -> Path:
    path = root.parent / "labels.csv"
    path.write_text(text)
    return path


def test_by_path_with_the_other_columns(tree: Tree):
    root = tree("a/1.jpg", "a/2.jpg", "b/3.jpg", "x.xml")
    table = labels(root, "path,label,split,age\na/2.jpg,wasp,test,7\nb/3.jpg,bee,,8\ngone,x,,9\n")
    found = find(root, labels=table)
    assert {s.path: (s.label, s.split) for s in found.samples} == {
        "a/1.jpg": (None, ""),  # the folder's name is no label when a table gives them
        "a/2.jpg": ("wasp", "test"),
        "b/3.jpg": ("bee", ""),
    }
    assert math.isnan(found.samples[0].meta["age"])
    assert found.samples[1].meta["age"] == 7
    assert "2 of 3 images have a row; 1 rows name no image." in found.notes[0]
    assert found.ignored == 1


@pytest.mark.parametrize("value", ["a/1.jpg", "a/1", "1.jpg", "1", "./a/1.jpg", "ROOT/a/1.jpg"])
def test_every_way_to_name_an_image(tree: Tree, value: str):
    root = tree("a/1.jpg", "b/2.jpg")
    table = labels(root, f"path,label\n{value.replace('ROOT', str(root))},bee\n")
    assert [s.label for s in find(root, labels=table).samples] == ["bee", None]


def test_a_column_that_names_them(tree: Tree):
    root = tree("train/1.jpg", "train/2.jpg")
    found = find(root, labels=labels(root, "id,breed\n2,x\n1,y\n"), label_columns=["breed"])
    assert [(s.label, s.split) for s in found.samples] == [("y", "train"), ("x", "train")]
    assert "the column id" in found.notes[0]


def test_spaces_and_letter_case(tree: Tree):
    root = tree("a/1.jpg", "a/2.jpg", "a/3.jpg")
    found = find(root, labels=labels(root, "Path,Label,SPLIT\na/1.jpg ,ant,Test \n 2,   ,\n"))
    assert [(s.label, s.split) for s in found.samples] == [("ant", "test"), (None, ""), (None, "")]
    assert [set(s.meta) for s in found.samples] == [set()] * 3
    assert list(found.entries) == [0, 1, 2]


def test_no_row_matches(tree: Tree):
    root = tree("a/1.jpg", "a/2.jpg")
    with pytest.raises(InputError, match="none of the table's 3 rows names one of the 2 images"):
        find(root, labels=labels(root, "path,label\nx,a\ny,b\nz,c\n"))


def test_contradictions(tree: Tree):
    root = tree("a/1.jpg", "b/1.jpg", "b/2.jpg")
    with pytest.raises(InputError, match="two images for one id"):
        find(root, labels=labels(root, "path,label\n1,x\n"))
    with pytest.raises(InputError, match="two labels") as caught:
        find(root, labels=labels(root, "path,label\nz,q\nb/2.jpg,x\nb/2,y\n"))
    assert caught.value.where.endswith("lines 3, 4")
    with pytest.raises(InputError, match="labels were given twice"):
        find(labels(root, "path\na/1.jpg\n"), labels=["x"])


def test_a_data_frame(tree: Tree):
    pd = pytest.importorskip("pandas")
    root = tree("a/1.jpg", "a/2.jpg")
    frame = pd.DataFrame({"path": ["a/1.jpg", "a/2.jpg"], "label": ["NA", None]})
    assert [s.label for s in find(root, labels=frame).samples] == ["NA", None]


def test_names_with_a_percent_sign(tree: Tree):
    root = tree("a/50%.jpg")
    for written in ("a/50%.jpg", "a/50%25.jpg", "50%"):
        found = find(root, labels=labels(root, f"path,label\n{written},x\n"))
        assert found.samples[0].label == "x"
