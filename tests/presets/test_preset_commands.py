"""`--preset` as a user types it, from images to the number."""

import json
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner
from PIL import Image

COLOURS = {"green": (60, 130, 70), "red": (110, 90, 70)}


def run(*arguments: object):
    return CliRunner().invoke(bottleneck, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes, 12 pictures each to train and 6 to test."""
    folder = tmp_path_factory.mktemp("preset") / "photos"
    rng = np.random.default_rng(0)
    for split, n in (("train", 12), ("test", 6)):
        for name, colour in COLOURS.items():
            (folder / split / name).mkdir(parents=True)
            for i in range(n):
                pixels = np.clip(np.array(colour) + rng.normal(0, 60, (48, 64, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def features(photos: Path) -> Path:
    path = photos.parent / "dinov2.h5"
    result = run("extract", photos, "--preset", "dinov2", "-o", path, "--engine", "eager")
    assert result.exit_code == 0, result.output
    return path


def test_extract_makes_the_protocols_features(features: Path) -> None:
    recipe = bp.open(features).recipe
    found = recipe["preprocessing"]
    assert (found["resize"], found["crop"], found["interpolation"]) == (224, [224, 224], "bicubic")
    assert found["mean"] == [0.5, 0.5, 0.5]  # the network's own
    assert recipe["precision"] == "fp32"


def test_fit_names_its_result_after_the_protocol(features: Path) -> None:
    result = run("fit", features, "--preset", "dinov2", "--json", "--force")
    assert result.exit_code == 0, result.output
    reply = json.loads(result.stdout)
    assert reply["protocol"] == "dinov2"
    assert reply["output"].endswith("dinov2-dinov2.probe")
    assert reply["preset"]["deviations"] == []
    (line,) = reply["preset"]["headline"]
    assert line["name"] == "top-1"
    assert line["value"] == reply["metrics"]["accuracy"]["value"]
    probe = bp.load(reply["output"])
    assert (probe.protocol, probe.extra["preset"]) == ("dinov2", reply["preset"])
    assert run("score", reply["output"], features.parent / "photos" / "test").exit_code == 0


def test_other_features_are_called_like_and_the_screen_says_how(
    photos: Path, features: Path
) -> None:
    other = features.with_name("larger.h5")
    arguments = ("--preset", "dinov2", "--resize", "256", "--engine", "eager")
    assert run("extract", photos, "-o", other, *arguments).exit_code == 0
    result = run("fit", other, "--preset", "dinov2")
    assert result.exit_code == 0, result.output
    assert "dinov2-like: top-1" in result.output
    assert "not as published: resize: 256, the protocol 224" in result.output


def test_an_option_that_the_protocol_decides_is_refused(features: Path) -> None:
    result = run(
        "fit", features, "--preset", "dinov2", "--head", "svm", "--select", "best", "--force"
    )
    assert result.exit_code == 1
    assert "--preset dinov2 decides --select, --head by itself" in result.output.replace(
        "--head, --select", "--select, --head"
    )


def test_the_same_in_python(photos: Path, features: Path) -> None:
    probe = bp.fit(features, preset="dinov2", quiet=True)
    assert probe.protocol == "dinov2"
    again = bp.extract(photos, preset="dinov2", output=features, engine="eager", quiet=True)
    assert again.recipe == bp.open(features).recipe
    with pytest.raises(bp.BottleneckError, match="no preset 'dinov3'"):
        bp.extract(photos, preset="dinov3", quiet=True)


def test_rows_of_tiles_are_refused(photos: Path, features: Path) -> None:
    tiles = features.with_name("tiles.h5")
    run("extract", photos, "--framing", "tiles:2x2", "-o", tiles, "--engine", "eager")
    result = run("fit", tiles, "--preset", "dinov2")
    assert result.exit_code == 1
    assert "4 rows an image" in result.output
