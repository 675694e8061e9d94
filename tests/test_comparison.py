"""`compare` from features and files: same images, same folds, and no more said than was shown."""

import contextlib
import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe import comparison
from bottleneck_probe.alignment import align
from bottleneck_probe.cache.features import Features
from bottleneck_probe.cache.layout import Header, Rows
from bottleneck_probe.comparison import ComparedSet
from bottleneck_probe.evaluate.compare import Difference, recommend
from bottleneck_probe.recipe import fingerprint
from bottleneck_probe.report.comparison import explain
from bottleneck_probe.reporter import Silent
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = {"folds": 3, "repeats": 1, "head_options": {"C": 0.1}, "quiet": True}


def keys_of(numbers):
    return np.stack(
        [np.random.default_rng(int(i)).integers(0, 256, 32, dtype=np.uint8) for i in numbers]
    )


def photos(
    backbone,
    n=48,
    *,
    d=6,
    gap=2.0,
    seed=0,
    layers=(),
    splits=None,
    labels=None,
    numbers=None,
    paths=None,
    weights="ab12",
    speed=None,
):
    """Features of made-up photographs: image i has the same key and label with every backbone."""
    numbers = np.arange(n) if numbers is None else np.asarray(numbers)
    names = [("ants", "bees")[i % 2] for i in numbers] if labels is None else labels
    outputs = [{"node": "penultimate", "pooling": "none"}]
    outputs += [{"node": node, "pooling": "avg"} for node in layers]
    recipe = {
        "modality": "image",
        "backbone": backbone,
        "weights_sha256": weights,
        "outputs": outputs,
    }
    classes = sorted({name for name in names if name})
    rows = Rows(
        paths=[f"{i:03d}.jpg" for i in numbers] if paths is None else list(paths),
        keys=keys_of(numbers),
        labels=np.array([classes.index(x) if x else -1 for x in names], np.int32),
        splits=[""] * len(numbers) if splits is None else list(splits),
        classes=classes,
    )

    def values(size, salt):
        """The same for an image wherever its row is."""
        noise = [np.random.default_rng([seed, salt, int(i)]).normal(size=size) for i in numbers]
        return (np.stack(noise) + gap * np.outer(numbers % 2, np.eye(size)[0])).astype(np.float32)

    environment = {} if speed is None else {"speed": {"images_per_second": speed}}
    header = Header(recipe, environment, fingerprint(recipe, outputs[0]))
    return Features(
        header,
        rows,
        values(d, 0),
        layers={f"{node}:avg": values(3 + i, i + 1) for i, node in enumerate(layers)},
    )


def numbers_of(found):
    return [
        {name: (m["value"], m["low"], m["high"]) for name, m in each.metrics.items()}
        for each in found.sets
    ]


# --- the score is that of fit ----------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [{}, {"holdout": 0.3}, {"metric": "macro_f1", "select": "best", "seed": 3}],
    ids=["folds", "holdout", "options"],
)
def test_each_set_scores_as_fit_scores_it(tmp_path, options):
    files = [tmp_path / "a.h5", tmp_path / "b.h5"]
    photos("a", layers=("layer3",), gap=1.0).save(files[0])
    photos("b", d=4, gap=1.2, seed=1).save(files[1])
    shared = {"folds": 3, "repeats": 2, "quiet": True} | options
    found = bp.compare(files, **shared)
    assert [each.layer for each in found.sets] == [
        "penultimate:none",
        "layer3:avg",
        "penultimate:none",
    ]
    opened = [bp.open(files[0]), bp.open(f"{files[0]}::layer3:avg"), bp.open(files[1])]
    for features, each in zip(opened, found.sets, strict=True):
        probe = bp.fit(features, **shared)
        assert each.metrics == probe.metrics
        assert each.baseline == probe.baseline
        assert (each.params, each.protocol) == (probe.params, probe.protocol)
        assert each.feature_size == features.features.shape[1]
        assert found.n == probe.n_test


