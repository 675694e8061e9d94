"""The protocol: who trains, who scores, and that no score is better than it really is."""

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate import evaluate, score
from bottleneck_probe.evaluate.protocol import default_repeats
from bottleneck_probe.heads import HEADS
from bottleneck_probe.heads.state import pipeline_to_state
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import StandardScaler

# Short training: these tests ask who trains on what, not how well.
FAST = {"mlp": {"hidden": 8, "max_epochs": 5}}
ABC = ["ants", "bees", "cats"]


def keys_of(numbers):
    return np.stack(
        [np.random.default_rng(int(i)).integers(0, 256, 32, dtype=np.uint8) for i in numbers]
    )


def data(n=90, d=12, k=3, gap=2.0, seed=0):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % k).astype(np.int32)
    return (rng.normal(size=(n, d)) + gap * np.eye(k, d)[y]).astype(np.float32), y


def split(n, *parts):
    """Split names in the given counts: split(5, ("train", 3), ("test", 2))."""
    names = np.concatenate([np.full(count, name, "U5") for name, count in parts])
    assert len(names) == n
    return names


# --- which rows score ------------------------------------------------------------------------


def test_nested_scores_every_row_once_and_keeps_a_fit_on_all():
    X, y = data()
    steps = []
    result = evaluate(
        X, y, classes=ABC, repeats=2, progress=lambda done, total: steps.append((done, total))
    )
    assert result.protocol == "nested-5x2"
    assert result.n_train == result.n_test == 90
    assert np.array_equal(result.oof.rows, np.arange(90))
    assert set(result.oof.folds) == set(range(5))
    assert result.oof.probabilities.shape == (90, 3)
    assert result.oof.probabilities.sum(axis=1) == pytest.approx(1)
    assert result.confusion.sum() == 90
    assert result.confusion.dtype == np.int64
    assert result.metrics["accuracy"]["value"] > 0.7
    assert result.baseline["accuracy"]["value"] == pytest.approx(1 / 3)
    assert result.pipeline.named_steps["scale"].mean_ == pytest.approx(X.mean(axis=0), abs=1e-5)
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]


def test_test_scores_and_val_joins_the_training_rows():
    X, y = data()
    splits = split(90, ("train", 42), ("val", 18), ("test", 24), ("", 6))
    result = evaluate(X, y, classes=ABC, splits=splits)
    assert result.protocol == "holdout"
    assert (result.n_train, result.n_test) == (66, 24)
    assert np.array_equal(result.oof.rows, np.flatnonzero(splits == "test"))
    train = splits != "test"
    assert result.pipeline.named_steps["scale"].mean_ == pytest.approx(
        X[train].mean(axis=0), abs=1e-5
    )
    assert any("18 val images joined" in note for note in result.notes)
    assert any("6 images without a split" in note for note in result.notes)
    expected = np.mean(result.pipeline.predict(X[~train]) == y[~train])
    assert result.metrics["accuracy"]["value"] == pytest.approx(expected)


def test_val_scores_where_test_is_absent_or_has_no_label():
    X, y = data()
    splits = split(90, ("train", 60), ("val", 18), ("test", 12))
    y[splits == "test"] = -1
    result = evaluate(X, y, classes=ABC, splits=splits)
    assert np.array_equal(result.oof.rows, np.flatnonzero(splits == "val"))
    assert result.n_unlabelled == 12
    assert any("test has no label" in note for note in result.notes)


def test_refit_all_says_that_the_score_is_of_another_fit():
    X, y = data()
    splits = split(90, ("train", 60), ("test", 30))
    one = evaluate(X, y, classes=ABC, splits=splits)
    two = evaluate(X, y, classes=ABC, splits=splits, refit_all=True)
    assert two.metrics == one.metrics
    assert (one.n_train, two.n_train) == (60, 90)
    assert any("another fit" in note for note in two.notes)
    assert two.pipeline.named_steps["scale"].mean_ == pytest.approx(X.mean(axis=0), abs=1e-5)


def test_holdout_takes_the_same_rows_when_data_is_added():
    X, y = data(150)
    keys = keys_of(range(150))
    part = evaluate(X[:100], y[:100], classes=ABC, keys=keys[:100], holdout=0.25)
    whole = evaluate(X, y, classes=ABC, keys=keys, holdout=0.25)
    assert part.protocol == whole.protocol == "holdout"
    assert np.array_equal(part.oof.rows, whole.oof.rows[whole.oof.rows < 100])
    assert whole.n_train + whole.n_test == 150


