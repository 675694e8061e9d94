"""Labels that are not one class: what a table's columns say, what is unknown, and what is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.images.find import find
from hypothesis import given, settings
from hypothesis import strategies as st

Tree = Callable[..., Path]
NAN = float("nan")


def table(root: Path, text: str) -> Path:
    path = root / "table.csv"
    path.write_text(text)
    return path


def of(found: object) -> tuple[str, list[str], list[list[float]]]:
    targets = found.columns.targets
    return targets.task, targets.names, targets.values.tolist()


def same(a: object, b: object) -> bool:
    return np.array_equal(np.array(a, float), np.array(b, float), equal_nan=True)


def test_columns_of_zero_and_one_are_labels_and_nothing_is_unknown(tree: Tree):
    root = tree("1.jpg", "2.jpg", "3.jpg")
    text = "path,dent,scratch,part\n3.jpg,1,,x\n1.jpg,0,1,y\n2.jpg,,,z\n"
    found = find(table(root, text), label_columns=["scratch", "dent"])
    task, names, values = of(found)
    assert (task, names) == ("multilabel", ["dent", "scratch"])
    assert same(values, [[0, 1], [NAN, NAN], [1, NAN]])  # ordered by path
    assert [s.label for s in found.samples] == [None] * 3
    assert [dict(s.meta) for s in found.samples] == [{"part": p} for p in "yzx"]
    assert any("1 is yes and 0 is no; 3 of 6 cells are empty" in note for note in found.notes)


def test_a_pattern_names_several_columns(tree: Tree):
    root = tree("1.jpg")
    found = find(table(root, "path,is_a,is_b,c\n1.jpg,1,0,7\n"), label_columns=["is_*"])
    assert of(found)[1] == ["is_a", "is_b"]
    assert dict(found.samples[0].meta) == {"c": 7.0}


@pytest.mark.parametrize("cell", ["-1", "2", "maybe", "0.5", "nan"])
def test_other_cells_are_refused_with_their_line(tree: Tree, cell: str):
    root = tree("1.jpg", "2.jpg")
    text = f"path,a,b\n1.jpg,1,0\n2.jpg,{cell},1\n"
    with pytest.raises(InputError) as caught:
        find(table(root, text), label_columns=["a", "b"])
    assert repr(cell) in caught.value.what
    assert "line 3" in caught.value.where


def test_lists_are_labels_and_it_is_said(tree: Tree):
    root = tree("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    text = "path,label\n1.jpg,car|person\n2.jpg,person\n3.jpg,|\n4.jpg,\n"
    found = find(table(root, text))
    assert of(found)[:2] == ("multilabel", ["car", "person"])
    assert same(of(found)[2], [[1, 1], [0, 1], [0, 0], [NAN, NAN]])
    told = " ".join(found.notes)
    assert "'car|person' are taken as lists of labels" in told
    assert "1 rows without a list are unlabelled" in told


def test_a_stated_class_is_not_taken_apart(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    found = find(table(root, "path,label\n1.jpg,a|b\n2.jpg,c\n"), task="classification")
    assert found.columns.targets is None
    assert [s.label for s in found.samples] == ["a|b", "c"]


def test_one_column_of_zero_and_one_is_one_label_when_it_is_asked_for(tree: Tree):
    root = tree("1.jpg", "2.jpg")
    written = table(root, "path,dent\n1.jpg,1\n2.jpg,0\n")
    assert of(find(written, label_columns=["dent"], task="multilabel"))[1:] == (
        ["dent"],
        [[1.0], [0.0]],
    )
    plain = find(written, label_columns=["dent"])
    assert [s.label for s in plain.samples] == ["1", "0"]


def numbers(root: Path, values: list[str]) -> Path:
    lines = "".join(f"{i:02}.jpg,{value}\n" for i, value in enumerate(values))
    return table(root, f"path,price\n{lines}")


def test_many_fractions_are_a_quantity_and_it_is_said(tree: Tree):
    values = [f"{i / 7:.3f}" for i in range(25)] + [""]
    root = tree(*(f"{i:02}.jpg" for i in range(26)))
    found = find(numbers(root, values), label_columns=["price"])
    assert of(found)[:2] == ("regression", ["price"])
    assert same(of(found)[2], np.array([[float(v or "nan")] for v in values], np.float32))
    assert any("taken as a quantity; --task classification" in note for note in found.notes)


def test_many_whole_numbers_stay_classes_and_the_other_reading_is_named(tree: Tree):
    """They may be the numbers of classes; silence would cost the user a run."""
    root = tree(*(f"{i:02}.jpg" for i in range(25)))
    found = find(numbers(root, [str(i) for i in range(25)]), label_columns=["price"])
    assert found.columns.targets is None
    assert any("--task regression takes them as a quantity" in note for note in found.notes)
    stated = find(
        numbers(root, [str(i) for i in range(25)]), label_columns=["price"], task="regression"
    )
    assert of(stated)[2][7] == [7.0]


def test_what_is_no_number_is_named(tree: Tree):
    root = tree("00.jpg", "01.jpg", "02.jpg")
    for text in ("many", "nan", "1_0", "1e99"):
        with pytest.raises(InputError, match=f"no numbers: '{text}'"):
            find(numbers(root, ["1.5", text, ""]), label_columns=["price"], task="regression")


def test_several_columns_are_neither_classes_nor_a_number(tree: Tree):
    root = tree("1.jpg")
    for task in ("classification", "regression"):
        with pytest.raises(InputError, match=f"2 label columns for {task}: a, b"):
            find(table(root, "path,a,b\n1.jpg,1,0\n"), label_columns=["a", "b"], task=task)


def test_a_label_that_reads_as_two_is_refused(tree: Tree):
    root = tree("1.jpg")
    with pytest.raises(InputError, match="a label is called 'a|b'".replace("|", r"\|")):
        find(table(root, "path,a|b,c\n1.jpg,1,0\n"), label_columns=["a|b", "c"])


def test_rows_that_contradict_each_other_are_shown(tree: Tree):
    root = tree("1.jpg")
    with pytest.raises(InputError, match="two labels, 'a 1, b 0' and 'a 1, b 1'"):
        find(table(root, "path,a,b\n1.jpg,1,0\n1.jpg,1,1\n"), label_columns=["a", "b"])


def test_a_joined_table_gives_targets_and_an_image_without_a_row_knows_nothing(tree: Tree):
    root = tree("x/1.jpg", "x/2.jpg", "y/3.jpg")
    labels = root.parent / "labels.csv"
    labels.write_text("path,a,b\nx/2.jpg,1,0\ny/3.jpg,0,\n")
    found = find(str(root), labels=str(labels), label_columns=["a", "b"])
    assert same(of(found)[2], [[NAN, NAN], [1, 0], [0, NAN]])


def test_lists_of_labels_from_memory():
    images = [np.zeros((4, 4, 3), np.uint8)] * 4
    found = find(images, labels=[["a", "b"], ["b"], [], None])
    assert same(of(found)[2], [[1, 1], [0, 1], [0, 0], [NAN, NAN]])


def test_folders_are_classes_whatever_they_are_called(tree: Tree):
    root = tree("a|b/1.jpg", "c/2.jpg")
    assert find(str(root)).columns.targets is None
    assert of(find(str(root), task="multilabel"))[1] == ["a", "b", "c"]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sets(st.sampled_from("abcd")), min_size=1, max_size=8).filter(any),
)
def test_lists_and_columns_say_the_same(tmp_path_factory, sets: list[set[str]]):
    """Except that a list cannot say that one label is unknown."""
    root = tmp_path_factory.mktemp("t")
    paths = [f"{i}.jpg" for i in range(len(sets))]
    names = sorted(set().union(*sets))
    head = "path," + ",".join(f"is {name}" for name in names)
    cells = [",".join(str(int(name in each)) for name in names) for each in sets]
    (root / "columns.csv").write_text(
        "\n".join([head, *(f"{p},{c}" for p, c in zip(paths, cells, strict=True))])
    )
    lists = ["|".join(sorted(each)) or "|" for each in sets]
    (root / "lists.csv").write_text(
        "\n".join(["path,label", *(f"{p},{t}" for p, t in zip(paths, lists, strict=True))])
    )
    a = find(
        str(root / "columns.csv"), label_columns=["is *"], path_column="path", task="multilabel"
    )
    b = find(str(root / "lists.csv"), task="multilabel")
    assert of(a)[1] == [f"is {name}" for name in names]
    assert of(a)[2] == of(b)[2]