def test_a_test_split_scores_once():
    splits = ["train"] * 28 + ["test"] * 20
    sets = [photos("a", splits=splits), photos("b", splits=splits, gap=0.5, seed=1)]
    found = bp.compare(sets, **QUICK)
    assert (found.protocol, found.n) == ("holdout", 20)
    assert found.differences[0].test == "exact mcnemar"
    assert any("one test set" in note for note in found.notes)


# --- which rows ------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(order=st.permutations(range(12)), left_out=st.sets(st.integers(0, 11), max_size=5))
def test_rows_are_matched_by_key_whatever_their_place_and_name(order, left_out):
    kept = [i for i in order if i not in left_out]
    one = photos("a", 12)
    two = photos("b", numbers=kept, paths=[f"moved/{i}.png" for i in range(len(kept))])
    aligned = align([one, two], ["a", "b"])
    assert np.array_equal(aligned.rows[0], sorted(kept))
    assert np.array_equal(one.keys[aligned.rows[0]], two.keys[aligned.rows[1]])
    assert np.array_equal(aligned.keys, one.keys[aligned.rows[0]])
    assert aligned.notes == (
        [f"images that are not in all of the sets left out: {len(left_out)} of 12 of a"]
        if left_out
        else []
    )


def test_the_order_of_a_file_changes_no_score():
    one, two = photos("a", gap=1.0), photos("b", gap=0.8, seed=1)
    order = np.random.default_rng(0).permutation(48)
    straight = bp.compare([one, two], **QUICK)
    mixed = bp.compare([one, two.subset(order)], **QUICK)
    assert numbers_of(mixed) == numbers_of(straight)
    assert mixed.differences == straight.differences


def test_images_that_are_not_in_all_sets_leave_every_score():
    one, two = photos("a", 60, gap=0.7), photos("b", numbers=range(10, 70), gap=0.5, seed=1)
    found = bp.compare([one, two], **QUICK)
    assert found.n == 50
    part = [one.subset(slice(10, None)), two.subset(slice(0, 50))]
    assert numbers_of(found) == numbers_of(bp.compare(part, **QUICK))
    (note,) = [note for note in found.notes if "left out" in note]
    assert "10 of 60 of a · penultimate" in note
    assert "10 of 60 of b · penultimate" in note


def test_copies_are_matched_by_path_and_the_rest_in_order():
    one = photos("a", numbers=[0, 1, 1, 1, 2], paths=["0", "x", "y", "z", "2"])
    two = photos("b", numbers=[1, 2, 1, 0, 1], paths=["z", "2", "other", "0", "x"])
    aligned = align([one, two], ["a", "b"])
    assert aligned.rows[0].tolist() == [0, 1, 2, 3, 4]
    assert aligned.rows[1].tolist() == [3, 4, 2, 0, 1]


def test_tiles_of_an_image_are_matched_by_their_view():
    one = photos("a", numbers=[0, 0, 1, 1], paths=["0", "0", "1", "1"])
    two = photos("b", numbers=[0, 0, 1, 1], paths=["0", "0", "1", "1"])
    one.rows.view, two.rows.view = np.array([[0, 1, 0, 1], [1, 0, 1, 0]], np.int32)
    aligned = align([one, two], ["a", "b"])
    assert aligned.rows[0].tolist() == [0, 1, 2, 3]
    assert aligned.rows[1].tolist() == [1, 0, 3, 2]
    assert aligned.views == 2


def test_sets_cut_into_different_numbers_of_tiles_are_not_compared():
    """One tile of an image would stand for the whole of it."""
    one = photos("a", numbers=[0, 0, 1, 1], paths=["0", "0", "1", "1"])
    two = photos("b", numbers=[0, 1], paths=["0", "1"])
    one.rows.view = np.array([0, 1, 0, 1], np.int32)
    with pytest.raises(bp.InputError, match="different numbers of tiles: a 2, b 1"):
        align([one, two], ["a", "b"])


