"""An ONNX file as a backbone: known by its content, found again, and honest about what it lacks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from bottleneck_probe.backbones import registry
from bottleneck_probe.backbones.graphs.metadata import KEY, read_metadata
from bottleneck_probe.backbones.nodes import nodes_by_name, sizes_of
from bottleneck_probe.backbones.sources.onnx_file import SOURCE, content_of
from bottleneck_probe.engines.export import find_or_export
from bottleneck_probe.errors import InputError, WeightsError
from bottleneck_probe.reporter import Silent

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import error

DATA = Path(__file__).parent / "data"
STATED = {"resize": 32, "interpolation": "bilinear", "mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.fixture(autouse=True)
def _empty_user_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "user-cache"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "tiny_keras.onnx", tmp_path / "tiny.onnx"))


def with_metadata(path: Path, **values: str) -> Path:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {key.replace("__", "."): v for key, v in values.items()})
    onnx.save(model, path)
    return path


def externalised(path: Path, folder: Path) -> Path:
    """The same network with its weights in a file beside it."""
    folder.mkdir()
    target = folder / path.name
    model = onnx.load(path)
    onnx.save(model, target, save_as_external_data=True, location="w.data", size_threshold=0)
    return target


def test_a_file_is_called_by_its_content(file):
    """Renaming and moving it changes nothing of the recipe; output files are called after it."""
    backbone = registry.resolve(str(file), changes=STATED)
    elsewhere = file.with_name("other name.onnx")
    file.rename(elsewhere)
    moved = registry.resolve(elsewhere, changes=STATED)
    assert backbone.recipe() == moved.recipe()
    assert backbone.fingerprint() == moved.fingerprint()
    assert backbone.entry.name == f"onnx/{backbone.weights.sha256[:12]}"
    assert str(file.parent) not in json.dumps(backbone.recipe())
    assert (backbone.entry.label, moved.entry.label) == ("tiny", "other name")
    assert (moved.preprocessing.crop, sizes_of(moved)) == ((32, 32), [20])


def test_its_features_come_out_of_the_engines_own_file(file):
    wanted = np.load(DATA / "tiny_keras.npz")
    backbone = registry.resolve(str(file), changes=STATED)
    import onnxruntime

    session = onnxruntime.InferenceSession(find_or_export(backbone, Silent()))
    got = session.run(None, {"images": wanted["images"]})[0]
    assert error(got, wanted["pool"]) < 1e-4


def test_it_is_found_again_where_it_was_last_seen(file):
    recipe = registry.resolve(str(file), changes=STATED).recipe()
    again = registry.from_recipe(recipe)
    assert again.weights.path == file
    assert again.entry.graph() == file
    assert registry.find_entry(recipe["backbone"]).weights.here()
    registry.resolve(file.rename(file.with_name("moved.onnx")), changes=STATED)
    assert registry.from_recipe(recipe).entry.graph().name == "moved.onnx"


@pytest.mark.parametrize("how", ["gone", "another"])
def test_another_file_in_its_place_is_not_taken_for_it(file, how):
    recipe = registry.resolve(str(file), changes=STATED).recipe()
    if how == "gone":
        file.unlink()
    else:
        with_metadata(file, author="somebody else")
    lazy = registry.from_recipe(recipe, lazy=True)
    assert lazy.recipe() == recipe
    assert not lazy.weights.path
    for ask in (lambda: registry.from_recipe(recipe), lazy.entry.graph):
        with pytest.raises(WeightsError, match=recipe["weights_sha256"][:12]):
            ask()


def test_a_file_that_changes_while_it_is_in_use_is_noticed(file):
    backbone = registry.resolve(str(file), changes=STATED)
    with_metadata(file, author="somebody else")
    with pytest.raises(WeightsError, match="changed"):
        backbone.entry.graph()


def test_weights_beside_the_file_belong_to_its_content(file, tmp_path):
    """Two networks of one graph file with other weights must not share a name."""
    path = externalised(file, tmp_path / "external")
    first = registry.resolve(str(path), changes=STATED)
    assert registry.from_recipe(first.recipe()).entry.graph() == path
    wanted = np.load(DATA / "tiny_keras.npz")
    import onnxruntime

    session = onnxruntime.InferenceSession(find_or_export(first, Silent()))
    assert error(session.run(None, {"images": wanted["images"]})[0], wanted["pool"]) < 1e-4
    data = path.with_name("w.data")
    content = bytearray(data.read_bytes())
    content[7] ^= 1
    data.write_bytes(bytes(content))
    second = registry.resolve(str(path), changes=STATED)
    assert second.entry.name != first.entry.name
    assert second.weights.sha256 != first.weights.sha256
    data.unlink()
    with pytest.raises(InputError, match="missing"):
        registry.resolve(str(path), changes=STATED)


@pytest.mark.parametrize("external", [False, True], ids=["one file", "weights beside it"])
def test_a_file_that_was_moved_is_given_with_weights(external, file, tmp_path):
    """The recipe holds the hash of both files; that of the first alone is never it."""
    path = externalised(file, tmp_path / "external") if external else file
    recipe = registry.resolve(str(path), changes=STATED).recipe()
    moved = tmp_path / "mv"
    moved.mkdir()
    for each in (path, path.with_name("w.data")) if external else (path,):
        each.rename(moved / each.name)
    with pytest.raises(WeightsError):
        registry.from_recipe(recipe)
    # Named so, and not only found again by the note of where it was seen.
    shutil.rmtree(tmp_path / "user-cache")
    again = registry.from_recipe(recipe, weights=moved / path.name)
    assert again.recipe() == recipe
    assert again.entry.graph() == moved / path.name
    assert find_or_export(again, Silent()).is_file()
    assert registry.from_recipe(recipe).weights.path == moved / path.name  # and from now on


def test_another_file_given_with_weights_is_refused(file, tmp_path):
    path = externalised(file, tmp_path / "external")
    recipe = registry.resolve(str(path), changes=STATED).recipe()
    data = path.with_name("w.data")
    content = bytearray(data.read_bytes())
    content[7] ^= 1
    data.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="has SHA-256") as caught:
        registry.from_recipe(recipe, weights=path)
    assert recipe["weights_sha256"][:12] in caught.value.expected
    with pytest.raises(WeightsError, match="no weights at"):
        registry.from_recipe(recipe, weights=tmp_path / "nowhere.onnx")


def test_what_the_file_does_not_say_is_asked_for(file):
    with pytest.raises(InputError) as caught:
        registry.resolve(str(file))
    assert (
        caught.value.expected == "--resize, --interpolation, --mean, --std"
    )  # the crop is its own
    assert "0.00392157" in caught.value.next
    with_metadata(file, bottleneck__preprocessing=json.dumps({"mean": [0, 0, 0], "std": [1, 1, 1]}))
    with pytest.raises(InputError) as caught:
        registry.resolve(str(file))
    assert caught.value.expected == "--resize, --interpolation"


def test_its_layers_are_listed_though_its_preprocessing_is_not_known(file):
    network = nodes_by_name(str(file), {})
    assert (network.input_size, network.nodes[-1].name) == ((32, 32), "output_0")


def test_metadata_of_the_file_are_taken(file):
    own = {
        "resize": [40, 36],
        "interpolation": "bicubic",
        "mean": [0.1, 0.2, 0.3],
        "std": [1, 1, 2],
    }
    with_metadata(file, bottleneck__preprocessing=json.dumps(own))
    p = registry.resolve(str(file)).preprocessing
    assert (p.resize, p.crop, p.interpolation) == ((40, 36), (32, 32), "bicubic")
    assert (p.mean, p.std) == ((0.1, 0.2, 0.3), (1, 1, 2))
    changed = registry.resolve(str(file), changes={"resize": 33}).preprocessing
    assert (changed.resize, changed.mean) == (33, p.mean)


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ("NominalRange_0_255", [0, 0, 0], [1 / 255] * 3),
        ("Normalized_0_1", [0, 0, 0], [1, 1, 1]),
        ("Normalized_1_1", [0.5] * 3, [0.5] * 3),
        ("NominalRange_16_235", None, None),
    ],
)
def test_metadata_of_the_standard_are_taken(file, values, mean, std):
    fields = read_metadata(onnx.load(with_metadata(file, Image__NominalPixelRange=values))).fields
    assert (fields.get("mean"), fields.get("std")) == (mean, std)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (KEY, "{"),
        (KEY, "[1]"),
        (KEY, '{"scale": 2}'),
        (KEY, '{"mean": [1, 2]}'),
        (KEY, '{"mean": ["1", "2", "3"]}'),
        (KEY, '{"resize": true}'),
        (KEY, '{"channels": "grb"}'),
        (KEY, '{"interpolation": "spline"}'),
        ("Image.BitmapPixelFormat", "Gray8"),
        ("Image.ColorSpaceGamma", "Linear"),
    ],
)
def test_metadata_without_meaning_are_refused(file, key, value):
    with pytest.raises(InputError, match="metadata"):
        registry.resolve(str(with_metadata(file, **{key: value})), changes=STATED)


@pytest.mark.parametrize("weights", ["none", str(DATA / "tiny_keras.onnx")])
def test_other_weights_cannot_be_given(file, weights):
    with pytest.raises(InputError, match="weights"):
        registry.resolve(str(file), weights=weights, changes=STATED)


@pytest.mark.parametrize("name", ["nowhere.onnx", "onnx/nothing", "onnx/0123"])
def test_a_file_that_is_not_there_is_said(name):
    with pytest.raises(InputError, match="no ONNX file"):
        registry.resolve(name, changes=STATED)
    assert SOURCE.entry("0123456789ab").name == "onnx/0123456789ab"


def test_hash_of_a_file_without_neighbours_is_its_own(file):
    from bottleneck_probe.backbones.hashes import sha256_of

    assert content_of(file) == sha256_of(file)


def test_a_second_run_reads_no_graph(file):
    """What was found out about a file is kept: importing onnx takes longer than all the rest."""
    script = (
        "import sys; from bottleneck_probe.backbones import registry, nodes\n"
        f"b = registry.resolve({str(file)!r}, changes={STATED!r})\n"
        "registry.from_recipe(b.recipe()); nodes.sizes_of(b)\n"
        "print([m for m in ('onnx', 'onnxruntime', 'torch') if m in sys.modules])"
    )
    said = [
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert "onnx" in said[0].stdout
    assert said[1].stdout.strip() == "[]"
