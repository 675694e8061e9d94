import subprocess
import sys

import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.presets.recipes import NAMES, apply_preset, feature_deviations

PREPROCESSING = {
    "resize": 224,
    "crop": [224, 224],
    "interpolation": "bicubic",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "framing": "crop",
}


def recipe(**changes: object) -> dict[str, object]:
    return {
        "modality": "image",
        "backbone": "resnet50",
        "preprocessing": PREPROCESSING,
        "precision": "fp32",
        "outputs": [{"node": "penultimate", "pooling": "none"}],
        **changes,
    }


def test_options_fill_what_was_not_stated() -> None:
    filled = apply_preset("knn-dino", {"resize": None, "precision": "auto", "backbone": "resnet50"})
    assert filled["resize"] == 256
    assert filled["crop"] == 224
    assert filled["interpolation"] == "bicubic"
    assert filled["precision"] == "fp32"
    assert filled["backbone"] == "resnet50"
    assert "mean" not in filled  # the network's own: another mean is another network


def test_what_was_stated_stays() -> None:
    filled = apply_preset("dinov2", {"crop": 336, "precision": "bf16"})
    assert (filled["crop"], filled["precision"]) == (336, "bf16")


def test_no_preset_changes_nothing() -> None:
    assert apply_preset(None, {"resize": None, "precision": "auto"}) == {
        "resize": None,
        "precision": "auto",
    }


def test_features_made_by_the_preset_do_not_deviate() -> None:
    assert feature_deviations("dinov2", recipe(), "float32") == []
    assert feature_deviations("clip", recipe(), "float32") == []


@pytest.mark.parametrize(
    ("changes", "stored", "words"),
    [
        (
            {"preprocessing": {**PREPROCESSING, "resize": 256}},
            "float32",
            "resize: 256, the protocol 224",
        ),
        (
            {"preprocessing": {**PREPROCESSING, "crop": [192, 192]}},
            "float32",
            "crop: 192x192, the protocol 224x224",
        ),
        ({"preprocessing": {**PREPROCESSING, "framing": "pad"}}, "float32", "framing: pad"),
        ({"preprocessing": {**PREPROCESSING, "decode": "scaled"}}, "float32", "decode: scaled"),
        (
            {"preprocessing": {**PREPROCESSING, "interpolation": "bilinear"}},
            "float32",
            "interpolation",
        ),
        ({"precision": "bf16"}, "float32", "precision: bf16, the protocol fp32 or fp16"),
        ({"outputs": [{"node": "layer3", "pooling": "avg"}]}, "float32", "layer: layer3:avg"),
        ({}, "float16", "kept as float16"),
    ],
)
def test_each_difference_is_a_sentence(changes: dict, stored: str, words: str) -> None:
    (line,) = feature_deviations("dinov2", recipe(**changes), stored)
    assert words in line


def test_coop_takes_what_comes_after_clips_projection() -> None:
    assert feature_deviations("coop", recipe(), "float32") == []
    (line,) = feature_deviations("coop", recipe(backbone="clip_vit_b32"), "float32")
    assert "after CLIP's projection" in line
    projected = recipe(backbone="clip_vit_b32", outputs=[{"node": "head", "pooling": "none"}])
    assert feature_deviations("coop", projected, "float32") == []
    assert feature_deviations("clip", recipe(backbone="clip_vit_b32"), "float32") == []


def test_arrays_of_ones_own_cannot_be_checked_and_that_is_a_deviation() -> None:
    (line,) = feature_deviations("dinov2", {}, "float32")
    assert "came as arrays" in line


def test_the_pooling_that_no_layer_here_has_is_named() -> None:
    squashed = {**PREPROCESSING, "framing": "whole", "interpolation": "bilinear"}
    lines = feature_deviations("fair-lowshot", recipe(preprocessing=squashed), "float32")
    assert len(lines) == 1
    assert "6 x 6" in lines[0]


def test_a_near_miss_is_suggested() -> None:
    with pytest.raises(InputError, match="did you mean 'dinov2'"):
        apply_preset("dinov", {})


def test_every_preset_names_its_source_and_what_it_copies() -> None:
    from importlib import import_module

    for name in NAMES:
        text = import_module(f"bottleneck_probe.presets.{name.replace('-', '_')}").__doc__ or ""
        assert "Source:" in text
        assert "Copied to the letter" in text
        assert "arXiv:" in text


def test_the_names_come_without_a_heavy_import() -> None:
    code = "import sys, bottleneck_probe.presets.recipes\nassert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