def test_copies_of_training_images_leave_the_test_set():
    X, y = data()
    splits = split(90, ("train", 60), ("test", 30))
    numbers = np.arange(90)
    numbers[60:66] = numbers[:6]
    result = evaluate(X, y, classes=ABC, splits=splits, keys=keys_of(numbers))
    assert (result.n_test, result.n_dropped) == (24, 6)
    assert not np.isin(result.oof.rows, np.arange(60, 66)).any()
    assert any("6 test images dropped" in note for note in result.notes)
    numbers[60:] = numbers[:30]
    with pytest.raises(FitError, match="identical to a training image"):
        evaluate(X, y, classes=ABC, splits=splits, keys=keys_of(numbers))


def test_a_class_with_one_image_trains_and_is_named():
    X, y = data(61)
    y[:] = np.arange(61) % 2
    y[10] = 2
    result = evaluate(X, y, classes=ABC, repeats=1)
    assert (result.n_train, result.n_test) == (61, 60)
    assert 10 not in result.oof.rows
    assert any("cats" in note and "never scored" in note for note in result.notes)
    assert result.classes == ABC
    assert result.pipeline.predict_proba(X).shape == (61, 3)


def test_small_classes_are_spread_and_told():
    X, y = data(40)
    y[:] = np.arange(40) % 2
    y[:3] = 2
    result = evaluate(X, y, classes=ABC, repeats=1)
    assert result.n_test == 40
    assert len(set(result.oof.folds[:3])) == 3
    assert any("cats (3)" in note for note in result.notes)


def test_classes_without_an_image_leave_the_probe():
    X, y = data(40)
    y[:] = np.where(np.arange(40) % 2, 2, 0)
    result = evaluate(X, y, classes=ABC, repeats=1)
    assert result.classes == ["ants", "cats"]
    assert set(result.oof.y) == {0, 1}
    assert any("bees" in note for note in result.notes)


@pytest.mark.parametrize("head", HEADS)
def test_equal_features_score_as_the_baseline_and_are_told(head):
    y = np.array([0] * 20 + [1] * 10, np.int32)
    X = np.full((30, 4), 0.1, np.float32)
    result = evaluate(X, y, classes=ABC, head=head, head_options=FAST.get(head), folds=3, repeats=1)
    assert result.metrics["accuracy"]["value"] == result.baseline["accuracy"]["value"]
    assert np.isfinite(result.oof.probabilities).all()
    assert any("same features" in note for note in result.notes)


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a["y"].fill(0), "1 class: ants; needs 2"),
        (lambda a: a["y"].fill(-1), "none of the 90 images has a label"),
        (lambda a: a["y"].__setitem__(slice(1, None), 0), "fewer than 2 classes"),
        (lambda a: a["X"].__setitem__((7, 3), np.nan), "rows 7"),
        (lambda a: a.update(splits=split(90, ("test", 90))), "none is left to train on"),
        (
            lambda a: a.update(
                splits=np.where(a["y"] == 2, "val", np.where(np.arange(90) < 60, "train", "val"))
            ),
            "cats: all images are in the split that scores",
        ),
        (lambda a: a.update(splits=split(90, ("dev", 90))), "unknown split dev"),
        (lambda a: a.update(splits=split(90, ("train", 90)), holdout=0.2), "already have splits"),
        (lambda a: a.update(holdout=1.5), "--holdout is 1.5"),
        (lambda a: a.update(holdout=0.2), "no keys"),
        (lambda a: a.update(head="logistik"), "did you mean 'logistic'"),
        (lambda a: a.update(head_options={"c": 1}), "did you mean 'C'"),
        (lambda a: a.update(folds=1), "--folds is 1"),
        (lambda a: a.update(metric="acuracy"), "no metric"),
        (lambda a: a.update(select="worst"), "--select"),
        (lambda a: a.update(y=a["y"][:50]), "labels 50"),
        (lambda a: a.update(y=a["y"] + 5), "from 5 to 7"),
    ],
)
def test_what_gives_no_honest_score_is_refused(change, message):
    X, y = data()
    arguments = {"X": X, "y": y, "classes": ABC}
    if message == "fewer than 2 classes":
        y[0] = 1
    change(arguments)
    with pytest.raises(FitError) as caught:
        evaluate(arguments.pop("X"), arguments.pop("y"), **arguments)
    assert message in str(caught.value)


