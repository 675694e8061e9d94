"""timm's networks: the same images through us and through timm's own transforms and pass."""

import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from bottleneck_probe import InputError
from bottleneck_probe.backbones import network, registry
from bottleneck_probe.backbones.base import PENULTIMATE, Output
from bottleneck_probe.backbones.nodes import sizes_of
from bottleneck_probe.backbones.sources.timm import SOURCE
from bottleneck_probe.images.preprocess import apply
from timm.data import create_transform, resolve_data_config

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import calibrate_, error, he_, picture, save, spread

IMAGES = [picture(0, (250, 190)), picture(1, (180, 240)), picture(2, (310, 300))]

# A small one of each kind, and two nodes inside.
NETWORKS = [
    ("legacy_xception.tf_in1k", "block3", "block11"),
    ("resnet10t.c3_in1k", "layer1", "layer3"),
    ("convnext_atto.d2_in1k", "stages.1", "stages.2"),
    ("mobilenetv3_small_050.lamb_in1k", "blocks.1", "blocks.4"),
    ("dla46_c.in1k", "level2", "level4"),
    ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", "blocks.2.norm1", "blocks.8"),
    ("vit_base_patch32_clip_quickgelu_224.openai", "blocks.2.norm1", "blocks.8"),
    ("deit_tiny_distilled_patch16_224.fb_in1k", "blocks.2", "blocks.8"),
    ("swin_tiny_patch4_window7_224.ms_in1k", "layers.0", "layers.2"),
    ("levit_128s.fb_dist_in1k", "stages.0", "stages.1"),
]


def reference(name: str, **options) -> tuple[torch.nn.Module, torch.Tensor]:
    """timm's own network with weights that tell images apart, and what its transforms give."""
    model = timm.create_model(name, pretrained=False, **options)
    config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
    transform = create_transform(**config, is_training=False)
    batch = torch.stack([transform(image) for image in IMAGES])
    return calibrate_(he_(model, seed=7), batch), batch


def activations(p) -> torch.Tensor:
    pixels = np.stack([apply(image, p) for image in IMAGES]).astype(np.float32) / 255
    normalised = (pixels - np.float32(p.mean)) / np.float32(p.std)
    return torch.from_numpy(normalised.transpose(0, 3, 1, 2).copy())


def pooled(value: torch.Tensor, model: torch.nn.Module) -> tuple[torch.Tensor, str]:
    """Mean over the places, class and register tokens left out; what we call that pooling."""
    if value.ndim == 4:
        last = getattr(model, "output_fmt", "NCHW") == "NHWC"
        return value.mean((1, 2) if last else (2, 3)), "avg"
    return value[:, getattr(model, "num_prefix_tokens", 0) :].mean(1), "patches"


@pytest.mark.parametrize(("name", "early", "late"), NETWORKS, ids=lambda x: x.split(".")[0])
def test_features_are_those_of_timm(name, early, late, tmp_path):
    model, batch = reference(name)
    caught = {}
    for node in (early, late):
        model.get_submodule(node).register_forward_hook(
            lambda module, args, result, node=node: caught.update({node: result.clone()})
        )
    with torch.no_grad():
        wanted = model.forward_head(model.forward_features(batch), pre_logits=True)
        logits = model(batch)
    if wanted.ndim == 4:
        wanted = wanted.mean((2, 3))
    inner = {node: pooled(value, model) for node, value in caught.items()}
    outputs = [PENULTIMATE, *(Output(node, pooling) for node, (_, pooling) in inner.items())]
    path = save(model, tmp_path / "x.pth")
    backbone = registry.resolve(f"timm/{name}", weights=path).with_outputs(tuple(outputs))
    cut = network.load(backbone)[0]
    path.unlink()
    with torch.no_grad():
        got, *vectors = cut(activations(backbone.preprocessing))
    assert spread(wanted) >= 0.05
    assert error(got, wanted) <= 1e-4
    assert sizes_of(backbone)[0] == got.shape[1]
    for vector, (value, _), node in zip(vectors, inner.values(), inner, strict=True):
        assert spread(value) >= 0.05, node
        assert error(vector, value) <= 1e-4, node
    head = model.get_classifier()
    if isinstance(head, torch.nn.Linear):
        assert error(head(got).detach(), logits) <= 1e-4


def test_dinov2_is_its_class_token_and_takes_other_sizes(tmp_path):
    """No classifier, and position embeddings of 518 pixels resampled as timm does it."""
    name = "vit_small_patch14_dinov2.lvd142m"
    model = he_(timm.create_model(name, pretrained=False), seed=3).eval()
    path = save(model, tmp_path / "x.pth")
    backbone = registry.resolve(
        "dinov2 small", weights=path, changes={"resize": 98, "crop": (98, 98)}
    )
    x = activations(backbone.preprocessing)
    own = timm.create_model(
        name, pretrained=True, img_size=98, pretrained_cfg_overlay={"file": str(path)}
    ).eval()
    with torch.no_grad():
        wanted = own.forward_features(x)[:, 0]
        got = network.load(backbone)[0](x)[0]
    assert spread(wanted) >= 0.05
    assert error(got, wanted) <= 1e-4
    assert got.shape == (3, 384)


