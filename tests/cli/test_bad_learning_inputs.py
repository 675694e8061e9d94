"""Labelled images that little or nothing can be learned from, as `fit` and `score` meet them."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner


@pytest.fixture
def features(calls, stub, tmp_path):
    """Extracts a folder; its images are given as path and number, equal numbers are equal bytes."""

    def extract(images, folder="photos", **options):
        for path, number in images.items():
            stub.paint(tmp_path / folder / path, number)
        output = tmp_path / f"{folder}.h5"
        bp.extract(tmp_path / folder, output=output, backbone="stub", quiet=True, **options)
        return str(output)

    return extract


@pytest.fixture
def fit(tmp_path):
    """The command; its exit code and its answer."""

    def run(file, *more):
        command = ["fit", file, "-o", str(tmp_path / "x.probe"), "--head", "ncm", "--repeats", "1"]
        result = CliRunner().invoke(bottleneck, [*command, "--json", *more])
        answer = json.loads(result.stdout)
        assert answer["exit_code"] == result.exit_code
        assert (tmp_path / "x.probe").exists() == (result.exit_code == 0)
        return result.exit_code, answer

    return run


def many(folder, n, first=0):
    return {f"{folder}/{number:03d}.png": number for number in range(first, first + n)}


REFUSED = {
    "one class": (many("ants", 12), "1 class: ants; needs 2"),
    "no label": (
        {name.replace("ants/", ""): number for name, number in many("ants", 12).items()},
        "none of the 12 images has a label",
    ),
    "one class of two images": (
        many("ants", 12) | many("bees", 1, 50),
        "fewer than 2 classes",
    ),
    "a class in test alone": (
        many("train/ants", 6) | many("train/bees", 6, 20) | many("test/cats", 3, 40),
        "cats: all images are in the split that scores",
    ),
    "a class in val alone": (
        many("train/ants", 6) | many("train/bees", 6, 20) | many("val/cats", 3, 40),
        "cats: all images are in the split that scores",
    ),
    "copies only": (
        many("train/ants", 6) | many("train/bees", 6, 20) | many("test/ants", 3),
        "copy of a training image",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_gives_no_honest_score_is_exit_1(name, features, fit):
    images, words = REFUSED[name]
    code, answer = fit(features(images))
    assert code == 1
    assert words in answer["error"]["what"]
    assert answer["error"]["next"]
    assert "metrics" not in answer


TOLD = {
    "a class of fewer images than folds": (
        many("ants", 12) | many("bees", 3, 50),
        15,
        ["bees (3)"],
    ),
    "a class of one image": (
        many("ants", 12) | many("bees", 12, 50) | many("cats", 1, 90),
        24,
        ["the class cats has a single image, which trains and is never scored"],
    ),
    "copies on both sides": (
        many("train/ants", 8)
        | many("train/bees", 8, 20)
        | many("test/ants", 6, 4)  # four of them are training images
        | many("test/bees", 4, 40),
        6,
        ["4 test images dropped"],
    ),
    "one image, two labels": (
        many("ants", 12) | many("bees", 12, 50) | {"bees/copy.png": 0},
        25,
        ["two labels"],
    ),
    "images without a label": (
        many("ants", 12) | many("bees", 12, 50) | {"x.png": 90, "y.png": 91},
        24,
        ["2 unlabelled images left out"],
    ),
}


@pytest.mark.parametrize("name", TOLD)
def test_what_can_be_learned_from_is_exit_0_and_told(name, features, fit):
    images, n_test, words = TOLD[name]
    code, answer = fit(features(images))
    assert (code, answer["n_test"]) == (0, n_test)
    assert any(all(word in note for word in words) for note in answer["notes"]), answer["notes"]
    for metric in answer["metrics"].values():
        assert metric["value"] is None or np.isfinite(metric["value"])


def test_images_that_look_alike_score_as_the_baseline(stub, features, fit, tmp_path):
    """Of one colour in many sizes: files of their own, and the same features."""
    for number in range(18):
        name = ("ants", "ants", "bees")[number % 3]
        stub.paint(tmp_path / "photos" / name / f"{number}.png", 7, (12 + number, 9))
    code, answer = fit(features({}))
    assert code == 0
    assert answer["metrics"]["accuracy"]["value"] == pytest.approx(12 / 18)
    assert answer["metrics"]["accuracy"]["value"] == answer["baseline"]["accuracy"]["value"]
    assert any("same features" in note for note in answer["notes"])


@pytest.fixture
def probe(features, fit, tmp_path):
    """Of three classes, which their colours tell apart."""
    images = many("ants", 8) | many("bees", 8, 10_000) | many("cats", 8, 50_000)
    assert fit(features(images))[0] == 0
    return str(tmp_path / "x.probe")


def test_classes_are_matched_by_name(probe, features):
    """Bees are the second class of the probe and the first of these images."""
    images = many("bees", 4, 10_100) | many("cats", 4, 50_100)
    file = features(images, "new")
    assert bp.open(file).classes == ["bees", "cats"]
    result = CliRunner().invoke(bottleneck, ["score", probe, file, "--json"])
    answer = json.loads(result.stdout)
    assert (result.exit_code, answer["n"]) == (0, 8)
    assert answer["metrics"]["accuracy"]["value"] == 1


def test_features_of_another_recipe_are_exit_1(probe, features, tmp_path):
    file = features(many("bees", 4, 10_100), "new", resize=9)
    table = tmp_path / "p.csv"
    for command in (["predict", probe, file, "-o", str(table)], ["score", probe, file]):
        result = CliRunner().invoke(bottleneck, [*command, "--json"])
        answer = json.loads(result.stdout)
        assert result.exit_code == answer["exit_code"] == 1
        assert "preprocessing.resize" in answer["error"]["expected"] + answer["error"]["what"]
    assert not table.exists()
