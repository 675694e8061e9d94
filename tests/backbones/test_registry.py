"""Names in any spelling, one name for one thing, and recipes that find their backbone again."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from bottleneck_probe import InputError, WeightsError
from bottleneck_probe.backbones import recall, registry
from bottleneck_probe.backbones.base import Backbone, Entry, Output, Weights
from bottleneck_probe.backbones.catalogue import LINES
from bottleneck_probe.backbones.spelling import spelled, squeezed
from bottleneck_probe.reporter import Silent
from hypothesis import given, settings
from hypothesis import strategies as st

# As they were before plain names had tags and sources: files in the world carry them.
FINGERPRINTS = {
    "efficientnet_lite0": "c3939c037656927c083c0ffaea4dd99111552caf74f1f8575a4e80f260d99fb2",
    "resnet50": "a90c0e606e124db308a0877fd10b50c68c7476fc859a28e2e688de1e46e2dce8",
    "vgg16": "67f713e066b3a10046c83290fd9b7fd6fc2d5286ad8fbf20038ac12e0d36ea80",
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_the_fingerprints_of_old_files_stay(name):
    entry = registry.find_entry(name)
    backbone = Backbone(entry, Weights(None, "0" * 64, ""), entry.preprocessing())
    assert backbone.fingerprint() == FINGERPRINTS[name]


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("VGG16", "vgg16"),
        ("ResNet-50", "resnet50"),
        ("InceptionV3", "inception_v3"),
        ("Inception-v3", "inception_v3"),
        ("Xception", "xception"),
        ("EfficientNet-B0", "efficientnet_b0"),
        ("dinov2 small", "dinov2_vits14"),
        ("DINOv2 ViT-S/14", "dinov2_vits14"),
        ("CLIP ViT-B/32", "clip_vit_b32"),
        ("torchvision/resnet50", "resnet50"),
        ("torchvision/ResNet50@imagenet1k_v2", "resnet50"),
        ("torchvision/resnet50@IMAGENET1K_V1", "resnet50@IMAGENET1K_V1"),
        ("ResNet50@imagenet1k-v1", "resnet50@IMAGENET1K_V1"),
        ("resnet50@IMAGENET1K_V2", "resnet50"),
        ("timm/legacy_xception", "xception"),
        ("timm/tf_efficientnet_lite0.in1k", "efficientnet_lite0"),
        ("timm/resnet26d", "timm/resnet26d.bt_in1k"),
        ("torchvision/swin_t", "torchvision/swin_t@IMAGENET1K_V1"),
        # Without the underscore these two are one word.
        ("torchvision/regnet_y_16gf", "torchvision/regnet_y_16gf@IMAGENET1K_V2"),
        ("torchvision/regnet_y_1_6gf", "torchvision/regnet_y_1_6gf@IMAGENET1K_V2"),
    ],
)
def test_one_name_for_one_thing_however_it_is_written(spelling, name):
    assert registry.find_entry(spelling).name == name
    assert registry.find_entry(name).name == name  # as a recipe asks for it


@given(st.sampled_from(LINES), st.data())
@settings(deadline=None, max_examples=60)
def test_case_and_punctuation_never_matter(line, data):
    name = data.draw(st.sampled_from([line.name, *line.aliases]))
    signs = st.text("-_. ", max_size=2)
    written = "".join(
        data.draw(signs) + (c.upper() if data.draw(st.booleans()) else c)
        for c in name.replace("_", "")
    )
    assert registry.find_entry(written).name == line.name


def test_plain_names_cannot_be_mistaken_for_each_other():
    names = [name for line in LINES for name in (line.name, *line.aliases)]
    assert len({squeezed(name) for name in names}) == len(names)


def test_a_spelling_that_fits_two_names_fits_none():
    assert spelled("a1_6", ["a_16", "a_1_6"]) is None
    assert spelled("A_16", ["a_16", "a_1_6"]) == "a_16"


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ("resnet5O", "resnet50"),
        ("dino", "dinov2"),
        ("swin_t", "torchvision/swin_t"),
        ("resnet26d", "timm/resnet26d"),
        ("nowhere/x", "torchvision/"),
        ("resnet50@V7", "IMAGENET1K_V2"),
    ],
)
def test_a_name_that_is_none_leads_to_the_nearest(wrong, hint):
    with pytest.raises(InputError) as caught:
        registry.find_entry(wrong)
    assert hint in f"{caught.value.expected} {caught.value.next}"


def test_another_tag_is_another_network_with_its_own_preprocessing():
    old, new = (registry.find_entry(f"resnet50@IMAGENET1K_V{i}") for i in (1, 2))
    assert (old.preprocessing().resize, new.preprocessing().resize) == (256, 232)
    assert old.weights.filename != new.weights.filename


def test_random_weights_only_when_asked_for_and_said():
    reporter = Silent()
    backbone = registry.resolve("resnet18", weights="none", reporter=reporter)
    assert backbone.weights.random
    assert backbone.recipe()["weights_sha256"] == "random:0"
    assert "random weights (--weights none)" in reporter.notes[0]
    again = registry.from_recipe(backbone.recipe())
    assert again.weights.random
    assert again.fingerprint() == backbone.fingerprint()
    with pytest.raises(WeightsError, match="trained"):
        registry.from_recipe({**backbone.recipe(), "weights_sha256": "1" * 64}, weights="none")


def test_weights_of_a_file_are_preprocessed_as_the_default_ones_and_it_is_said(tmp_path):
    torch.save({"x": torch.ones(1)}, tmp_path / "mine.pth")
    reporter = Silent()
    backbone = registry.resolve(
        "resnet50@IMAGENET1K_V1", weights=tmp_path / "mine.pth", reporter=reporter
    )
    assert (
        "resnet50@IMAGENET1K_V1's IMAGENET1K_V1 weights (bilinear resize to 256"
        in (reporter.notes[0])
    )
    assert backbone.preprocessing.resize == 256


def test_a_recipe_finds_its_backbone_with_all_its_outputs(tmp_path):
    torch.save({"only here": torch.ones(1)}, tmp_path / "mine.pth")
    outputs = (Output("layer3", "gem"), Output())
    backbone = registry.resolve("resnet18", weights=tmp_path / "mine.pth").with_outputs(outputs)
    again = registry.from_recipe(json.loads(json.dumps(backbone.recipe())))
    assert again.outputs == outputs
    assert again.fingerprints() == backbone.fingerprints()
    assert again.weights.path == tmp_path / "mine.pth"
    assert recall.complete(backbone.weights.sha256[:12]) == [backbone.weights.sha256]
    (tmp_path / "mine.pth").unlink()
    with pytest.raises(WeightsError, match="not on this machine"):
        registry.from_recipe(backbone.recipe())
    assert registry.from_recipe(backbone.recipe(), lazy=True).fingerprints() == again.fingerprints()


def test_a_module_s_features_name_the_module():
    recipe = registry.resolve("resnet18", weights="none").recipe()
    recipe |= {"weights_sha256": "tensors:abc", "backbone": "module/Net"}
    with pytest.raises(WeightsError, match="module/Net") as caught:
        registry.from_recipe(recipe, lazy=True)
    assert "backbone=module" in caught.value.next


def test_a_network_without_pretrained_weights_says_so(monkeypatch):
    entry = replace(registry.find_entry("resnet18"), name="bare", weights=None)
    monkeypatch.setitem(registry.ENTRIES, "bare", entry)
    with pytest.raises(WeightsError, match="no pretrained weights") as caught:
        registry.resolve("bare")
    assert "--weights FILE" in caught.value.next
    assert registry.resolve("bare", weights="none").entry is entry


def test_preprocessing_that_no_source_knows_is_stated_whole(monkeypatch):
    def unknown():
        raise registry.missing_preprocessing("bare", "it has no configuration")

    plain = registry.find_entry("resnet18")
    entry: Entry = replace(plain, name="bare", preprocessing=unknown)
    monkeypatch.setitem(registry.ENTRIES, "bare", entry)
    with pytest.raises(InputError, match="it has no configuration") as caught:
        registry.resolve("bare", weights="none", changes={"resize": 64})
    assert "--mean" in caught.value.expected
    ours = {
        "resize": 64,
        "crop": (32, 32),
        "interpolation": "bilinear",
        "mean": (0.5,) * 3,
        "std": (0.5,) * 3,
    }
    assert registry.resolve("bare", weights="none", changes=ours).preprocessing.crop == (32, 32)


def test_names_that_were_asked_for_before_need_no_library(tmp_path):
    """Torch takes seconds to import; a run in which no feature is missing does without."""
    names = ["efficientnet_lite0", "resnet50@IMAGENET1K_V1", "timm/resnet26d", "torchvision/swin_t"]
    code = (
        "import sys; from bottleneck_probe.backbones import registry\n"
        f"for name in {names!r}:\n"
        "    backbone = registry.resolve(name, weights='none')\n"
        "    registry.from_recipe(backbone.recipe())\n"
        "registry.list_backbones(), registry.list_sources(), registry.resolve()\n"
        "print(*({'torch', 'torchvision', 'timm', 'transformers'} & set(sys.modules)))"
    )
    environment = {"BOTTLENECK_CACHE_DIR": str(tmp_path), "PATH": "/usr/bin", "HOME": str(tmp_path)}
    loaded = [
        subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        for _ in range(2)
    ]
    assert "timm" in loaded[0]  # so that the second answer says something
    assert loaded[1] == []


def test_a_damaged_memo_is_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path))
    wanted = registry.find_entry("resnet18").preprocessing()
    memos = list((tmp_path / "preprocessing").iterdir())
    assert memos
    for content in ("", "{", "[]", "{}", '{"identity": "other", "content": {}}'):
        for memo in memos:
            memo.write_text(content)
        assert registry.find_entry("resnet18").preprocessing() == wanted
