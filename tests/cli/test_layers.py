"""``bottleneck layers``, and ``extract`` with layers, several backbones and framings, as typed."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner
from PIL import Image


def run(*arguments):
    return CliRunner().invoke(bottleneck, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layers") / "photos"
    rng = np.random.default_rng(0)
    for name, colour in {"green": (30, 160, 60), "red": (170, 40, 40)}.items():
        (folder / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (48, 64, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_layers_are_a_tree_in_forward_order():
    result = run("layers", "ResNet-18")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith("resnet18: ")
    assert "224x224" in lines[0]
    rows = {line.split()[0]: line for line in lines[3:]}
    order = list(rows)
    assert order.index("conv1") < order.index("layer1.0.add") < order.index("layer1.0")
    assert order.index("layer4") < order.index("avgpool") < order.index("penultimate")
    assert rows["layer4.0.conv1"].startswith("    layer4.0.conv1 ")
    assert "512 x 7 x 7" in rows["layer4"]
    assert rows["layer4"].split()[-2:] == ["avg", "512"]
    assert rows["penultimate"].split()[-1] == "512"


def test_layers_as_data_for_another_crop_and_only_some():
    result = run("layers", "resnet18", "--crop", 96, "--layer", "layer[34]", "--json")
    assert result.exit_code == 1
    result = run("layers", "resnet18", "--crop", 96, "--layer", "layer?", "--json")
    reply = json.loads(result.stdout)
    assert reply["input_size"] == [96, 96]
    assert [(n["name"], n["shape"]) for n in reply["nodes"]] == [
        ("layer1", [64, 24, 24]),
        ("layer2", [128, 12, 12]),
        ("layer3", [256, 6, 6]),
        ("layer4", [512, 3, 3]),
    ]
    assert reply["nodes"][3]["poolings"] == ["avg", "max", "gem", "flatten", "KxK"]
    result = run("layers", "resnet18", "--modules", "--json")
    assert not any(n["name"].endswith(".add") for n in json.loads(result.stdout)["nodes"])


def test_a_backbone_that_is_not_there_is_an_error_with_the_nearest():
    result = run("layers", "resnet5O")
    assert result.exit_code == 1
    assert "did you mean resnet50" in result.stderr


def test_layers_go_into_one_file_and_a_probe_cuts_where_it_was_fitted(photos, tmp_path):
    file = tmp_path / "x.h5"
    result = run("extract", photos, "-o", file, "--layer", "penultimate", "--layer", "blocks.[01]")
    assert result.exit_code == 1  # no such pattern: nothing was begun
    assert not file.exists()
    result = run(
        "extract", photos, "-o", file, "--layer", "penultimate", "--layer", "blocks.1:max", "--json"
    )
    assert result.exit_code == 0, result.output
    reply = json.loads(result.stdout)
    assert reply["layers"] == {"penultimate:none": [12, 1280], "blocks.1:max": [12, 24]}
    shown = run("info", file)
    assert "blocks.1:max 24" in shown.stdout
    fitted = run("fit", f"{file}::blocks.1", "--folds", 3, "--repeats", 1)
    assert fitted.exit_code == 0, fitted.output
    probe = tmp_path / "x-blocks.1-logistic.probe"
    assert bp.load(probe).recipe["outputs"] == [{"node": "blocks.1", "pooling": "max"}]
    guess = run("predict", probe, photos, "-o", tmp_path / "guess.csv")
    assert guess.exit_code == 0, guess.output
    assert (tmp_path / "guess.csv").read_text().count(",ok,") == 12


def test_several_backbones_write_a_file_each(photos, tmp_path):
    result = run(
        "extract", photos, "--backbone", "efficientnet_lite0", "--backbone", "resnet18",
        "--weights", "none", "-o", f"{tmp_path / 'both'}/", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    reply = json.loads(result.stdout)
    assert [out["features"] for out in reply["outputs"]] == [[12, 1280], [12, 512]]
    names = sorted(path.name for path in (tmp_path / "both").iterdir() if path.suffix == ".h5")
    assert names == ["photos-efficientnet_lite0.h5", "photos-resnet18.h5"]
    refused = run(
        "extract", photos, "--backbone", "resnet18", "--backbone", "resnet34",
        "--weights", photos, "-o", tmp_path / "other",
    )  # fmt: skip
    assert refused.exit_code == 1
    assert "cannot be the weights of 2 networks" in refused.stderr


def test_random_weights_mark_the_file_the_probe_and_the_score(photos, tmp_path):
    file = tmp_path / "random.h5"
    result = run("extract", photos, "--weights", "none", "-o", file)
    assert result.exit_code == 0, result.output
    assert "RANDOM" in result.stdout
    assert "RANDOM" in run("info", file).stdout
    assert bp.open(file).recipe["weights_sha256"] == "random:0"
    fitted = run("fit", file, "--folds", 3, "--repeats", 1)
    assert "RANDOM" in fitted.stderr
    probe = bp.load(tmp_path / "random-logistic.probe")
    assert any("RANDOM" in note for note in probe.notes)
    # With trained weights the same images are another recipe.
    refused = run("extract", photos, "--backbone", "efficientnet_lite0", "-o", tmp_path / "t.h5")
    assert refused.exit_code == 0
    assert bp.open(tmp_path / "t.h5").fingerprint != bp.open(file).fingerprint


def test_a_dry_run_previews_and_writes_no_features(photos, tmp_path):
    file, seen = tmp_path / "x.h5", tmp_path / "seen.png"
    result = run(
        "extract", photos, "-o", file, "--dry-run", "--framing", "pad", "--preview", seen, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["to_compute"] == 12
    assert not file.exists()
    with Image.open(seen) as sheet:
        assert sheet.size > (224, 224)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--framing", "tiles:0x3", "tiles:RxC"),
        ("--range", "bits:17", "bits:N"),
        ("--resize", "0", "4096"),
        ("--pooling", "max", "--layer"),
        ("--layer", "nowhere", "bottleneck layers"),
    ],
)
def test_bad_values_are_refused_before_the_work(photos, tmp_path, option, value, said):
    result = run("extract", photos, "-o", tmp_path / "x.h5", option, value)
    assert result.exit_code == 1
    assert said in result.stderr
    assert "Traceback" not in result.output
