"""``bottleneck compare`` as a user types it."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner

QUICK = ("--folds", 3, "--repeats", 1)


def run(*arguments):
    return CliRunner().invoke(bottleneck, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two embeddings of 40 images; the second one knows nothing."""
    folder = tmp_path_factory.mktemp("compare")
    rng = np.random.default_rng(0)
    names = ["ants", "bees"] * 20
    for backbone, gap in (("good", 4.0), ("poor", 0.0)):
        X = rng.normal(size=(40, 5)) + gap * np.outer(np.arange(40) % 2, np.eye(5)[0])
        own = bp.Features.from_arrays(
            X, names, recipe={"backbone": backbone, "weights_sha256": f"random:{gap}"}
        )
        own.save(folder / f"{backbone}.h5")
    return [folder / "good.h5", folder / "poor.h5"]


def test_the_table_the_test_and_the_advice(files):
    result = run("compare", *files, *QUICK)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:4] == ["set", "features", "images/s", "accuracy"]
    assert lines[1].startswith("good (random weights)")
    assert "recommended" in lines[1]
    assert lines[2].startswith("poor (random weights)")
    assert "nested-3x1: 40 images" in result.stdout
    assert "p: corrected resampled t, df 2" in result.stdout
    assert "Take good (random weights)" in result.stdout


def test_json_is_one_object_with_what_python_finds(files):
    result = run("compare", *files, "--json", *QUICK)
    data = json.loads(result.stdout)
    assert (data["schema_version"], data["command"], data["exit_code"]) == (1, "compare", 0)
    expected = bp.compare(files, folds=3, repeats=1, quiet=True).to_dict()
    for name in expected.keys() - {"seconds"}:
        assert data[name] == json.loads(json.dumps(expected[name]))
    assert data["seconds"] > 0
    assert data["recommended"] == "good"


@pytest.mark.parametrize("option", ["--metric", "--select", "--seed", "--head", "--holdout"])
def test_options_reach_the_evaluation(files, option):
    value = {
        "--metric": "macro_f1",
        "--select": "best",
        "--seed": 7,
        "--head": "svm",
        "--holdout": 0.4,
    }[option]
    data = json.loads(run("compare", *files, "--json", option, value, *QUICK).stdout)
    keyword = {option.removeprefix("--"): value}
    expected = bp.compare(files, folds=3, repeats=1, quiet=True, **keyword).to_dict()
    default = bp.compare(files, folds=3, repeats=1, quiet=True).to_dict()
    assert data["sets"] == json.loads(json.dumps(expected["sets"]))
    assert {name: expected[name] for name in expected.keys() - {"seconds"}} != {
        name: default[name] for name in default.keys() - {"seconds"}
    }


def test_one_set_is_an_error_that_says_what_to_do(files):
    result = run("compare", files[0], "--json")
    data = json.loads(result.stdout)
    assert result.exit_code == data["exit_code"] == 1
    assert data["error"]["what"] == "1 set of features: good"
    assert "--layer NODE" in data["error"]["next"]
    plain = run("compare", files[0])
    assert plain.exit_code == 1
    assert plain.stdout == ""
    assert "error: 1 set of features" in plain.stderr


def test_a_missing_file_and_no_file_at_all(files):
    result = run("compare", files[0], files[1].with_name("por.h5"))
    assert result.exit_code == 1
    assert "poor.h5" in result.stderr
    assert run("compare").exit_code == 2


def test_three_layers_of_real_photographs(test_data, tmp_path):
    """The later layers tell ants from bees better, and compare shows it."""
    file = tmp_path / "ab.h5"
    layers = [
        part for name in ("penultimate", "blocks.4", "blocks.0") for part in ("--layer", name)
    ]
    made = run("extract", test_data / "ants-bees" / "val", "-o", file, "--engine", "eager", *layers)
    assert made.exit_code == 0, made.output
    data = json.loads(run("compare", file, "--json").stdout)
    assert [each["feature_size"] for each in data["sets"]] == [1280, 112, 16]
    assert data["recommended"] == "efficientnet_lite0 · penultimate"
    first_and_last = data["comparisons"][1]
    assert first_and_last["difference"]["low"] > 0
    assert first_and_last["p_adjusted"] < 0.05
    probe = bp.fit(bp.open(file), quiet=True)
    assert data["sets"][0]["metrics"] == probe.metrics
