"""Columns that may be groups, and what they do to a score."""

import numpy as np
import pytest
from bottleneck_probe.evaluate.unseen import candidates, unseen_groups

Y = np.repeat([0, 1], 30)
IMAGES = np.arange(60)


def names(i, count):
    return [f"{i}{row % count}" for row in range(60)]


@pytest.mark.parametrize(
    ("name", "values", "is_one"),
    [
        ("plate", names("p", 6), True),
        ("label", ["ab"[y] for y in Y], False),  # one value a class
        ("file", [f"{row}.jpg" for row in range(60)], False),  # one image a value
        ("license", ["CC"] * 60, False),
        (
            "camera",
            [*["one"] * 10, *["two"] * 20, *["three"] * 30],
            False,
        ),  # one class has one value
        ("plate", ["", *names("p", 6)[1:]], True),
        ("plate", [*[""] * 20, *names("p", 6)[20:]], False),
        ("age", (np.arange(60) % 6).astype(float), False),  # a measurement
        ("patient_id", (np.arange(60) % 6).astype(float), True),
        ("patient", np.arange(60) % 6 + 0.5, False),
        ("wide", (np.arange(60) % 6).astype(float), False),  # "id" is only a part of the word
    ],
)
def test_which_columns_may_be_groups(name, values, is_one):
    assert candidates({name: values}, Y, IMAGES) == ([name] if is_one else [])


def test_copies_do_not_make_a_column_a_group():
    """Each value has two rows, but of one picture."""
    assert candidates({"file": [str(i // 2) for i in range(60)]}, Y, IMAGES // 2) == []


def test_at_most_three_columns_in_their_order():
    columns = {name: names(name, 5) for name in "dbca"}
    assert candidates(columns, Y, IMAGES) == ["d", "b", "c"]


def plates(strength, seed=0):
    """The label goes with the plate; `strength` says how much the plate shows in the features."""
    rng = np.random.default_rng(seed)
    plate = rng.integers(0, 12, 300)
    y = (plate % 2 + (rng.random(300) < 0.1)) % 2
    X = rng.normal(size=(300, 20)) + strength * rng.normal(size=(12, 20))[plate]
    return X.astype(np.float32), y, [f"plate {p}" for p in plate]


def test_a_score_that_lives_on_the_plate_falls_on_an_unseen_one():
    X, y, plate = plates(3)
    (found,) = unseen_groups(X, y, {"plate": plate, "file": range(300)}, images=np.arange(300))
    assert found["column"] == "plate"
    assert found["groups"] == 12
    assert found["images"] == 300
    assert found["random"] > 0.8
    assert found["unseen"] < 0.7
    assert found["sentence"] == (
        f"{100 * found['random']:.1f} % at random, {100 * found['unseen']:.1f} % on an unseen plate "
        "(12 of them)"
    )


def test_a_class_that_shows_everywhere_scores_as_well_on_an_unseen_plate():
    X, y, plate = plates(0)
    X[:, 0] += 10 * y
    (found,) = unseen_groups(X, y, {"plate": plate}, images=np.arange(300))
    assert found["random"] > 0.95
    assert found["unseen"] > 0.95


def test_both_scores_are_of_the_same_images():
    """A class of one plate is not scored on an unseen one, and so not at random either."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 40)
    plate = [*names("p", 5)[:40], *names("p", 5)[:40], *["alone"] * 40]
    X = rng.normal(size=(120, 8)).astype(np.float32)
    (found,) = unseen_groups(X, y, {"plate": plate}, images=np.arange(120))
    assert found["images"] == 80


def test_nothing_is_fitted_without_a_column():
    def never():
        raise AssertionError("a fit")

    X, y, _ = plates(1)
    assert unseen_groups(X, y, {}, images=np.arange(300), tick=never) == []


def test_the_same_seed_gives_the_same_scores():
    X, y, plate = plates(1)
    once, again, other = (
        unseen_groups(X, y, {"plate": plate}, images=np.arange(300), seed=seed)
        for seed in (0, 0, 1)
    )
    assert once == again
    assert once != other