def test_arrays_of_ones_own_are_matched_by_id():
    """Their keys are of the values: two embeddings of one image never had the same."""
    rng, ids = np.random.default_rng(0), [f"{i:02d}" for i in range(40)]
    names = ["x", "y"] * 20
    a, b = (
        bp.Features.from_arrays(
            rng.normal(size=(40, 4)) + gap * np.outer(np.arange(40) % 2, [1, 0, 0, 0]), names, ids
        )
        for gap in (3.0, 0.5)
    )
    found = bp.compare([a, b.subset(np.arange(39, 4, -1))], **QUICK)
    assert found.n == 35
    assert [each.name for each in found.sets] == ["features (1)", "features (2)"]
    assert found.recommended == "features (1)"
    images = photos("net", 40, labels=names, paths=ids)
    mixed = align([b, images], ["b", "net"])
    assert np.array_equal(mixed.keys, images.keys)


def test_labels_that_contradict_each_other_are_named():
    wrong = ["ants", "bees"] * 24
    wrong[3], wrong[5] = "ants", "ants"
    with pytest.raises(bp.InputError, match="2 images have two labels") as caught:
        bp.compare([photos("a"), photos("b", labels=wrong)], **QUICK)
    assert "003.jpg is 'bees' in a · penultimate, 'ants' in b · penultimate" in str(caught.value)
    splits = [["train"] * 30 + ["test"] * 18, ["train"] * 29 + ["test"] * 19]
    with pytest.raises(bp.InputError, match=r"1 image has two splits: 029\.jpg"):
        bp.compare([photos(name, splits=s) for name, s in zip("ab", splits, strict=True)], **QUICK)


def test_a_label_that_one_file_lacks_is_taken_from_the_other():
    lacking = [None] * 10 + ["ants", "bees"] * 19
    found = bp.compare([photos("a", labels=lacking), photos("b", seed=1)], **QUICK)
    assert found.n == 48
    assert "10 labels taken from a set that has what another one lacks" in found.notes
    assert numbers_of(found) == numbers_of(bp.compare([photos("a"), photos("b", seed=1)], **QUICK))


def test_sets_without_a_common_image_are_refused():
    with pytest.raises(bp.InputError, match="no image is in all of the 2 sets") as caught:
        bp.compare([photos("a"), photos("b", numbers=range(100, 140))], **QUICK)
    assert "b · penultimate begins with 100.jpg" in caught.value.where
    assert "extract the same IMAGES" in caught.value.next


# --- which sets ------------------------------------------------------------------------------


def test_one_set_is_no_comparison(tmp_path):
    photos("a", layers=("layer3",)).save(tmp_path / "a.h5")
    for given_sets in (
        [tmp_path / "a.h5::layer3"],
        photos("a"),
        [f"{tmp_path}/a.h5::layer3"] * 2,
    ):
        with pytest.raises(bp.InputError, match="1 set of features: a · ") as caught:
            bp.compare(given_sets, **QUICK)
        assert "--layer NODE" in caught.value.next
    with pytest.raises(bp.InputError, match="0 set"):
        bp.compare([], **QUICK)


def test_files_of_one_recipe_are_one_set(tmp_path):
    whole = photos("a", 60)
    whole.subset(np.arange(30)).save(tmp_path / "a1.h5")
    whole.subset(np.arange(30, 60)).save(tmp_path / "a2.h5")
    other = photos("b", 60, seed=1, gap=0.5)
    reporter = Silent()
    options = {"folds": 3, "repeats": 1, "head_options": {"C": 0.1}}
    files = [tmp_path / "a1.h5", other, tmp_path / "a2.h5"]
    found = comparison.run(files, reporter=reporter, **options)
    assert found.n == 60
    assert len(found.sets) == 2
    assert any("joined, of one recipe and layer" in note for note in reporter.notes)
    assert numbers_of(found) == numbers_of(bp.compare([whole, other], **QUICK))
    assert found.sets[0].file == f"{tmp_path / 'a1.h5'}, {tmp_path / 'a2.h5'}"