def test_one_image_under_two_labels_is_told():
    X, y = data()
    numbers = np.arange(90)
    numbers[1] = numbers[0]
    result = evaluate(X, y, classes=ABC, keys=keys_of(numbers), repeats=1)
    assert any("two labels" in note for note in result.notes)


# --- no leak ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_shuffled_labels_score_at_chance(head):
    """Of 4 draws 3 intervals hold chance at least, and the mean score is within 3 errors of it."""
    values, held = [], 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(60, 40)).astype(np.float32)
        y = rng.permutation(np.arange(60) % 2).astype(np.int32)
        result = evaluate(X, y, classes=ABC, head=head, head_options=FAST.get(head), repeats=1)
        accuracy = result.metrics["accuracy"]
        values.append(accuracy["value"])
        held += accuracy["low"] <= 0.5 <= accuracy["high"]
    assert held >= 3
    assert np.mean(values) == pytest.approx(0.5, abs=3 * np.sqrt(1.5 * 0.25 / 240))


def test_the_scaler_never_sees_a_test_row():
    """Features of the test rows are stretched: their scale must not reach the kept probe.

    The same check fails for a scaler that is fitted outside, which shows that it can fail.
    """
    X, y = data(90, gap=1.0)
    splits = split(90, ("train", 60), ("test", 30))
    stretched = X.copy()
    stretched[60:] *= np.linspace(1, 50, X.shape[1], dtype=np.float32)

    def kept(features):
        return evaluate(features, y, classes=ABC, splits=splits).pipeline.predict_proba(X[:60])

    assert np.array_equal(kept(X), kept(stretched))

    def leaky(features):
        scaled = StandardScaler().fit_transform(features).astype(np.float32)
        result = evaluate(scaled, y, classes=ABC, splits=splits)
        return result.pipeline.named_steps["head"].coef_ / scaled[:60].std(axis=0)

    assert not np.allclose(leaky(X), leaky(stretched))


def test_outer_folds_score_with_a_scaler_and_a_choice_of_their_own():
    """Moving one scored row far away leaves the probabilities of its fold's other rows as they were."""
    X, y = data(45, gap=1.0)
    first = evaluate(X, y, classes=ABC, folds=3, repeats=1)
    row, *others = np.flatnonzero(first.oof.folds == 0)
    moved = X.copy()
    moved[row] *= 1000
    second = evaluate(moved, y, classes=ABC, folds=3, repeats=1)
    # The order of sums in a product may change with the values' place, not with the values.
    assert np.array_equal(first.oof.probabilities[others], second.oof.probabilities[others])
    elsewhere = first.oof.folds == 1
    assert not np.allclose(first.oof.probabilities[elsewhere], second.oof.probabilities[elsewhere])


