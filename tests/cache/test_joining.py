import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache.features import Features
from bottleneck_probe.cache.format import Header, Rows
from bottleneck_probe.cache.joining import concat, join
from bottleneck_probe.errors import CacheError, RecipeError
from bottleneck_probe.recipe import fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

RECIPE = {"backbone": "x", "outputs": [{"node": "penultimate", "pooling": "none"}]}


def make(items, root="/a", recipe=RECIPE, d=2, meta=None, **changes):
    """Features from {path: (image number, label)}; equal numbers are equal images."""
    numbers = [number for number, _ in items.values()]
    classes = sorted({label for _, label in items.values() if label})
    rows = Rows(
        list(items),
        np.array([[number] * 32 for number in numbers], np.uint8).reshape(-1, 32),
        np.array([classes.index(lb) if lb else -1 for _, lb in items.values()], np.int32),
        [""] * len(items),
        classes,
        meta or {},
        **changes,
    )
    X = np.array([[number] * d for number in numbers], np.float32).reshape(-1, d)
    return Features(Header(recipe, {}, fingerprint(recipe, recipe["outputs"][0]), root), rows, X)


def table(features):
    return [
        (path, label, int(x[0]))
        for path, label, x in zip(features.paths, features.labels, features.features, strict=True)
    ]


def test_rows_are_joined_equal_ones_once_and_classes_matched_by_name(tmp_path):
    a = make({"1": (1, "bee"), "2": (2, "bee")})
    b = make({"0": (3, "ant"), "2": (2, "bee"), "3": (4, "wasp")})
    both = join([a, b])
    assert table(both) == [("0", "ant", 3), ("1", "bee", 1), ("2", "bee", 2), ("3", "wasp", 4)]
    assert both.classes == ["ant", "bee", "wasp"]
    assert both.root == "/a"
    assert (both.keys[:, 0] == both.features[:, 0]).all()
    assert table(bp.open(both.save(tmp_path / "x.h5"))) == table(both)


def test_an_edited_file_under_one_root_is_there_once_as_the_later_one():
    a, b = make({"1": (1, "bee")}), make({"1": (2, "ant")})
    assert table(join([a, b])) == [("1", "ant", 2)]
    assert table(join([b, a])) == [("1", "bee", 1)]


def test_equal_names_under_different_roots_are_different_files():
    a, b = make({"1": (1, "bee")}, "/data/a"), make({"1": (2, "ant")}, "/data/b")
    both = join([a, b])
    assert table(both) == [("a/1", "bee", 1), ("b/1", "ant", 2)]
    assert both.root == "/data"
    no_root = join([make({"1": (1, "bee")}, ""), make({"1": (2, "ant")}, "")])
    assert table(no_root) == [("0/1", "bee", 1), ("1/1", "ant", 2)]


def test_the_same_folder_in_two_places_is_joined_by_path_and_key():
    both = join([make({"1": (1, "bee")}, "/home/a"), make({"1": (1, "bee")}, "/mnt/a")])
    assert table(both) == [("1", "bee", 1)]
    assert both.root == ""


def test_a_label_beside_none_is_kept_and_two_labels_are_an_error():
    none, bee, ant = (make({"1": (1, label)}) for label in (None, "bee", "ant"))
    assert table(join([none, bee])) == table(join([bee, none])) == [("1", "bee", 1)]
    with pytest.raises(CacheError, match=r"1 has two labels: 'bee' .* 'ant'"):
        join([bee, ant])


def test_columns_that_only_one_has_are_missing_in_the_other():
    a = make({"1": (1, "bee")}, meta={"w": np.array([2.0]), "t": ["x"], "m": np.array([1.0])})
    b = make({"2": (2, "bee")}, meta={"m": ["one"]})
    meta = join([a, b]).meta
    np.testing.assert_array_equal(meta["w"], [2.0, np.nan])
    assert meta["t"].tolist() == ["x", ""]
    assert meta["m"].tolist() == ["1.0", "one"]


def test_quarantine_and_views_are_kept():
    a = make({"1": (1, "bee")}, quarantine=[("x", "empty")])
    b = make({"1": (1, "bee")}, view=np.array([1], np.int32))
    both = join([a, b])
    assert both.quarantine == [("x", "empty")]
    assert both.rows.view.tolist() == [0, 1]


def test_different_recipes_are_never_joined():
    other = make({"1": (1, "bee")}, recipe={**RECIPE, "backbone": "y"})
    with pytest.raises(RecipeError, match="differs: backbone") as caught:
        join([make({"1": (1, "bee")}), other])
    assert "bottleneck compare" in caught.value.next
    assert "--concat" in caught.value.next


@settings(deadline=None, max_examples=80)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), max_size=6),
        min_size=1,
        max_size=4,
    )
)
def test_under_one_root_joining_is_updating_a_dict(tables):
    """Feature, key and label of a path always come from the same row."""
    several = [make({p: (i, f"c{i}") for p, i in sorted(t.items())}) for t in tables]
    merged = {path: number for t in tables for path, number in t.items()}
    both = join(several)
    assert table(both) == [(p, f"c{i}", i) for p, i in sorted(merged.items())]
    assert (both.keys[:, 0] == both.features[:, 0]).all()


def test_concat_joins_columns_by_key_whatever_the_names():
    a = make({"1": (1, "bee"), "2": (2, "ant")}, d=2)
    b = make({"x": (2, None), "y": (7, None), "z": (1, None)}, d=3, recipe={**RECIPE, "v": 2})
    wide = concat([a, b])
    np.testing.assert_array_equal(wide.features, [[1] * 5, [2] * 5])
    assert wide.labels.tolist() == ["bee", "ant"]
    assert wide.fingerprint not in (a.fingerprint, b.fingerprint)
    assert wide.fingerprint != concat([b.subset([0, 2]), a]).fingerprint
    with pytest.raises(CacheError, match=r"lacks 1 of 3 images .* y"):
        concat([b, a])
