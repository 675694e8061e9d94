"""Several layers, several backbones, tiles: one decode, one forward, each feature in its place."""

import json
import shutil

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import shards
from bottleneck_probe.extraction import pipeline, prepare
from bottleneck_probe.extraction.api import find_images, run, run_all
from bottleneck_probe.reporter import Silent
from PIL import Image


class Ears(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.notes, self.warnings = [], []

    def note(self, text):
        self.notes.append(text)

    def warn(self, text):
        self.warnings.append(text)


@pytest.fixture
def extract(calls, tmp_path):
    def extract_(root, output="x.h5", reporter=None, **options):
        calls.forwards, calls.cuts = 0, []
        stated = {"backbone": "stub", "batch_size": 4, **options}
        return run(
            find_images(root), output=tmp_path / output, reporter=reporter or Silent(), **stated
        )

    return extract_


def colours(stub, features):
    return np.array([stub.colour_of(int(p[-9:-4])) for p in features.paths], np.float64)


def check(stub, features):
    """Every output of every row belongs to the row's image."""
    rgb = colours(stub, features)
    expected = {
        "penultimate:none": np.column_stack([rgb, np.ones(len(rgb))]),
        "double:none": 2 * rgb,
        "pixels:avg": rgb,
        "pixels:flatten": np.repeat(rgb, 64, axis=1),
    }
    for name in features.outputs:
        found = np.asarray(features.output(name).features)
        np.testing.assert_array_equal(found, expected[name], err_msg=name)


def test_several_layers_cost_one_forward_and_lie_in_one_file(extract, stub, calls, photos):
    root = photos(10)
    result = extract(root, layer=["penultimate", "double", "pixels:avg", "pixels:flatten"])
    assert result.features.outputs == [
        "penultimate:none",
        "double:none",
        "pixels:avg",
        "pixels:flatten",
    ]
    check(stub, result.features)
    assert calls.forwards == 3  # 10 images in batches of 4
    with h5py.File(result.output) as h5:
        assert h5["features"].shape == (10, 4)
        assert h5["layers/pixels:flatten"].shape == (10, 192)
        assert json.loads(h5.attrs["recipe"])["outputs"][1] == {
            "node": "double",
            "pooling": "none",
        }


def test_the_first_layer_is_the_dataset_features(extract, stub, photos):
    result = extract(photos(5), layer="double")
    assert result.features.outputs == ["double:none"]
    assert result.features.features.shape == (5, 3)
    check(stub, result.features)


def test_a_layer_added_later_is_all_that_is_computed(extract, stub, calls, photos):
    root = photos(9)
    first = extract(root)
    result = extract(root, layer="double")
    assert calls.cuts == [["double:none"]] * 3
    assert (result.computed, result.reused) == (9, 0)
    assert result.features.outputs == ["penultimate:none", "double:none"]
    assert result.features.fingerprint == first.features.fingerprint
    check(stub, result.features)
    # Without stating it again the file keeps what it has.
    again = extract(root)
    assert again.features.outputs == ["penultimate:none", "double:none"]
    assert calls.forwards == 0
    assert not again.written


def test_new_images_get_all_layers_at_once_and_old_ones_only_what_they_lack(
    extract, stub, calls, photos
):
    root = photos(8)
    extract(root)
    photos(4, first=50)
    result = extract(root, layer="pixels:avg")
    assert sorted(map(tuple, calls.cuts)) == [
        ("penultimate:none", "pixels:avg"),
        ("pixels:avg",),
        ("pixels:avg",),
    ]
    assert result.computed == 12
    check(stub, result.features)


def test_a_layer_that_is_there_is_not_computed_again(extract, calls, photos):
    root = photos(6)
    extract(root, layer=["penultimate", "double"])
    result = extract(root, layer="double")
    assert calls.forwards == 0
    assert not result.written


def test_rows_without_an_image_here_cannot_get_another_layer(extract, photos, tmp_path):
    root = photos(6)
    extract(root)
    for path in sorted(root.rglob("*.png"))[:2]:
        path.unlink()
    before = (tmp_path / "x.h5").read_bytes()
    with pytest.raises(bp.InputError, match=r"2 rows of .* have no image here"):
        extract(root, layer="double", add=True)
    assert (tmp_path / "x.h5").read_bytes() == before


def test_another_engine_is_compared_with_what_is_stored_before_a_layer_is_added(
    extract, calls, photos
):
    root = photos(6)
    extract(root, engine="eager")
    calls.scale = 1.01
    with pytest.raises(bp.CacheError, match=r"differ by up to 0\.01"):
        extract(root, layer="double", engine="onnx")
    calls.scale = 1.0001
    result = extract(root, layer="double", engine="onnx")
    assert result.features.environment["parity_gap"] == pytest.approx(1e-4, rel=0.01)


def test_an_interrupted_run_goes_on_with_every_layer(
    extract, stub, calls, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(shards, "SEAL_AFTER_S", 0.0)
    root = photos(12)

    def stop(counted):
        if counted.forwards == 3:
            raise KeyboardInterrupt

    calls.on_call = stop
    with pytest.raises(pipeline.Interrupted) as caught:
        extract(root, layer=["penultimate", "double"])
    assert caught.value.kept == 8
    calls.on_call = None
    result = extract(root, layer=["penultimate", "double"])
    assert calls.forwards == 1
    assert result.resumed == 8
    check(stub, result.features)
    assert not (tmp_path / "x.h5.parts").exists()


def test_what_one_layer_has_sealed_and_the_other_lost_is_computed_for_the_other(
    extract, stub, calls, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(shards, "SEAL_AFTER_S", 0.0)
    root = photos(8)

    def stop(counted):
        if counted.forwards == 2:
            raise KeyboardInterrupt

    calls.on_call = stop
    with pytest.raises(KeyboardInterrupt):
        extract(root, layer=["penultimate", "double"])
    calls.on_call = None
    for path in (tmp_path / "x.h5.parts").glob("*.h5"):
        with h5py.File(path) as h5:
            lost = h5["features"].shape[1] == 3
        if lost:
            path.unlink()
    result = extract(root, layer=["penultimate", "double"])
    assert sorted(map(tuple, calls.cuts)) == [
        ("double:none",),
        ("penultimate:none", "double:none"),
    ]
    check(stub, result.features)


def test_several_backbones_decode_each_image_once(stub, calls, photos, tmp_path, monkeypatch):
    decoded = []
    real = prepare.decoded
    monkeypatch.setattr(prepare, "decoded", lambda *args: decoded.append(1) or real(*args))
    root = photos(7)
    one, two = run_all(
        find_images(root), output=tmp_path / "both", reporter=Silent(), backbone=["stub", "other"]
    )
    assert len(decoded) == 7
    assert [one.output.name, two.output.name] == ["photos-stub.h5", "photos-other.h5"]
    check(stub, one.features)
    np.testing.assert_array_equal(two.features.features[:, :3], colours(stub, one.features) + 1000)
    assert (one.computed, two.computed) == (7, 7)
    # One of the two is complete, the other is not: only that one is computed.
    two.output.unlink()
    calls.forwards = 0
    one, two = run_all(
        find_images(root), output=tmp_path / "both", reporter=Silent(), backbone=["stub", "other"]
    )
    assert (one.computed, one.reused, two.computed, two.reused) == (0, 7, 7, 0)


def test_one_backbone_twice_is_refused(calls, photos, tmp_path):
    with pytest.raises(bp.InputError, match="one file"):
        run_all(
            find_images(photos(2)),
            output=tmp_path / "both",
            reporter=Silent(),
            backbone=["stub", "stub"],
        )


def test_an_image_that_only_one_backbone_cannot_take_is_quarantined_for_that_one(
    calls, photos, tmp_path, monkeypatch
):
    root = photos(3)
    # With a short side of 4096 it would fill the memory, with one of 8 it does not.
    Image.new("RGB", (3000, 4)).save(root / "ants" / "long.png")
    from dataclasses import replace

    from bottleneck_probe.backbones import registry

    other = registry.ENTRIES["other"]
    large = replace(other.preprocessing(), resize=4096)
    monkeypatch.setitem(registry.ENTRIES, "other", replace(other, preprocessing=lambda: large))
    one, two = run_all(
        find_images(root), output=tmp_path / "both", reporter=Silent(), backbone=["stub", "other"]
    )
    assert (one.quarantined, two.quarantined) == (0, 1)
    assert two.features.quarantine[0][0] == "ants/long.png"


def quadrants(path, corners):
    """An image of four colours, one in each quadrant."""
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10, :15], image[:10, 15:], image[10:, :15], image[10:, 15:] = corners
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_tiles_are_rows_of_their_own(extract, calls, tmp_path):
    root = tmp_path / "tiled"
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 256, (5, 4, 3))
    for i, four in enumerate(corners):
        quadrants(root / ("a", "b")[i % 2] / f"{i}.png", four)
    result = extract(root, framing="tiles:2x2", interpolation="nearest", batch_size=3)
    f = result.features
    assert (result.seen, result.computed) == (5, 5)
    assert f.features.shape == (20, 4)
    assert f.views.tolist() == [0, 1, 2, 3] * 5
    for row, path in enumerate(f.paths):
        expected = corners[int(path[-5])][f.views[row]]
        np.testing.assert_array_equal(f.features[row][:3], expected)
    # One image more: only that one is computed, and all four rows of it appear.
    quadrants(root / "a" / "9.png", corners[0][::-1])
    calls.forwards = 0
    again = extract(root, batch_size=3)
    assert (again.computed, again.reused) == (1, 5)
    assert again.features.features.shape == (24, 4)
    np.testing.assert_array_equal(
        np.asarray(again.features.features)[again.features.paths == "a/9.png", :3],
        corners[0][::-1],
    )
    (root / "a" / "0.png").unlink()
    assert extract(root).removed == 1
    kept = again.features.recipe["preprocessing"]["framing"]
    assert kept == "tiles:2x2"


def test_tiles_survive_an_interruption(extract, calls, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SEAL_AFTER_S", 0.0)
    root = tmp_path / "tiled"
    corners = np.random.default_rng(1).integers(0, 256, (6, 4, 3))
    for i, four in enumerate(corners):
        quadrants(root / "a" / f"{i}.png", four)

    def stop(counted):
        if counted.forwards == 4:
            raise KeyboardInterrupt

    calls.on_call = stop
    options = {"framing": "tiles:2x2", "interpolation": "nearest", "batch_size": 3}
    with pytest.raises(pipeline.Interrupted) as caught:
        extract(root, **options)
    assert caught.value.kept == 2  # 9 views are two images and a quarter
    calls.on_call = None
    result = extract(root, **options)
    assert (result.resumed, result.computed) == (2, 4)
    expected = corners.reshape(-1, 3)
    np.testing.assert_array_equal(np.asarray(result.features.features)[:, :3], expected)


def test_another_framing_is_another_recipe(extract, photos):
    root = photos(3)
    extract(root)
    with pytest.raises(bp.RecipeError, match=r"preprocessing\.framing"):
        extract(root, framing="pad")


def test_what_lies_outside_the_crop_is_said(extract, tmp_path):
    root = tmp_path / "wide"
    for i in range(3):
        root.mkdir(exist_ok=True)
        Image.new("RGB", (40, 20), (i, 0, 0)).save(root / f"{i}.png")
    ears = Ears()
    extract(root, reporter=ears)
    assert any("50% of the median image, and up to 50%" in note for note in ears.notes)
    ears = Ears()
    extract(root, "whole.h5", reporter=ears, framing="whole")
    assert not any("lies outside" in note for note in ears.notes)


def test_images_that_use_a_sliver_of_sixteen_bits_are_warned_of(extract, tmp_path):
    root = tmp_path / "microscope"
    root.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 4096, (20, 20)).astype(np.uint16)).save(root / f"{i}.png")
    ears = Ears()
    dark = extract(root, reporter=ears).features
    assert any("4 of 4 images" in text and "--range" in text for text in ears.warnings)
    ears = Ears()
    bright = extract(root, "bits.h5", reporter=ears, range="bits:12").features
    assert not ears.warnings
    assert dark.features[:, :3].mean() < 10 < 100 < bright.features[:, :3].mean()
    assert bright.fingerprint != dark.fingerprint