def test_names_tell_the_sets_apart(tmp_path):
    for folder, weights in (("x", "1"), ("y", "2"), ("z", "3")):
        photos("net", weights=weights, seed=int(weights)).save(tmp_path / folder / "f.h5")
    photos("net", weights="4", seed=4).save(tmp_path / "g.h5")
    photos("other", layers=("layer3",)).save(tmp_path / "h.h5")
    files = [
        *(tmp_path / folder / "f.h5" for folder in "xyz"),
        tmp_path / "g.h5",
        tmp_path / "h.h5",
    ]
    found = bp.compare(files, **QUICK)
    names = [each.name for each in found.sets]
    assert len(set(names)) == 6
    assert names[3:] == ["net · penultimate (g)", "other · penultimate", "other · layer3:avg"]
    assert all(str(file) in name for file, name in zip(files[:3], names, strict=False))


def test_random_weights_are_marked_and_no_advice():
    sets = [photos("small", d=3, weights="random:0"), photos("large", d=40, speed=12.5)]
    found = bp.compare(sets, **QUICK)
    assert [each.random_weights for each in found.sets] == [True, False]
    assert [each.images_per_second for each in found.sets] == [None, 12.5]
    assert found.recommended == "large · penultimate"
    assert "small · penultimate (random weights)" in found._repr_html_()


def test_a_fault_in_one_set_names_it():
    broken = photos("b")
    broken.features[7, 0] = np.nan
    with pytest.raises(bp.FitError, match="NaN") as caught:
        bp.compare([photos("a"), broken], **QUICK)
    assert caught.value.where.startswith("b · penultimate")
    with pytest.raises(bp.FitError) as caught:
        bp.compare([photos("a"), photos("b")], head="logistik", quiet=True)
    assert "penultimate" not in caught.value.where


def test_what_only_one_set_says_carries_its_name():
    dead = photos("b")
    dead.features[:, 2] = 1.0
    found = bp.compare([photos("a"), dead], **QUICK)
    assert [note for note in found.notes if "constant" in note] == [
        "b · penultimate: 1 of 6 features are constant in the training rows"
    ]


def test_progress_counts_to_its_end_over_all_sets():
    class Bar:
        done, total = 0, 0

        def advance(self, n=1):
            assert n >= 0
            self.done += n

        def resize(self, total):
            self.total = total

    bar = Bar()

    class Reporter(Silent):
        def progress(self, what, total):
            return contextlib.nullcontext(bar)

    comparison.run([photos("a"), photos("b"), photos("c")], reporter=Reporter(), folds=3, repeats=1)
    assert bar.done == bar.total > 3


# --- what it says ----------------------------------------------------------------------------


def test_json_has_every_set_and_every_pair():
    sets = [photos("a"), photos("b", gap=0.5, seed=1), photos("c", gap=0.3, seed=2)]
    found = bp.compare(sets, **QUICK)
    data = json.loads(found.to_json())
    assert set(data) == {
        *("head", "metric", "protocol", "sets", "comparisons"),
        *("recommended", "reason", "n", "notes", "seconds"),
    }
    assert {"name", "file", "layer", "backbone", "feature_size", "images_per_second"} <= set(
        data["sets"][0]
    )
    assert [(pair["a"][0], pair["b"][0]) for pair in data["comparisons"]] == [
        ("a", "b"),
        ("a", "c"),
        ("b", "c"),
    ]
    for pair in data["comparisons"]:
        score = {s["name"]: s["metrics"]["accuracy"]["value"] for s in data["sets"]}
        assert pair["difference"]["value"] == pytest.approx(score[pair["a"]] - score[pair["b"]])
        assert set(pair["difference"]) == {"value", "low", "high", "level", "method"}
        assert 0 <= pair["p"] <= pair["p_adjusted"] <= 1


def test_the_table_is_ordered_by_score_and_measured_against_the_recommended():
    sets = [photos("a", gap=0.2), photos("<b>", gap=4.0, seed=1), photos("c", gap=1, seed=2)]
    found = bp.compare(sets, **QUICK)
    assert found.recommended == "<b> · penultimate"
    table = found.to_pandas()
    assert table["accuracy"].is_monotonic_decreasing
    assert table["recommended"].tolist() == [True, False, False]
    assert table["difference"].tolist() == pytest.approx(
        [0, *(table["accuracy"][1:] - table["accuracy"][0])]
    )
    assert (table["difference_low"][1:] <= table["difference"][1:]).all()
    shown = found._repr_html_()
    assert "<b> ·" not in shown
    assert "&lt;b&gt; · penultimate" in shown
    assert found.reason in repr(found)