def test_every_configuration_is_preprocessed_as_timm_does():
    """Each way of resizing, cropping and normalising that timm's weights ask for, pixel by pixel."""
    image = picture(3, (611, 457))
    seen = set()
    for name in timm.list_pretrained():
        config = resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(name).to_dict())
        key = str(sorted(config.items()))
        if key in seen:
            continue
        seen.add(key)
        transform = create_transform(**config, is_training=False)
        entry = SOURCE.entry(name)
        if config["crop_mode"] == "border":  # pads: nothing of ours is exactly that
            with pytest.raises(InputError, match="cannot be done exactly") as caught:
                entry.preprocessing()
            assert "--resize" in caught.value.next
            continue
        p = entry.preprocessing()
        got = (apply(image, p).astype(np.float32) / 255 - np.float32(p.mean)) / np.float32(p.std)
        wanted = transform(image).permute(1, 2, 0).numpy()
        np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=name)
    assert len(seen) >= 100


def test_what_cannot_be_done_exactly_is_stated_by_the_user():
    name = "timm/deepseek_vit_412m"
    with pytest.raises(InputError, match="cannot be done exactly"):
        registry.resolve(name, weights="none")
    with pytest.raises(InputError, match="cannot be done exactly"):
        registry.resolve(name, weights="none", changes={"crop": (64, 48)})
    half = (0.5, 0.5, 0.5)
    stated = registry.resolve(name, weights="none", changes={"resize": 500, "mean": half})
    config = timm.get_pretrained_cfg("deepseek_vit_412m")
    assert stated.preprocessing.resize == 500
    assert stated.preprocessing.crop == config.input_size[1:]
    assert (stated.preprocessing.mean, stated.preprocessing.std) == (half, config.std)


def test_names_tags_and_weights_are_those_of_timm():
    for spelling in ("resnet26d", "resnet26d.bt_in1k", "resnet26d@bt_in1k", "ResNet26D@BT-IN1K"):
        entry = SOURCE.entry(spelling)
        assert entry.name == "timm/resnet26d.bt_in1k"
        assert (entry.weights.repo, entry.weights.label) == ("timm/resnet26d.bt_in1k", "bt_in1k")
        assert entry.weights.filename == "model.safetensors"
        assert entry.weights.licence == "Apache-2.0"
    url = timm.get_pretrained_cfg("gcvit_tiny.in1k").url
    assert SOURCE.entry("gcvit_tiny").weights.url() == url
    nothing = SOURCE.entry("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    assert nothing.weights.label == "augreg_in21k_ft_in1k"
    for wrong, hint in [("resnet26dd", "resnet26d"), ("resnet26d.none", "bt_in1k")]:
        with pytest.raises(InputError) as caught:
            SOURCE.entry(wrong)
        assert hint in caught.value.next


def adapted(name: str, state: dict) -> dict:
    entry = SOURCE.entry(name)
    with torch.device("meta"):
        module = entry.build((224, 224)).module
    return dict(entry.adapt(state, module))


def test_original_checkpoints_are_renamed_by_timm_s_own_filter():
    """DINOv2 with registers keeps the class token's position apart; DeiT-III its LayerScale's name."""
    tokens = {
        "cls_token": torch.ones(1, 1, 384),
        "pos_embed": torch.full((1, 1 + 16 * 16, 384), 2.0),
        "register_tokens": torch.zeros(1, 4, 384),
        "mask_token": torch.zeros(1, 384),
        "patch_embed.proj.weight": torch.zeros(384, 3, 14, 14),
    }
    got = adapted("vit_small_patch14_reg4_dinov2.lvd142m", tokens)
    assert "mask_token" not in got
    assert torch.equal(got["cls_token"], torch.full((1, 1, 384), 3.0))
    assert got["pos_embed"].shape == (1, 16 * 16, 384)
    assert got["reg_token"].shape == (1, 4, 384)
    # The filter of this family differs by an argument that only its maker knows.
    got = adapted("deit3_small_patch16_224", {"blocks.0.gamma_1": torch.ones(384)})
    assert "blocks.0.ls1.gamma" in got
    # One that takes the tensors alone, and a file of another network.
    assert adapted("vgg11", {"x": torch.ones(1)}).keys() == {"x"}
    assert adapted("vit_tiny_patch16_224", {"fc.weight": torch.ones(2, 2)}).keys() == {"fc.weight"}


def test_building_says_nothing_and_downloads_nothing(capfd, monkeypatch):
    def no(*args, **kwargs):
        raise AssertionError("asked for a file")

    monkeypatch.setattr("timm.models._builder.load_pretrained", no)
    with torch.device("meta"):
        whole = SOURCE.entry("mobilenetv3_small_050").build((160, 160))  # no img_size to pass
    assert whole.classifier == "classifier"
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")


@pytest.mark.parametrize("name", ["nest_tiny", "levit_128s"])
def test_a_size_that_a_network_cannot_take_is_an_error(name):
    """One fails when it is built, the other when it is run."""
    with pytest.raises(InputError, match=f"{name}.*200x200") as caught:
        network.trace_shapes(SOURCE.entry(name), (200, 200))
    assert caught.value.where == "--crop"
