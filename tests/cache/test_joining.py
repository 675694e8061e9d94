import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache.features import Features
from bottleneck_probe.cache.format import Header, Rows
from bottleneck_probe.cache.joining import concat, join
from bottleneck_probe.errors import CacheError, RecipeError
from bottleneck_probe.recipe import fingerprint
from bottleneck_probe.reporter import Silent
from hypothesis import given, settings
from hypothesis import strategies as st

RECIPE = {"backbone": "x", "outputs": [{"node": "penultimate", "pooling": "none"}]}
LAYER3, LAYER2 = ({"node": node, "pooling": "avg"} for node in ("layer3", "layer2"))


def make(items, root="/a", recipe=RECIPE, d=2, meta=None, layers=(), **changes):
    """Features from {path: (image number, label)}; equal numbers are equal images.

    Each layer has length 3, and as values the image's number plus 100 times its place.
    """
    recipe = {**recipe, "outputs": [*recipe["outputs"], *layers]}
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
    header = Header(recipe, {}, fingerprint(recipe, recipe["outputs"][0]), root)
    further = {
        f"{layer['node']}:{layer['pooling']}": X[:, [0, 0, 0]] + (100 if layer is LAYER3 else 200)
        for layer in layers
    }
    return Features(header, rows, X, layers=further)


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


@pytest.mark.parametrize(
    ("roots", "root", "prefixes"),
    [
        (("/data/a", "/data/b"), "/data", "a/ b/"),
        (("/data", "/data/b/c"), "/data", " b/c/"),
        (("/data/a", "/srv/b"), "/", "data/a/ srv/b/"),
        (("/data/ab", "/data/ac"), "/data", "ab/ ac/"),
        (("C:/data/a", "C:/data/b"), "C:/data", "a/ b/"),
        (
            ("C:/a", "C:/b"),
            "C:/",
            "a/ b/",
        ),  # `C:` alone is the folder that is the current one there
        (("C:/a", "D:/a"), "", "0/ 1/"),
        (("C:/a", "/a"), "", "0/ 1/"),
        (("//server/one/a", "//server/two/b"), "//server", "one/a/ two/b/"),
        (("//server/one", "//other/one"), "", "0/ 1/"),
        (("//server/one", "/server/two"), "", "0/ 1/"),
        (("s3://bucket/a", "s3://bucket/b/c"), "s3://bucket", "a/ b/c/"),
        (("s3://bucket", "s3://bucket/b"), "s3://bucket", " b/"),
        (("s3://bucket/a", "s3://other/a"), "", "0/ 1/"),
        (("s3://bucket/a", "gs://bucket/b"), "", "0/ 1/"),
        (("s3://bucket/a", "/data/b"), "", "0/ 1/"),
        (("photos/a", "photos/b"), "", "0/ 1/"),
        (("/data/a", ""), "", "0/ 1/"),
    ],
)
def test_the_folder_above_all_roots_leads_to_the_same_files(roots, root, prefixes):
    """Of any system and any store; where there is none, paths are told apart by a number."""
    several = [make({"1": (n, "bee")}, each) for n, each in enumerate(roots)]
    for each in (several, several[::-1]):
        both = join(each)
        assert both.root == root
        assert set(both.paths) == {f"{prefix}1" for prefix in prefixes.split(" ")}
        if root:
            assert sorted(both.files) == sorted(name for one in several for name in one.files)


@pytest.mark.parametrize("roots", [("/data/a", "/data/b"), ("s3://b/a", "/data/b")])
def test_of_two_roots_an_image_that_was_edited_below_one_is_there_once(roots):
    """Whatever else is joined with them: the later one, as where all are of one root."""
    a, b = roots
    several = [make({"1": (1, "bee")}, a), make({"1": (9, "bee")}, b), make({"1": (2, "ant")}, a)]
    names = ("a/1", "b/1") if a == "/data/a" else ("0/1", "1/1")
    assert table(join(several)) == [(names[0], "ant", 2), (names[1], "bee", 9)]
    assert table(join([several[0], several[2]])) == [("1", "ant", 2)]


def test_an_image_with_a_url_of_its_own_is_below_no_root():
    """A table may name images anywhere; its own folder has nothing to do with where they are."""
    url = "https://host/1.jpg"
    a = make({"1": (1, "bee"), url: (2, "bee")}, "/data/a", quarantine=[("s3://b/x", "empty")])
    b = make({"1": (3, "ant"), url: (4, "ant")}, "/data/b", quarantine=[("x", "empty")])
    both = join([a, b])
    assert table(both) == [("a/1", "bee", 1), ("b/1", "ant", 3), (url, "ant", 4)]
    assert both.quarantine == [("b/x", "empty"), ("s3://b/x", "empty")]


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