def told(scores, p, *, half=0.1, sizes=(1280, 320, 40), n=100, low=0.6, speeds=None, random=()):
    """The sentence for made-up scores, adjusted p by pair (default 1) and intervals."""
    names = "ABCD"[: len(scores)]
    differences = []
    for a in range(len(scores)):
        for b in range(a + 1, len(scores)):
            value = scores[a] - scores[b]
            interval = {"value": value, "low": value - half, "high": value + half}
            differences.append(Difference(a, b, interval, 1.0, p.get(names[a] + names[b], 1.0), ""))
    sets = [
        ComparedSet(
            name=name,
            file=None,
            layer="x",
            backbone=None,
            feature_size=sizes[i],
            images_per_second=speeds[i] if speeds else None,
            random_weights=name in random,
            metrics={"accuracy": {"value": scores[i], "low": low}},
            baseline={"accuracy": {"value": 0.5}},
            params={},
            protocol="holdout",
        )
        for i, name in enumerate(names)
    ]
    costs = [(s.random_weights, s.feature_size, -(s.images_per_second or 0)) for s in sets]
    found = recommend(scores, differences, costs)
    return explain(sets, differences, found, "accuracy", n)


def test_a_clear_winner_is_told_with_its_p():
    assert told([0.9, 0.7], {"AB": 0.004}) == (
        "Take A (accuracy 0.900): it is better than B (p 0.004)."
    )
    assert told([0.7, 0.9, 0.6], {"AB": 0.004, "BC": 0.0001}) == (
        "Take B (accuracy 0.900): it is better than A and C (adjusted p at most 0.004)."
    )


def test_no_difference_takes_the_smallest_and_says_what_is_at_stake():
    assert told([0.90, 0.89, 0.89], {"AC": 0.4}, half=0.03, n=1500) == (
        "No difference is shown between A, the highest score (accuracy 0.900), and B and C "
        "(adjusted p at least 0.400). Take C, the smallest (40 features) of those within one "
        "standard error of the highest score; another may still be better by up to 0.040."
    )


def test_too_few_images_to_tell_is_said():
    found = told([0.90, 0.80], {"AB": 0.3}, half=0.15, n=30)
    assert "30 images are too few to tell: B may be worse by up to 0.250." in found
    assert found.endswith(
        "Take A: it scores highest, and no smaller set is within one standard error of it."
    )
    assert told([0.90, 0.80], {}, half=0.2, n=30).endswith(
        "another may still be better by up to 0.300: 30 images are too few to tell."
    )
    assert "too few" not in told([0.90, 0.89], {}, half=0.02)


def test_some_worse_and_some_not():
    found = told([0.9, 0.89, 0.5], {"AC": 0.0002, "BC": 0.01, "AB": 0.7}, half=0.03)
    assert "No difference is shown between A, the highest score (accuracy 0.900), and B" in found
    assert "C is shown to be worse (adjusted p <0.001)." in found
    assert "Take B, the smallest (320 features)" in found


def test_equal_sizes_go_by_speed_and_random_weights_are_never_taken():
    assert "Take B, the fastest (90 images/s) of the smallest (8 features)" in told(
        [0.9, 0.89], {}, sizes=(8, 8), speeds=(30.0, 90.0)
    )
    found = told([0.9, 0.89], {}, random="A")
    assert "A (random weights)" in found
    assert "Take B, the one with trained weights" in found


def test_scores_at_chance_are_called_so():
    assert told([0.52, 0.5], {}, low=0.4).startswith("No set is shown to do better than always")


def test_a_metric_without_a_paired_test_is_refused():
    rng = np.random.default_rng(0)
    sets = [
        bp.Features.from_arrays(
            rng.normal(size=(20, 3)), ["a", "b"] * 10, recipe={"backbone": name}
        )
        for name in ("one", "two")
    ]
    with pytest.raises(bp.BottleneckError, match="auroc"):
        bp.compare(sets, metric="auroc", quiet=True)
