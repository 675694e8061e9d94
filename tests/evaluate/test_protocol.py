"""The protocol: who trains, who scores, and that no score is better than it really is."""

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate import evaluate, score
from bottleneck_probe.evaluate.intervals import CV_SHRINK, wilson
from bottleneck_probe.evaluate.protocol import default_repeats
from bottleneck_probe.evaluate.wording import only_train
from bottleneck_probe.heads import HEADS
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
    assert result.fitted.scaling.mean == pytest.approx(X.mean(), abs=1e-5)
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]


def test_test_scores_and_val_joins_the_training_rows():
    X, y = data()
    splits = split(90, ("train", 42), ("val", 18), ("test", 24), ("", 6))
    result = evaluate(X, y, classes=ABC, splits=splits)
    assert result.protocol == "holdout"
    assert (result.n_train, result.n_test) == (66, 24)
    assert np.array_equal(result.oof.rows, np.flatnonzero(splits == "test"))
    train = splits != "test"
    assert result.fitted.scaling.mean == pytest.approx(X[train].mean(), abs=1e-5)
    assert any("18 val images joined" in note for note in result.notes)
    assert any("6 images without a split" in note for note in result.notes)
    expected = np.mean(result.fitted.predict(X[~train]) == y[~train])
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
    assert two.fitted.scaling.mean == pytest.approx(X.mean(), abs=1e-5)


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
    with pytest.raises(FitError, match="copy of a training image"):
        evaluate(X, y, classes=ABC, splits=splits, keys=keys_of(numbers))


def test_a_class_with_one_image_trains_and_is_named():
    X, y = data(61)
    y[:] = np.arange(61) % 2
    y[10] = 2
    result = evaluate(X, y, classes=ABC, repeats=1)
    assert (result.n_train, result.n_test) == (61, 60)
    assert 10 not in result.oof.rows
    assert "the class cats has a single image, which trains and is never scored" in result.notes
    assert result.classes == ABC
    assert result.fitted.predict_proba(X).shape == (61, 3)


def test_classes_with_one_image_are_one_sentence():
    assert only_train(["c", "d"]) == (
        "2 classes have a single image each, which trains and is never scored: c, d"
    )


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
        (lambda a: a.update(folds="x"), "--folds is x"),
        (lambda a: a.update(repeats=0), "--repeats is 0"),
        (lambda a: a.update(repeats="many"), "--repeats is many"),
        (lambda a: a.update(seed=-1), "--seed is -1"),
        (lambda a: a.update(seed=None), "--seed is None"),
        (lambda a: a.update(holdout="x"), "--holdout is x"),
        (lambda a: a.update(holdout=0.0), "--holdout is 0"),
        (lambda a: a.update(head=5), "no head 5"),
        (lambda a: a.update(head_options=["C"]), "the options of the head logistic"),
        (lambda a: a.update(head_options={"C": -1}), "C of the head logistic is -1"),
        (lambda a: a.update(head_options={"C": "x"}), "a number above 0"),
        (lambda a: a.update(head_options={"C": np.nan}), "a number above 0"),
        (lambda a: a.update(head_options={"max_iter": 1.5}), "a whole number"),
        (lambda a: a.update(head="mlp", head_options={"dropout": 1}), "from 0 to below 1"),
        (lambda a: a.update(head="mlp", head_options={"batch_size": 0}), "auto, or a whole"),
        (lambda a: a.update(head="svm-rbf", head_options={"gamma": "auto"}), "scale, or a number"),
        (
            lambda a: a.update(head="svm", head_options={"probability": False}),
            "no option 'probability'",
        ),
        (
            lambda a: a.update(keys=keys_of(range(90)), holdout=0.9999999),
            "next: a smaller share, or leave out --holdout",
        ),
        (lambda a: a.update(metric="acuracy"), "no metric"),
        (lambda a: a.update(select="worst"), "--select"),
        (lambda a: a.update(scaling="minmax"), "no scaling"),
        (lambda a: a.update(class_weight="heavy"), "--class-weight"),
        (lambda a: a.update(grid=[]), "is empty"),
        (lambda a: a.update(grid=[{"D": 1.0}]), "no option 'D'"),
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
        return evaluate(features, y, classes=ABC, splits=splits).fitted.predict_proba(X[:60])

    assert np.array_equal(kept(X), kept(stretched))

    def leaky(features):
        scaled = StandardScaler().fit_transform(features).astype(np.float32)
        result = evaluate(scaled, y, classes=ABC, splits=splits)
        return result.fitted.head.coef_ / scaled[:60].std(axis=0)

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


# --- copies count once -----------------------------------------------------------------------


def with_copies(X, y, *, times, seed=0):
    """Every image `times` over, in mixed order, with keys."""
    order = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(y)), times))
    return X[order], y[order], keys_of(range(len(y)))[order]


def numbers(metrics):
    return {name: pytest.approx([m["value"], m["low"], m["high"]]) for name, m in metrics.items()}


def bounds(metrics):
    return {name: [m["value"], m["low"], m["high"]] for name, m in metrics.items()}