def test_an_enormous_layer_is_warned_of_before_it_is_computed(extract, calls, photos, monkeypatch):
    from bottleneck_probe.extraction import settle

    monkeypatch.setattr(settle, "ENORMOUS", 192)
    ears = Ears()
    extract(photos(3), reporter=ears, layer=["penultimate", "pixels:flatten"])
    (warning,) = ears.warnings
    assert "pixels:flatten has 192 values an image" in warning
    assert "pixels:avg" in warning


def test_a_pooling_without_a_layer_is_refused(extract, photos):
    with pytest.raises(bp.InputError, match="says how, but not what"):
        extract(photos(2), pooling="max")


def test_a_preview_shows_what_the_network_sees(extract, stub, photos, tmp_path):
    extract(photos(3), preview=tmp_path / "seen.png")
    sheet = np.asarray(Image.open(tmp_path / "seen.png").convert("RGB")).reshape(-1, 3)
    for number in range(3):
        assert (sheet == stub.colour_of(number)).all(axis=1).any()


def test_embedding_gives_one_vector_an_image(calls, photos):
    paths = sorted(photos(3).rglob("*.png"))
    assert bp.embed(paths, backbone="stub", layer="double").shape == (3, 3)
    for options in ({"layer": ["double", "penultimate"]}, {"framing": "tiles:2x2"}):
        with pytest.raises(bp.InputError, match="one row per image"):
            bp.embed(paths, backbone="stub", **options)


