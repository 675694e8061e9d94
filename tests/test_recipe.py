import copy
import json
import math

import numpy as np
import pytest
from bottleneck_probe.errors import RecipeError
from bottleneck_probe.recipe import (
    ABSENT,
    canonical_json,
    differences,
    fingerprint,
    recipe_conflict,
)
from hypothesis import given, settings
from hypothesis import strategies as st

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
RECIPES = st.dictionaries(TEXT.filter(lambda name: name != "outputs"), JSON, max_size=5)
OUTPUT = {"node": "penultimate", "pooling": "none"}


@pytest.fixture
def recipe() -> dict:
    return {
        "modality": "image",
        "backbone": "efficientnet_lite0",
        "weights_sha256": "ab" * 32,
        "preprocessing": {"resize": 256, "crop": [224, 224], "mean": [0.5, 0.5, 0.5]},
        "precision": "fp32",
        "outputs": [{"node": "penultimate", "pooling": "none"}],
    }


def shuffled(data, random):
    """The same JSON data with every dict's keys in another order."""
    if isinstance(data, dict):
        items = list(data.items())
        random.shuffle(items)
        return {name: shuffled(value, random) for name, value in items}
    return [shuffled(item, random) for item in data] if isinstance(data, list) else data


def leaves(data, place=()):
    """Where every scalar of some JSON data stands."""
    if isinstance(data, dict | list):
        names = data if isinstance(data, dict) else range(len(data))
        for name in names:
            yield from leaves(data[name], (*place, name))
    else:
        yield place


@settings(deadline=None, max_examples=200)
@given(JSON)
def test_canonical_json_reads_back_equal(data):
    assert json.loads(canonical_json(data)) == data


@settings(deadline=None, max_examples=100)
@given(RECIPES, st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_matter(recipe, random):
    assert fingerprint(shuffled(recipe, random), OUTPUT) == fingerprint(recipe, OUTPUT)
    assert differences(shuffled(recipe, random), recipe) == []


@settings(deadline=None, max_examples=200)
@given(RECIPES, st.data())
def test_changing_any_field_changes_the_fingerprint_and_is_named(recipe, data):
    places = list(leaves(recipe))
    if not places:
        return
    place = data.draw(st.sampled_from(places))
    changed = copy.deepcopy(recipe)
    inner = changed
    for name in place[:-1]:
        inner = inner[name]
    before = inner[place[-1]]
    inner[place[-1]] = after = data.draw(SCALARS)
    same = before == after and isinstance(before, bool) == isinstance(after, bool)
    assert (fingerprint(recipe, OUTPUT) == fingerprint(changed, OUTPUT)) is same
    assert (differences(recipe, changed) == []) is same


@settings(deadline=None, max_examples=100)
@given(RECIPES, RECIPES)
def test_no_difference_means_one_canonical_json(a, b):
    assert (differences(a, b) == []) is (canonical_json(a) == canonical_json(b))


@settings(deadline=None, max_examples=50)
@given(RECIPES, TEXT, JSON)
def test_a_new_field_changes_the_fingerprint(recipe, name, value):
    if name in recipe or name in ("outputs", "output"):
        return
    assert fingerprint({**recipe, name: value}, OUTPUT) != fingerprint(recipe, OUTPUT)


def test_the_fingerprint_belongs_to_one_output_and_not_to_the_list(recipe):
    more = {**recipe, "outputs": [*recipe["outputs"], {"node": "blocks.3", "pooling": "avg"}]}
    first, second = more["outputs"]
    assert fingerprint(more, first) == fingerprint(recipe, first)
    assert fingerprint(more, second) != fingerprint(more, first)


@pytest.mark.parametrize(("a", "b"), [(1, 1.0), (0, -0.0), (10**300 // 1, 10**300), (1e22, 10**22)])
def test_equal_numbers_have_one_spelling(a, b):
    assert canonical_json(a) == canonical_json(b)


def test_true_is_not_one():
    assert canonical_json(True) != canonical_json(1)


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, (1, 2), b"x", {1: 2}, np.float32(1), np.float64(1), "\udc80"],
    ids=repr,
)
def test_what_json_does_not_have_is_refused_with_its_field(value):
    with pytest.raises(RecipeError, match=r"preprocessing\.mean"):
        canonical_json({"preprocessing": {"mean": value}})


def test_differences_name_dotted_fields_with_both_values(recipe):
    other = copy.deepcopy(recipe)
    other["preprocessing"]["mean"][1] = 0.4
    other["outputs"][0]["node"] = "blocks.3"
    del other["precision"]
    assert differences(recipe, other) == [
        ("preprocessing.mean", [0.5, 0.5, 0.5], [0.5, 0.4, 0.5]),
        ("precision", "fp32", ABSENT),
        ("outputs.0.node", "penultimate", "blocks.3"),
    ]


def test_an_absent_field_differs_from_null_and_from_an_empty_dict():
    assert differences({"a": None}, {}) == [("a", None, ABSENT)]
    assert differences({}, {"a": {}}) == [("a", ABSENT, {})]


def test_a_conflict_shows_every_field_and_proposes_a_name_that_is_free(recipe, tmp_path):
    wanted = {**recipe, "backbone": "resnet50", "precision": "auto"}
    error = recipe_conflict(recipe, wanted, tmp_path / "ants.h5")
    for part in ("backbone", '"efficientnet_lite0" there, "resnet50" here', "precision"):
        assert part in str(error)
    assert str(tmp_path / "ants-resnet50.h5") in error.next
    (tmp_path / "ants-resnet50.h5").touch()
    taken = recipe_conflict(recipe, wanted, tmp_path / "ants.h5")
    assert "ants-resnet50.h5" not in taken.next
    assert "ants-" in taken.next