def sure(answers, k=3):
    """Probabilities of answers."""
    return 0.1 / k + 0.9 * np.eye(k)[answers]


def test_a_test_set_with_copies_scores_as_without_them():
    """Ten copies of 16 images were taken for 160 images: the interval was a third as wide."""
    X, y = data(106, gap=1.0)
    once = evaluate(
        X,
        y,
        classes=ABC,
        splits=split(106, ("train", 90), ("test", 16)),
        keys=keys_of(range(106)),  # the inner folds are dealt by them
    )
    order = np.concatenate([np.arange(90), np.repeat(np.arange(90, 106), 10)])
    many = evaluate(
        X[order],
        y[order],
        classes=ABC,
        splits=split(250, ("train", 90), ("test", 160)),
        keys=keys_of(range(106))[order],
    )
    assert (once.n_test, many.n_test) == (16, 160)
    assert bounds(many.metrics) == numbers(once.metrics)
    assert bounds(many.baseline) == numbers(once.baseline)
    assert 0 < once.metrics["accuracy"]["value"] < 1
    assert many.confusion.dtype == np.int64
    assert np.array_equal(many.confusion, 10 * once.confusion)
    for a, b in zip(many.per_class, once.per_class, strict=True):
        assert a == b | {"n": 10 * b["n"]}
    note = "144 of 160 scored images are copies of others; identical images count once, together"
    assert note in many.notes
    assert not any("copies" in note or "copy" in note for note in once.notes)


def test_nested_intervals_and_repeats_follow_the_different_images():
    X, y = data(30, k=2, gap=0.7)
    X, y, keys = with_copies(X, y, times=10)
    options = {"classes": ABC, "head_options": {"C": 0.01}}
    grouped = evaluate(X, y, keys=keys, **options)
    plain = evaluate(X, y, **options)
    assert (grouped.protocol, plain.protocol) == ("nested-5x10", "nested-5x2")
    accuracy = grouped.metrics["accuracy"]
    low, high = wilson(accuracy["value"], 30 / CV_SHRINK)
    assert accuracy["low"] == pytest.approx(float(low))
    assert float(high) - 1e-9 <= accuracy["high"] < float(high) + 0.1  # and the learning curve
    assert grouped.n_test == grouped.confusion.sum() == 300


def test_one_image_many_times_does_not_carry_the_score():
    """30 images, one of them 71 times; only that one is answered right."""
    order = np.concatenate([np.arange(30), np.zeros(70, int)])
    y = (np.arange(30) % 2)[order]
    answers = np.where(order == 0, y, 1 - y)
    found = score(sure(answers), y, ABC, keys=keys_of(range(30))[order])
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(1 / 30)
    assert found["n"] == found["confusion"].sum() == 100


def test_score_counts_copies_once():
    y = data(20)[1]
    answers = sure(np.random.default_rng(0).integers(0, 3, 20))
    once = score(answers, y, ABC, keys=keys_of(range(20)))
    order = np.repeat(np.arange(20), np.arange(20) % 4 + 1)
    many = score(answers[order], y[order], ABC, keys=keys_of(range(20))[order])
    assert bounds(many["metrics"]) == numbers(once["metrics"])
    assert bounds(score(answers, y, ABC)["metrics"]) == numbers(once["metrics"])
    assert bounds(many["baseline"]) == numbers(once["baseline"])
    assert (once["n"], many["n"]) == (20, 50)
    assert once["notes"] == []
    assert many["notes"][0].startswith("30 of 50 scored images are copies")
    with pytest.raises(FitError, match="keys 19, labels 20"):
        score(answers, y, ABC, keys=keys_of(range(19)))


def test_the_baseline_answers_with_the_class_of_the_training_rows():
    X, y = data(60, k=2)
    y[:40] = np.arange(40) % 4 == 0  # 30 ants and 10 bees train
    y[40:] = np.arange(20) % 4 != 0  # 5 ants and 15 bees score
    result = evaluate(X, y, classes=ABC, splits=split(60, ("train", 40), ("test", 20)))
    assert result.majority == 0
    assert result.baseline["accuracy"]["value"] == 0.25
    answers = result.oof.probabilities
    same = score(answers, result.oof.y, result.classes, frequencies=result.frequencies)
    assert bounds(same["baseline"]) == numbers(result.baseline)
    assert score(answers, result.oof.y, result.classes)["baseline"]["accuracy"]["value"] == 0.75


def test_a_class_of_copies_is_not_the_majority():
    X, y = data(30, k=2)
    y[:] = np.arange(30) < 10
    order = np.concatenate([np.arange(30), np.repeat(np.arange(10), 9)])  # 100 rows of 10 bees
    result = evaluate(
        X[order], y[order], classes=ABC, keys=keys_of(range(30))[order], repeats=1, folds=3
    )
    assert result.majority == 0
    assert result.baseline["accuracy"]["value"] == pytest.approx(2 / 3)


# --- what heads warn of ----------------------------------------------------------------------


