"""Every field of a recipe, changed one at a time: features of two recipes never share a file."""

import copy
import json
from dataclasses import fields, replace

import bottleneck_probe as bp
import pytest
from bottleneck_probe.backbones import registry
from bottleneck_probe.cache.features import open as open_features
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.options import RecipeOptions
from bottleneck_probe.recipe import fingerprint
from bottleneck_probe.reporter import Silent

# What decides the stub's features, all of it stated.
STATED = {
    "backbone": "stub",
    "framing": "crop",
    "range": "full",
    "decode": "full",
    "resize": 8,
    "crop": (8, 8),
    "interpolation": "bilinear",
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "precision": "fp32",
}
# Another value of each option, and the field of the recipe that then differs.
OTHER = {
    "backbone": ("other", "backbone"),
    "weights": ("none", "weights_sha256"),
    "framing": ("pad", "preprocessing.framing"),
    "range": ("bits:12", "preprocessing.range"),
    "decode": ("scaled", "preprocessing.decode"),
    "resize": (9, "preprocessing.resize"),
    "crop": (7, "preprocessing.crop"),
    "interpolation": ("nearest", "preprocessing.interpolation"),
    "mean": ((0.5, 0.5, 0.25), "preprocessing.mean"),
    "std": ((0.5, 0.25, 0.5), "preprocessing.std"),
    "precision": ("bf16", "precision"),
}
# Another layer is added to the file beside the others: features of two outputs do not mix.
ADDED = {"layer", "pooling"}
# Refused in words of its own: a file of no images.
PLAINLY = {"modality"}


@pytest.fixture
def output(tmp_path):
    return tmp_path / "x.h5"


@pytest.fixture
def extract(calls, output, photos):
    root = photos(3)

    def extract_(**options):
        calls.forwards = 0
        return run(find_images(root), output=output, reporter=Silent(), engine="eager", **options)

    return extract_


def test_each_option_that_is_a_part_of_the_recipe_has_its_case():
    assert {field.name for field in fields(RecipeOptions)} == {*OTHER, *ADDED}
    assert set(STATED) == set(OTHER) - {"weights"}


@pytest.mark.parametrize("name", list(OTHER))
def test_an_option_that_differs_is_refused_with_both_values(name, extract, output, calls):
    stored = extract(**STATED).features.recipe
    before = output.read_bytes()
    value, field = OTHER[name]
    with pytest.raises(bp.RecipeError) as caught:
        extract(**{**STATED, name: value})
    (line,) = (row.split() for row in caught.value.expected.splitlines() if field in row.split())
    text = " ".join(line[1:])
    theirs = _leaf(stored, field.split("."))
    assert text.startswith(f"{'(absent)' if theirs is None else json.dumps(theirs)[:57]}"), text
    if name not in ("weights", "crop"):
        assert json.dumps(value) in text.partition(" there, ")[2]
    assert text.endswith(" here")
    assert "-o " in caught.value.next
    assert output.read_bytes() == before
    assert calls.forwards == 0


def test_a_further_layer_joins_the_file_and_leaves_the_others(extract, output):
    first = extract(**STATED).features
    rows = first.features[:]
    second = extract(**STATED, layer=("pixels",), pooling="avg").features
    assert second.fingerprint == first.fingerprint
    assert (second.features[:] == rows).all()


def _leaves(value, path=()):
    """The path of each value in nested data that is no container."""
    if isinstance(value, dict | list):
        for name in value if isinstance(value, dict) else range(len(value)):
            yield from _leaves(value[name], (*path, name))
    else:
        yield path


def _leaf(value, path):
    for name in path:
        value = value.get(name) if isinstance(value, dict) else value[name]
    return value


def _flipped(recipe, path):
    """The same recipe with one value changed, or a field that no version has had so far."""
    changed = copy.deepcopy(recipe)
    parent = _leaf(changed, path[:-1])
    if isinstance(parent, dict) and path[-1] not in parent:
        parent[path[-1]] = "of a later version"
        return changed
    value = parent[path[-1]]
    other = (not value) if isinstance(value, bool) else f"{value}x"
    parent[path[-1]] = (
        value + 1 if isinstance(value, int | float) and value not in (0, 1) else other
    )
    return changed


def test_a_file_with_any_other_field_is_refused_and_left_alone(extract, output, calls, photos):
    """The fields are those that the recipe has today, whichever these are, and two it has not."""
    extract(**STATED)
    photos(1, first=50)  # so that there is something to compute
    source = output.rename(output.with_name("source.h5"))
    recipe = open_features(source).recipe
    paths = [*_leaves(recipe), ("later",), ("preprocessing", "later")]
    # A plain name leaves the weights open: the file's own go on, or are asked for by their hash.
    paths.remove(("weights_sha256",))
    other = _flipped(recipe, ("weights_sha256",))
    with pytest.raises(bp.WeightsError, match=other["weights_sha256"][:12]):
        registry.from_recipe(other)
    assert len(paths) > 25
    for path in paths:
        other = _flipped(recipe, path)
        made = open_features(source)
        made.header = replace(
            made.header, recipe=other, fingerprint=fingerprint(other, other["outputs"][0])
        )
        made.save(output)
        before = output.read_bytes()
        with pytest.raises(bp.BottleneckError) as caught:
            extract(**STATED, layer=("penultimate",))
        text = str(caught.value)
        assert output.read_bytes() == before, path
        assert calls.forwards == 0, path
        shown = str(_leaf(other, path))
        assert shown in text or path[0] in PLAINLY, (path, text)
        if isinstance(caught.value, bp.RecipeError) and path[0] not in PLAINLY:
            ours = _leaf(recipe, path)
            assert ("(absent)" if ours is None else str(ours)) in text, (path, text)