def test_features_in_memory_have_their_layers_too(stub, calls, photos):
    images = [Image.open(path).copy() for path in sorted(photos(3).rglob("*.png"))]
    found = bp.extract(images, backbone="stub", layer=["penultimate", "double"], quiet=True)
    assert found.outputs == ["penultimate:none", "double:none"]
    np.testing.assert_array_equal(found.layers["double:none"], 2 * found.features[:, :3])


def test_a_file_copied_away_gets_its_layers_there(extract, stub, photos, tmp_path):
    root = photos(4)
    result = extract(root)
    shutil.copy(result.output, tmp_path / "copy.h5")
    check(stub, extract(root, "copy.h5", layer="double").features)
    assert bp.open(f"{tmp_path / 'copy.h5'}::double").features.shape == (4, 3)


# --- whose weights ---------------------------------------------------------------------------


def test_nobody_gets_random_weights_without_asking(extract, calls, photos):
    root = photos(3)
    first = extract(root, weights="none")
    assert first.features.recipe["weights_sha256"] == "random:0"
    with pytest.raises(bp.RecipeError, match="weights_sha256"):
        extract(root)  # which states the backbone
    assert extract(root, weights="none").reused == 3
    # Nothing stated: the file goes on as it is, and it is said.
    ears = Ears()
    assert extract(root, backbone=None, reporter=ears).reused == 3
    assert any("random weights" in note for note in ears.notes)
    assert extract(root, force=True).features.recipe["weights_sha256"] != "random:0"