def test_doubts_of_a_head_become_one_note_in_plain_words(recwarn):
    X, y = data(21)
    y[:] = np.arange(21) % 2
    y[4] = 2
    result = evaluate(
        X, y, classes=ABC, head="mlp", head_options={"hidden": 4, "max_epochs": 2}, folds=3
    )
    assert len(recwarn) == 0
    assert [note for note in result.notes if "fits" in note] == [
        "1 of 1 fits stopped before they converged; a larger max_epochs gives them more time",
        "in 1 of 1 fits, a class has a single sample, so that none is held out; the training loss "
        "decides when to stop",
    ]


def test_fits_that_did_not_converge_are_named_by_their_setting():
    X, y = data(45, gap=0.5)
    options = {"C": 100.0, "max_iter": 2}
    result = evaluate(X, y, classes=ABC, head_options=options, folds=3, repeats=1)
    assert (
        "4 of 4 fits stopped before they converged, with C = 100; a larger max_iter gives them more "
        "time"
    ) in result.notes


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
    one, two = first.fitted.to_state(), second.fitted.to_state()
    assert one[0] == two[0]
    assert all(np.array_equal(one[1][name], two[1][name]) for name in one[1])
    assert not np.array_equal(other.oof.folds, first.oof.folds)


def test_numbers_of_numpy_and_auto_are_what_they_mean():
    X, y = data(60)
    plain = evaluate(X, y, classes=ABC, head_options={"C": 0.5}, folds=2, seed=3)
    other = evaluate(
        X,
        y,
        classes=ABC,
        head_options={"C": np.float32(0.5)},
        folds=np.int64(2),
        repeats="auto",
        seed=np.int64(3),
    )
    assert plain.protocol == other.protocol == "nested-2x10"
    assert plain.metrics == other.metrics
    assert type(other.params["C"]) is float


def test_more_folds_than_images_of_a_class_are_as_many_as_images():
    X, y = data(12, k=2)
    huge = evaluate(X, y, classes=ABC, folds=10**12, repeats=1, head_options={"C": 0.1})
    assert (huge.protocol, huge.n_test) == ("nested-6x1", 12)


def test_repeats_follow_the_size():
    X, y = data(60)
    result = evaluate(X, y, classes=ABC, head_options={"C": 0.01}, folds=2)
    assert result.protocol == "nested-2x10"
    sizes = (10, 99, 100, 999, 1000)
    assert [default_repeats(n) for n in sizes] == [10, 10, 2, 2, 1]
    assert [default_repeats(n, slow=True) for n in sizes] == [1] * 5


def test_an_option_of_the_grid_ends_the_choice():
    X, y = data(60)
    result = evaluate(X, y, classes=ABC, repeats=1, head_options={"C": 0.03})
    assert result.params == {"C": 0.03}
    assert result.fitted.head.C == 0.03


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
    probabilities = result.fitted.predict_proba(X)
    found = score(probabilities, y_new, ABC)
    assert found["n"] == 86
    assert found["notes"] == ["4 unlabelled images left out"]
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(
        np.mean(probabilities[4:].argmax(axis=1) == y[4:])
    )
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


# --- several views of an image ---------------------------------------------------------------


def test_the_views_of_an_image_answer_together_and_count_as_one_image():
    """Single views are noisy; the mean of nine is nearly always right."""
    rng = np.random.default_rng(5)
    truth = np.arange(40) % 2
    y = np.repeat(truth, 9).astype(np.int32)
    X = rng.normal(size=(360, 4)) + 0.9 * np.outer(y, np.eye(4)[0])
    keys = np.repeat(keys_of(range(40)), 9, axis=0)
    splits = split(360, ("train", 180), ("test", 180))
    result = evaluate(X, y, classes=["ants", "bees"], splits=splits, keys=keys, views=9)
    # By hand: the kept head's probabilities, averaged image by image.
    p = result.fitted.predict_proba(X[180:]).reshape(20, 9, 2)
    right = (p.mean(axis=1).argmax(axis=1) == truth[20:]).mean()
    alone = (p.argmax(axis=2) == truth[20:, None]).mean()
    assert result.metrics["accuracy"]["value"] == pytest.approx(right)
    assert right > alone
    np.testing.assert_allclose(
        result.oof.probabilities, np.repeat(p.mean(axis=1), 9, axis=0), rtol=1e-9
    )
    low, high = wilson(right, 20)
    assert result.metrics["accuracy"]["low"] == pytest.approx(float(low))
    assert result.metrics["accuracy"]["high"] == pytest.approx(float(high))
    assert (result.n_train, result.n_test, result.confusion.sum()) == (20, 20, 20)
    assert sum(each["n"] for each in result.per_class) == 20
    assert any("180 rows are 20 images" in note for note in result.notes)
    assert not any("copies" in note for note in result.notes)


def test_what_is_taken_where_nothing_can_be_chosen_is_told_as_taken():
    # Of 2 images a class, one trains in every outer fold: no inner fold can score a class.
    X, y = data(6)
    result = evaluate(X, y, classes=ABC, repeats=1)
    told = next(note for note in result.notes if "too few images to choose" in note)
    taken = HEADS["logistic"].grid[HEADS["logistic"].fallback]["C"]
    assert f"took C = {taken:g} there" in told
    assert result.params["C"] != taken  # of the kept head, which could choose