def test_outputs_that_all_files_have_are_joined_and_the_others_named(tmp_path):
    a = make({"1": (1, "bee"), "3": (3, "ant")}, layers=[LAYER2, LAYER3])
    b = make({"0": (4, "ant"), "2": (2, "bee")}, layers=[LAYER3])
    reporter = Silent()
    for both in (join([a, b], reporter), join([b, a])):
        assert both.outputs == ["penultimate:none", "layer3:avg"]
        assert both.fingerprint == a.fingerprint
        assert both.recipe == b.recipe
        assert both.features[:, 0].tolist() == [4, 1, 2, 3]
        layer = both.output("layer3")
        assert layer.fingerprint == b.output("layer3").fingerprint
        np.testing.assert_array_equal(layer.features, both.features[:, [0, 0, 0]] + 100)
        part = both.subset([3, 0])
        assert part.output("layer3").features[:, 0].tolist() == [103, 104]
        saved = bp.open(both.save(tmp_path / "x.h5"))
        np.testing.assert_array_equal(saved.output("layer3").features, layer.features[:])
    assert reporter.notes == ["outputs that not all of the 2 files have are left out: layer2:avg"]
    assert join([a]).outputs == a.outputs


def test_outputs_of_files_on_disk_are_joined_without_being_read(tmp_path):
    files = [
        bp.open(make(items, layers=[LAYER3]).save(tmp_path / name))
        for name, items in (("a.h5", {"1": (1, "bee")}), ("b.h5", {"2": (2, "bee")}))
    ]
    both = join(files)
    (tmp_path / "b.h5").unlink()
    assert both.features[:, 0].tolist() == [1, 2]
    layer = both.output("layer3").features
    assert layer[0].tolist() == [101, 101, 101]
    with pytest.raises(CacheError):
        layer[1]


def test_the_first_outputs_are_joined_and_another_order_is_told(tmp_path):
    a = make({"1": (1, "bee")}, layers=[LAYER3])
    reversed_recipe = {**RECIPE, "outputs": [LAYER3, *RECIPE["outputs"]]}
    header = Header(reversed_recipe, {}, fingerprint(reversed_recipe, LAYER3), "/a")
    first = a.output("layer3").features
    b = Features(header, a.rows, first, layers={"penultimate:none": a.features})
    b = bp.open(b.save(tmp_path / "b.h5"))
    with pytest.raises(
        RecipeError, match=r"differs: outputs\.0\.node, outputs\.0\.pooling\n"
    ) as caught:
        join([a, b])
    assert f"{tmp_path / 'b.h5'}::penultimate:none is what" in caught.value.next
    assert len(join([a, b.output("penultimate")])) == 1
    with pytest.raises(RecipeError):
        join([a.output("layer3"), a.output("penultimate")])


def test_one_recipe_of_two_lengths_is_an_error_and_no_traceback():
    with pytest.raises(CacheError, match="d = 2 in features in memory, d = 3"):
        join([make({"1": (1, "bee")}, d=2), make({"2": (1, "bee")}, d=3)])


def test_a_layer_of_another_length_or_recipe_is_not_joined():
    a = make({"1": (1, "bee")}, layers=[LAYER3])
    b = make({"2": (2, "bee")}, layers=[LAYER3])
    b.layers["layer3:avg"] = b.layers["layer3:avg"][:, :2]
    assert join([a, b]).outputs == ["penultimate:none"]
    c = make({"2": (2, "bee")}, layers=[{**LAYER3, "p": 3}])
    assert join([a, c]).outputs == ["penultimate:none"]


VIEWS = st.dictionaries(
    st.tuples(st.sampled_from("abc"), st.integers(0, 2)), st.integers(0, 9), min_size=1, max_size=9
)


@settings(deadline=None, max_examples=60)
@given(st.lists(VIEWS, min_size=2, max_size=3))
def test_a_row_is_its_path_and_view(tables):
    """Joined, every (path, view) stands once, with what the last of the files says of it."""

    def make_views(t):
        ordered = sorted(t.items())
        made = make({i: (number, None) for i, (_, number) in enumerate(ordered)}, layers=[LAYER3])
        made.rows.paths = [path for (path, _), _ in ordered]
        made.rows.view = np.array([view for (_, view), _ in ordered], np.int32)
        return made

    both = join([make_views(t) for t in tables])
    merged = sorted({place: number for t in tables for place, number in t.items()}.items())
    places = list(zip(both.paths, both.views.tolist(), strict=True))
    assert places == [place for place, _ in merged]
    assert both.views.dtype == np.int32
    assert both.features[:, 0].tolist() == [number for _, number in merged]
    assert both.output("layer3").features[:, 2].tolist() == [100 + number for _, number in merged]


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


def test_columns_of_chosen_outputs_are_joined_whatever_else_a_file_has():
    a = make({"1": (1, "bee"), "2": (2, "ant")}, layers=[LAYER2, LAYER3])
    plain = make({"1": (1, "bee"), "2": (2, "ant")})
    wide = concat([a, a.output("layer3")])
    np.testing.assert_array_equal(wide.features, [[1, 1, 101, 101, 101], [2, 2, 102, 102, 102]])
    assert wide.outputs == ["concat:none"]
    assert wide.fingerprint == concat([plain, a.output("layer3")]).fingerprint
    assert wide.fingerprint != concat([plain, a.output("layer2")]).fingerprint


def test_columns_of_views_are_joined_view_by_view():
    items = {0: (1, None), 1: (1, None)}
    a, b = (make(items, view=np.array(views, np.int32)) for views in ([0, 1], [1, 0]))
    b.features[:, 0] = [71, 70]
    assert concat([a, b]).features[:, 2].tolist() == [70, 71]
    with pytest.raises(CacheError, match="lacks 1 of 2"):
        concat([a, b.subset([0])])
