"""Merging on disk is `join` in memory: the same rows by the same rules, whatever the form."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import merging
from bottleneck_probe.cache.features import Features
from bottleneck_probe.cache.format import Header, Rows
from bottleneck_probe.cache.joining import join
from bottleneck_probe.cache.merging import environments, merge
from bottleneck_probe.cache.subsetting import subset
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.recipe import fingerprint
from bottleneck_probe.reporter import Silent
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RECIPE = {"backbone": "x", "outputs": [{"node": "penultimate", "pooling": "none"}]}
LAYER = {"node": "layer3", "pooling": "avg"}


pytestmark = pytest.mark.usefixtures("opened_here")


def make(items, root="/a", *, environment=None, store="float32", layer=False, **changes):
    """Features from {path: (image number, label)}; equal numbers are equal images."""
    recipe = {**RECIPE, "outputs": [*RECIPE["outputs"], *([LAYER] if layer else [])]}
    items = dict(sorted(items.items()))
    numbers = [number for number, _ in items.values()]
    classes = sorted({label for _, label in items.values() if label})
    rows = Rows(
        list(items),
        np.array([[number] * 32 for number in numbers], np.uint8).reshape(-1, 32),
        np.array([classes.index(lb) if lb else -1 for _, lb in items.values()], np.int32),
        [""] * len(items),
        classes,
        **changes,
    )
    X = np.array([[number, -number] for number in numbers], np.float32).reshape(-1, 2)
    header = Header(
        recipe, environment or {}, fingerprint(recipe, recipe["outputs"][0]), root, store
    )
    layers = {"layer3:avg": X[:, [0, 0, 0]] + 100} if layer else {}
    return Features(header, rows, X, layers=layers)


def table(features):
    return [
        (path, label, int(x[0]), int(key[0]))
        for path, label, x, key in zip(
            features.paths, features.labels, features.features[:], features.keys, strict=True
        )
    ]


@settings(
    deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 9), min_size=1, max_size=6),
        min_size=2,
        max_size=4,
    )
)
def test_a_merged_file_is_what_join_makes(tmp_path, tables):
    several = [make({p: (i, f"c{i}") for p, i in t.items()}, layer=True) for t in tables]
    files = [each.save(tmp_path / f"{i}.h5") for i, each in enumerate(several)]
    result = merge(files, tmp_path / "all.h5", force=True)
    wanted = {path: number for t in tables for path, number in t.items()}
    assert table(result.features) == [(p, f"c{i}", i, i) for p, i in sorted(wanted.items())]
    assert table(result.features) == table(join(several))
    assert result.features.output("layer3").features[:, 0].tolist() == [
        100 + i for _, i in sorted(wanted.items())
    ]
    total = sum(map(len, tables))
    assert result.repeated + result.replaced + len(result.features) == total
    assert verify(result.output).ok


def test_environments_quarantine_and_what_was_replaced_are_kept_and_told(tmp_path):
    a = make(
        {"1": (1, "bee"), "2": (2, "ant")},
        environment={"engine": "eager", "speed": {"images_per_second": 3}},
        quarantine=[("3", "empty"), ("4", "truncated")],
    ).save(tmp_path / "a.h5")
    b = make(
        {"2": (9, "ant"), "3": (3, "bee")},
        environment={"engine": "onnx", "earlier": [{"engine": "compile"}]},
        quarantine=[("4", "no such file"), ("5", "empty")],
    ).save(tmp_path / "b.h5")
    reporter = Silent()
    result = merge([a, b], tmp_path / "all.h5", reporter=reporter)
    made = result.features
    assert table(made) == [("1", "bee", 1, 1), ("2", "ant", 9, 9), ("3", "bee", 3, 3)]
    assert made.quarantine == [("4", "no such file"), ("5", "empty")]
    assert made.environment["engine"] == "eager"
    assert made.environment["earlier"] == [{"engine": "onnx"}, {"engine": "compile"}]
    assert (result.repeated, result.replaced) == (0, 1)
    assert any("1 rows were replaced" in note for note in reporter.notes)
    assert environments([made, made]) == made.environment
    assert json.dumps(result.to_dict())


def test_folders_beside_each_other_become_one_below_their_parent(tmp_path):
    a = make({"1": (1, "bee")}, "/data/a", quarantine=[("x", "empty")]).save(tmp_path / "a.h5")
    b = make({"2": (2, "ant")}, "/data/b", quarantine=[("x", "empty")]).save(tmp_path / "b.h5")
    reporter = Silent()
    made = merge([a, b], tmp_path / "all.h5", reporter=reporter).features
    assert (made.root, made.paths.tolist()) == ("/data", ["a/1", "b/2"])
    assert made.quarantine == [("a/x", "empty"), ("b/x", "empty")]
    assert "the roots differ (/data/a, /data/b)" in reporter.notes[0]


def test_one_folder_seen_in_two_places_keeps_the_place_that_is_there(tmp_path):
    a = make({"1": (1, "bee"), "2": (2, "ant")}, "/gone").save(tmp_path / "a.h5")
    b = make({"2": (2, "ant"), "3": (3, "bee")}, str(tmp_path)).save(tmp_path / "b.h5")
    result = merge([a, b], tmp_path / "all.h5")
    assert result.features.paths.tolist() == ["1", "2", "3"]
    assert (result.features.root, result.repeated) == (str(tmp_path), 1)


def test_other_recipes_two_labels_and_a_name_that_is_taken_are_errors(tmp_path):
    a = make({"1": (1, "bee")}).save(tmp_path / "a.h5")
    other = make({"1": (1, "ant")}).save(tmp_path / "b.h5")
    with pytest.raises(bp.CacheError, match="two labels"):
        merge([a, other], tmp_path / "all.h5")
    with pytest.raises(bp.CacheError, match="exists"):
        merge([a, a], other)
    with pytest.raises(bp.InputError, match="nothing to merge"):
        merge([], tmp_path / "all.h5")
    strange = make({"1": (1, "bee")})
    recipe = {**RECIPE, "backbone": "y"}
    strange.header = Header(recipe, {}, fingerprint(recipe, recipe["outputs"][0]), "/a")
    with pytest.raises(bp.RecipeError, match="differs: backbone"):
        merge([a, strange.save(tmp_path / "c.h5")], tmp_path / "all.h5")
    assert not (tmp_path / "all.h5").exists()


def test_what_was_rounded_never_passes_for_float32(tmp_path):
    a = make({"1": (1, "bee")}, store="float16").save(tmp_path / "a.h5")
    b = make({"2": (2, "bee")}).save(tmp_path / "b.h5")
    reporter = Silent()
    assert merge([a, b], tmp_path / "x.h5", reporter=reporter).features.header.store == "float16"
    assert "float16" in reporter.warnings[0]
    assert merge([a, a], tmp_path / "y.h5").features.header.store == "float16"


@pytest.mark.parametrize("sources", ["directories", "both"])
@pytest.mark.parametrize("target", ["all.h5", "all/"])
def test_directories_go_in_and_come_out(tmp_path, sources, target):
    a = make({"1": (1, "bee"), "2": (2, "ant")}).save(f"{tmp_path}/a/")
    b = make({"2": (9, "ant"), "3": (3, "bee")}).save(
        f"{tmp_path}/b/" if sources == "directories" else tmp_path / "b.h5"
    )
    result = merge([a, b], f"{tmp_path}/{target}")
    assert table(result.features) == [("1", "bee", 1, 1), ("2", "ant", 9, 9), ("3", "bee", 3, 3)]
    assert result.linked == (sources == "directories" and target == "all/")
    assert (tmp_path / "all" / "manifest.json").exists() == (target == "all/")
    assert verify(result.output).ok


def test_the_output_may_be_one_of_the_sources(tmp_path):
    a = make({"1": (1, "bee")}).save(tmp_path / "a.h5")
    b = make({"2": (2, "ant")}).save(tmp_path / "b.h5")
    assert len(merge([a, b], a, force=True).features) == 2
    assert len(bp.open(a)) == 2


def test_many_rows_are_merged_without_holding_their_features(tmp_path):
    """Windows of features are all that is in memory; 20,000 rows of 64 would be 5 MB each file."""
    import tracemalloc

    rng = np.random.default_rng(0)
    files = []
    for name in "ab":
        n = 20_000
        rows = Rows(
            [f"{i:06}{name}" for i in range(n)],
            rng.integers(0, 256, (n, 32), np.uint8),
            np.full(n, -1, np.int32),
            [""] * n,
            [],
        )
        X = np.broadcast_to(np.arange(n, dtype=np.float32)[:, None], (n, 256))
        header = Header(RECIPE, {}, fingerprint(RECIPE, RECIPE["outputs"][0]), "/a")
        files.append(Features(header, rows, X).save(tmp_path / f"{name}.h5"))
    tracemalloc.start()
    result = merge(files, tmp_path / "all.h5")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert result.features.features[:, 0].tolist() == np.repeat(np.arange(20_000.0), 2).tolist()
    assert peak < 30e6  # the features are 41 MB


def test_what_only_one_of_equal_rows_says_is_kept_in_any_order(tmp_path):
    a = make({"1": (1, "bee"), "2": (2, ""), "3": (3, "ant")})
    b = make(
        {"1": (1, ""), "2": (2, "fly"), "3": (9, "")},
        meta={"site": ["north", "south", "west"], "depth": np.array([1.0, 2.0, 3.0])},
    )
    b.rows.splits = ["train", "", "val"]
    for name, several in (("ab", [a, b]), ("ba", [b, a])):
        files = [each.save(tmp_path / f"{name}{i}.h5") for i, each in enumerate(several)]
        made = merge(files, tmp_path / f"{name}.h5").features
        assert made.labels.tolist() == ["bee", "fly", None if name == "ab" else "ant"]
        assert list(made.rows.splits) == ["train", "", "val" if name == "ab" else ""]
        # Another image under the same path says nothing of this one.
        assert list(made.meta["site"]) == ["north", "south", "west" if name == "ab" else ""]
        assert made.meta["depth"][:2].tolist() == [1.0, 2.0]


def test_equal_rows_that_a_third_one_would_join_may_not_contradict_each_other(tmp_path):
    several = [make({"1": (1, label)}) for label in ("bee", "", "")]
    several[1].rows.splits, several[2].rows.splits = ["train"], ["val"]
    files = [each.save(tmp_path / f"{i}.h5") for i, each in enumerate(several)]
    with pytest.raises(bp.CacheError, match="two splits"):
        merge(files, tmp_path / "all.h5")


@pytest.mark.parametrize("form", ["x.h5", "x/"])
def test_one_alone_is_copied(tmp_path, form):
    a = make({"1": (1, "bee"), "2": (2, "ant")})
    a.save(f"{tmp_path}/{form}")
    for output in ("copy.h5", "copy/"):
        result = merge([f"{tmp_path}/{form}"], f"{tmp_path}/{output}")
        assert (table(result.features), result.repeated, result.replaced) == (table(a), 0, 0)


@pytest.mark.parametrize("what", ["merge", "subset"])
def test_an_output_that_cannot_be_is_refused_before_the_work(tmp_path, monkeypatch, what):
    a = make({"1": (1, "bee"), "2": (2, "ant")}).save(tmp_path / "a.h5")
    monkeypatch.chdir(tmp_path)

    def write(output, **options):
        if what == "merge":
            return merge([a, a], output, **options)
        return subset(a, output, paths=["1", "2"], **options)

    with monkeypatch.context() as patch:
        patch.setattr(merging.feature_files, "open", None)  # no work
        with pytest.raises(bp.InputError, match="memory://photos/ is not on this machine"):
            write("memory://photos/")
        with pytest.raises(bp.InputError, match="is a file"):
            write(f"{a}/", force=True)
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine" / "notes.txt").write_text("mine")
        with pytest.raises(bp.InputError, match="a folder with other files"):
            write(tmp_path / "mine", force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5", "mine"]
    made = write((tmp_path / "made").as_uri() + "/")
    assert (made.output, made.output.is_dir()) == (tmp_path / "made", True)
    assert len(write("made", force=True).features) == 2  # no slash, yet a directory
    assert (tmp_path / "made" / "manifest.json").exists()