def test_a_choice_made_on_the_scored_rows_would_show():
    """Features selected with all labels, on noise: far above chance; chosen inside, at chance."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2000)).astype(np.float32)
    y = (np.arange(60) % 2).astype(np.int32)
    honest = evaluate(X, y, classes=ABC, repeats=1).metrics["accuracy"]
    assert honest["low"] <= 0.5 <= honest["high"]
    strength = np.abs(X[y == 0].mean(axis=0) - X[y == 1].mean(axis=0))
    leaked = evaluate(X[:, strength.argsort()[-20:]], y, classes=ABC, repeats=1)
    assert leaked.metrics["accuracy"]["low"] > 0.5


def test_copies_with_random_labels_score_at_chance_only_if_grouped():
    rng = np.random.default_rng(0)
    once = rng.normal(size=(60, 100)).astype(np.float32)
    labels = (np.arange(60) % 2).astype(np.int32)
    X, y, keys = np.tile(once, (2, 1)), np.tile(labels, 2), np.tile(keys_of(range(60)), (2, 1))
    options = {"classes": ABC, "repeats": 1, "select": "best"}
    grouped = evaluate(X, y, keys=keys, **options).metrics["accuracy"]
    plain = evaluate(X, y, **options).metrics["accuracy"]
    assert grouped["value"] < 0.65
    assert plain["low"] > 0.7


# --- seeds and the rest ----------------------------------------------------------------------


@pytest.mark.parametrize("head", HEADS)
def test_equal_seeds_give_equal_bits(head):
    X, y = data(45)

    def run(seed):
        options = {"head": head, "head_options": FAST.get(head), "folds": 3, "repeats": 1}
        return evaluate(X, y, classes=ABC, seed=seed, **options)

    first, second, other = run(3), run(3), run(4)
    assert np.array_equal(first.oof.probabilities, second.oof.probabilities)
    assert first.metrics == second.metrics
    one, two = pipeline_to_state(first.pipeline), pipeline_to_state(second.pipeline)
    assert one[0] == two[0]
    assert all(np.array_equal(one[1][name], two[1][name]) for name in one[1])
    assert not np.array_equal(other.oof.folds, first.oof.folds)


def test_repeats_follow_the_size():
    X, y = data(60)
    result = evaluate(X, y, classes=ABC, head_options={"C": 0.01}, folds=2)
    assert result.protocol == "nested-2x10"
    sizes = (10, 99, 100, 999, 1000)
    assert [default_repeats(HEADS["logistic"], n) for n in sizes] == [10, 10, 2, 2, 1]
    assert [default_repeats(HEADS["mlp"], n) for n in sizes] == [1] * 5


def test_an_option_of_the_grid_ends_the_choice():
    X, y = data(60)
    result = evaluate(X, y, classes=ABC, repeats=1, head_options={"C": 0.03})
    assert result.params == {"C": 0.03}
    assert result.pipeline.named_steps["head"].C == 0.03


def test_best_is_never_more_regularised_than_one_se():
    X, y = data(60, gap=1.0)
    one_se, best = (
        evaluate(X, y, classes=ABC, repeats=1, select=s).params["C"] for s in ("one-se", "best")
    )
    assert one_se <= best


def test_score_of_a_kept_probe():
    X, y = data()
    result = evaluate(X, y, classes=ABC, splits=split(90, ("train", 60), ("test", 30)))
    y_new = y.copy()
    y_new[:4] = -1
    probabilities = result.pipeline.predict_proba(X)
    found = score(probabilities, y_new, ABC)
    assert found["n"] == 86
    assert found["notes"] == ["4 unlabelled images left out"]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(
        np.mean(probabilities[4:].argmax(axis=1) == y[4:])
    )
    assert found == score(probabilities.argmax(axis=1), y_new, ABC) | {
        "confusion": found["confusion"]
    }
    on_test = score(probabilities[60:], y[60:], ABC)
    assert on_test["metrics"] == result.metrics
    with pytest.raises(FitError, match="none of the 90"):
        score(probabilities, np.full(90, -1), ABC)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(-1, 3),
            st.integers(0, 12),
            st.sampled_from(["", "train", "val", "test"]),
        ),
        min_size=1,
        max_size=30,
    ),
    st.booleans(),
    st.sampled_from([None, None, 0.3]),
    st.booleans(),
)
def test_every_row_is_accounted_for_whatever_comes(rows, with_splits, holdout, fixed):
    y, numbers, splits = (np.array(column) for column in zip(*rows, strict=True))
    keys = keys_of(numbers)
    X = keys[:, :5].astype(np.float32)
    try:
        result = evaluate(
            X,
            y.astype(np.int32),
            classes=list("abcd"),
            splits=splits if with_splits else None,
            keys=keys,
            repeats=1,
            holdout=holdout,
            head_options={"C": 0.1} if fixed else None,
        )
    except FitError:
        return
    scored = result.oof.rows
    assert result.n_unlabelled == np.sum(y < 0)
    assert result.n_test == len(scored) == len(set(scored.tolist())) > 0
    if result.protocol == "holdout":
        assert result.n_train + result.n_test + result.n_unlabelled + result.n_dropped == len(y)
        trained = np.setdiff1d(np.flatnonzero(y >= 0), scored)
        if not result.n_dropped:
            assert not set(numbers[trained]) & set(numbers[scored])
    else:
        assert result.n_train + result.n_unlabelled == len(y)
        for key in set(numbers[scored]):
            assert len(set(result.oof.folds[numbers[scored] == key])) == 1
    assert np.isfinite(result.oof.probabilities).all()
    assert result.oof.probabilities.sum(axis=1) == pytest.approx(1)
    names = np.array(list("abcd"))
    assert np.array_equal(np.array(result.classes)[result.oof.y], names[y[scored]])