def test_a_tag_or_a_folder_with_other_weights_is_not_the_files(extract, calls, photos, monkeypatch):
    """hf//run1/checkpoint and hf//run2/checkpoint have one name, and so have name and name@tag."""
    from dataclasses import replace

    from bottleneck_probe.backbones import registry
    from bottleneck_probe.backbones.base import Weights

    class Other:
        label = licence = "other"

        def here(self):
            return True

        def find(self):
            return Weights(None, "1" * 64, "the other ones")

    root = photos(3)
    extract(root)
    stub = registry.ENTRIES["stub"]
    monkeypatch.setitem(registry.ENTRIES, "stub@other", replace(stub, weights=Other()))
    with pytest.raises(bp.RecipeError, match="1111"):
        extract(root, backbone="stub@other")
    monkeypatch.setitem(registry.ENTRIES, "stub@same", stub)
    assert extract(root, backbone="stub@same").reused == 3
    monkeypatch.setitem(registry.ENTRIES, "folder", replace(stub, weights=Other(), source="hf"))
    with pytest.raises(bp.RecipeError, match="1111"):
        extract(root, backbone="folder")


def test_a_replaced_file_keeps_its_layers_unless_others_are_stated(extract, photos):
    root = photos(3)
    extract(root, layer=["penultimate", "double"])
    replaced = extract(root, force=True, interpolation="nearest")
    assert replaced.computed == 3
    assert replaced.features.outputs == ["penultimate:none", "double:none"]
    other = extract(root, force=True, interpolation="box", layer="pixels:avg")
    assert other.features.outputs == ["pixels:avg"]


def test_a_dry_run_downloads_nothing(photos, tmp_path, monkeypatch):
    import torch
    from bottleneck_probe.extraction.dry import dry_run

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("download"))
    with pytest.raises(bp.BottleneckError, match=r"would begin by .*resnet18.*45 MB.*f37072fd"):
        dry_run(
            find_images(photos(2)),
            output=tmp_path / "x.h5",
            reporter=Silent(),
            backbone="resnet18",
        )


def test_a_crop_larger_than_the_image_is_warned_of(extract, photos):
    ears = Ears()
    extract(photos(2), reporter=ears, resize=6)
    (warning,) = ears.warnings
    assert "resized to 6 and cropped to 8x8" in warning


def test_an_unchanged_file_asks_no_network_how_long_its_vectors_are(
    extract, calls, photos, monkeypatch
):
    from bottleneck_probe.backbones import nodes

    root = photos(3)
    extract(root, layer=["penultimate", "double"])
    monkeypatch.setattr(nodes, "nodes_of", lambda backbone: pytest.fail("asked"))
    assert extract(root).reused == 3
