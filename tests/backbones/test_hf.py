"""Hugging Face's image networks: the features and pixels of transformers' own classes."""

import contextlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bottleneck_probe import InputError, WeightsError
from bottleneck_probe.backbones import network
from bottleneck_probe.backbones.base import PENULTIMATE, Backbone, Output
from bottleneck_probe.backbones.sources.hf import SOURCE
from bottleneck_probe.images.preprocess import Preprocessing, apply
from PIL import Image
from safetensors.torch import load_file, save_file

transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(Path(__file__).parents[1]))
import networks

IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SQUASH = {
    "image_processor_type": "ViTImageProcessor",
    "size": {"height": 64, "width": 64},
    "resample": 2,
    **HALF,
}
CROP = {
    "image_processor_type": "BitImageProcessor",
    "size": {"shortest_edge": 72},
    "crop_size": {"height": 64, "width": 64},
    "resample": 3,
    **IMAGENET,
}
CLIP = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "size": 64,
    "crop_size": 64,
    "resample": 3,
    "do_center_crop": True,
    "do_resize": True,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
CONVNEXT = {
    "image_processor_type": "ConvNextImageProcessor",
    "size": {"shortest_edge": 64},
    "crop_pct": 0.875,
    "resample": 3,
    **IMAGENET,
}
TOKENS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {k: v for k, v in TOKENS.items() if not k.endswith("_size") or k[0] in "hi"} | {
    "vocab_size": 50,
    "image_size": 0,
}
STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}


def _config(name, **fields):
    return getattr(transformers, name)(**fields)


def _clip():
    text = {k: v for k, v in TEXT.items() if k != "image_size"}
    return _config("CLIPConfig", vision_config=TOKENS, text_config=text, projection_dim=16)


# class, configuration, processor, the vector where there is no classifier to look into.
FAMILIES = {
    "vit": (
        "ViTForImageClassification",
        lambda: _config("ViTConfig", **TOKENS),
        SQUASH,
        None,
    ),
    "vit without classifier": (
        "ViTModel",
        lambda: _config("ViTConfig", **TOKENS),
        SQUASH,
        lambda out: out.last_hidden_state[:, 0],
    ),
    "dinov2": (
        "Dinov2Model",
        lambda: _config("Dinov2Config", **{**TOKENS, "image_size": 96}),
        CROP,
        lambda out: out.pooler_output,
    ),
    "dinov2 with classifier": (
        "Dinov2ForImageClassification",
        lambda: _config("Dinov2Config", **TOKENS),
        CROP,
        None,
    ),
    "convnext": (
        "ConvNextForImageClassification",
        lambda: _config("ConvNextConfig", **STAGES, layer_scale_init_value=1.0),
        CONVNEXT,
        None,
    ),
    "resnet": (
        "ResNetForImageClassification",
        lambda: _config("ResNetConfig", embedding_size=8, **STAGES),
        CROP,
        None,
    ),
    "resnet without classifier": (
        "ResNetModel",
        lambda: _config("ResNetConfig", embedding_size=8, **STAGES),
        CROP,
        lambda out: out.pooler_output.flatten(1),
    ),
    "clip": ("CLIPModel", _clip, CLIP, lambda out: out.pooler_output),
    "swin": (
        "SwinForImageClassification",
        lambda: _config(
            "SwinConfig",
            image_size=64,
            embed_dim=16,
            depths=[1, 2],
            num_heads=[2, 2],
            window_size=4,
        ),
        SQUASH,
        None,
    ),
    "siglip tower": (
        "SiglipVisionModel",
        lambda: _config("SiglipVisionConfig", **TOKENS),
        {**SQUASH, "image_processor_type": "SiglipImageProcessor"},
        lambda out: out.pooler_output,
    ),
}


@pytest.fixture(scope="module")
def images():
    """Three smooth images, unlike each other, of sizes whose centre crop has one meaning."""
    generator = np.random.default_rng(3)
    made = []
    for shape in ((9, 12), (12, 9), (10, 10)):
        small = generator.integers(0, 256, (*shape, 3), np.uint8)
        size = (shape[1] * 16, shape[0] * 16)
        made.append(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))
    return made


def _pixels(processor, images):
    return torch.cat(
        [processor(images=image, return_tensors="pt")["pixel_values"] for image in images]
    )


def _saved(folder, name, config, processor, images):
    """A network with weights that tell images apart, saved as transformers does; and its pixels."""
    model = getattr(transformers, name)(config).eval()
    networks.he_(model, 5)
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    theirs = transformers.AutoImageProcessor.from_pretrained(folder, backend="pil")
    pixels = _pixels(theirs, images)
    vision = model.vision_model if name == "CLIPModel" else model
    networks.calibrate_(vision, pixels)
    model.save_pretrained(folder)
    return vision, pixels


def _run(backbone, images):
    cut, nodes, _ = network.load(backbone)
    p = backbone.preprocessing
    batch = np.stack([apply(image, p) for image in images]).astype(np.float32) / 255
    batch = (batch - np.float32(p.mean)) / np.float32(p.std)
    with torch.no_grad():
        return cut(torch.from_numpy(batch.transpose(0, 3, 1, 2).copy())), nodes, cut


def _entry(folder):
    entry = SOURCE.entry(str(folder))
    return entry, Backbone(entry, entry.weights.find(), entry.preprocessing())


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_transformers(family, images, tmp_path):
    name, make, processor, own = FAMILIES[family]
    theirs, pixels = _saved(tmp_path, name, make(), processor, images)
    entry, backbone = _entry(tmp_path)
    assert str(tmp_path) not in entry.name
    # Two inner nodes: the middle one of the modules that give a tensor, and the last but one.
    names = {name for name, _ in theirs.named_modules()}
    seen = {}

    def keep(key):
        def hook(module, args, out):
            seen.setdefault(key, out)  # and returns nothing: that would replace the output

        return hook

    handles = [part.register_forward_hook(keep(k)) for k, part in theirs.named_modules() if k]
    if hasattr(theirs, "classifier"):
        handles.append(
            theirs.classifier.register_forward_pre_hook(lambda m, a: seen.update(entered=a[0]))
        )
    with torch.no_grad():
        result = theirs(pixel_values=pixels)
    for handle in handles:
        handle.remove()
    tensors = [
        k
        for k, v in seen.items()
        if torch.is_tensor(v) and len(v) == 3 and v.ndim > 2 and k in names
    ]
    inner = [tensors[len(tensors) // 2], tensors[-2]]
    outputs = (PENULTIMATE, *(Output(key, "flatten") for key in inner))
    got, nodes, _ = _run(backbone.with_outputs(outputs), images)
    if hasattr(theirs, "classifier"):
        wanted = seen["entered"].flatten(1)
        classifier = theirs.get_submodule(next(n.module for n in nodes if n.name == "penultimate"))
        with torch.no_grad():
            torch.testing.assert_close(classifier(got[0]), result.logits, rtol=1e-4, atol=1e-5)
    else:
        wanted = own(result)
    assert networks.spread(wanted) > 0.05
    assert networks.error(got[0], wanted) < 1e-4
    for features, key in zip(got[1:], inner, strict=True):
        assert networks.error(features, seen[key].flatten(1)) < 1e-4


def test_another_size_of_input_is_taken_as_transformers_takes_it(images, tmp_path):
    theirs, _ = _saved(tmp_path, "ViTModel", _config("ViTConfig", **TOKENS), SQUASH, images)
    _, backbone = _entry(tmp_path)
    backbone = backbone.with_preprocessing(resize=(96, 96), crop=(96, 96))
    got, _, _ = _run(backbone, images)
    batch = np.stack([apply(image, backbone.preprocessing) for image in images])
    pixels = torch.from_numpy(batch.transpose(0, 3, 1, 2).astype(np.float32) / 255 * 2 - 1)
    with torch.no_grad():
        wanted = theirs(pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    assert networks.error(got[0], wanted) < 1e-4


PROCESSORS = {
    "squash": SQUASH,
    "old squash": {"feature_extractor_type": "ViTFeatureExtractor", "size": 64, **HALF},
    "crop": CROP,
    "clip": CLIP,
    "convnext": CONVNEXT,
    "large convnext": {**CONVNEXT, "size": {"shortest_edge": 384}, "crop_pct": None},
    "deit": {
        "image_processor_type": "DeiTImageProcessor",
        "size": 72,
        "crop_size": 64,
        "resample": 3,
        **IMAGENET,
    },
    "levit": {"image_processor_type": "LevitImageProcessor", "size": 224, **IMAGENET},
    "efficientnet": {
        "image_processor_type": "EfficientNetImageProcessor",
        "size": {"height": 64, "width": 64},
        "resample": 0,
        **IMAGENET,
    },
    "not normalised": {**SQUASH, "do_normalize": False},
    "not rescaled": {**SQUASH, "do_rescale": False},
    "rescaled to -1..1": {**SQUASH, "do_normalize": False, "rescale_factor": 1 / 127.5},
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_pixels_are_those_of_the_image_processor(kind, images, tmp_path):
    from bottleneck_probe.backbones import transformers_pixels

    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSORS[kind]))
    p = Preprocessing(**transformers_pixels.preprocessing(tmp_path))
    theirs = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    for image in images:
        ours = (apply(image, p).astype(np.float32) / 255 - np.float32(p.mean)) / np.float32(p.std)
        wanted = theirs(images=image, return_tensors="np")["pixel_values"][0]
        scale = max(1.0, np.abs(wanted).max())
        assert np.abs(ours.transpose(2, 0, 1) - wanted).max() < 1e-5 * scale
        # Another interpolation would be seen.
        assert np.abs(wanted - wanted.mean()).max() > 0.1


@pytest.mark.parametrize(
    "processor",
    [
        {"image_processor_type": "MobileViTImageProcessor", "size": 72, "crop_size": 64},  # BGR
        {**SQUASH, "do_resize": False},
        {
            **SQUASH,
            "image_processor_type": "DetrImageProcessor",
            "size": {"shortest_edge": 64, "longest_edge": 80},
        },
        None,
    ],
    ids=["channels flipped", "any size", "padded", "no file"],
)
def test_a_processor_that_cannot_be_followed_is_an_error(processor, tmp_path):
    _config("ViTConfig", **TOKENS).save_pretrained(tmp_path)
    if processor:
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    entry = SOURCE.entry(str(tmp_path))
    with pytest.raises(InputError) as caught:
        entry.preprocessing()
    assert "--mean" in caught.value.next


def test_a_checkpoint_without_pooler_is_not_given_a_random_one(images, tmp_path):
    """DINO's ViT has no pooler: transformers fills one with chance, with a warning only."""
    theirs, pixels = _saved(tmp_path, "ViTModel", _config("ViTConfig", **TOKENS), SQUASH, images)
    state = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in state.items() if "pooler" not in k},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    entry, backbone = _entry(tmp_path)
    got, _, _ = _run(backbone, images)
    with torch.no_grad():
        wanted = theirs(pixels).last_hidden_state[:, 0]
    assert networks.error(got[0], wanted) < 1e-4
    assert any("class token" in note for note in entry.notes)


def test_missing_tensors_are_an_error_and_not_chance(images, tmp_path):
    _saved(tmp_path, "ViTForImageClassification", _config("ViTConfig", **TOKENS), SQUASH, images)
    state = load_file(tmp_path / "model.safetensors")
    gone = next(k for k in state if k.endswith("layernorm_before.weight"))
    wrong = next(k for k in state if k.endswith("projection.weight"))
    classes = {"classifier.weight": torch.zeros(7, 32), "classifier.bias": torch.zeros(7)}
    state = {k: v for k, v in state.items() if k != gone}
    save_file({**state, **classes}, tmp_path / "model.safetensors", {"format": "pt"})
    _, backbone = _entry(tmp_path)
    with pytest.raises(
        WeightsError, match=r"layernorm_before\.weight \(32,\) is missing"
    ) as caught:
        network.load(backbone)
    assert "classifier" not in caught.value.what  # other classes are nobody's business
    state[wrong] = torch.zeros(3, 3)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    _, backbone = _entry(tmp_path)
    with pytest.raises(WeightsError, match=r"is \(3, 3\), not \(32, 3, 16, 16\)"):
        network.load(backbone)


def test_a_folder_is_known_by_what_is_in_it(images, tmp_path):
    (tmp_path / "a").mkdir()
    _saved(tmp_path / "a", "ViTModel", _config("ViTConfig", **TOKENS), SQUASH, images)
    entry = SOURCE.entry(str(tmp_path / "a"))
    rest = entry.name.removeprefix("hf/")
    assert rest.startswith("a+")
    assert SOURCE.entry(rest).name == entry.name
    # Found again by its digest after it was moved and named once.
    (tmp_path / "a").rename(tmp_path / "b")
    moved = SOURCE.entry(str(tmp_path / "b"))
    assert moved.name.split("+")[1] == entry.name.split("+")[1]
    assert SOURCE.entry(rest).weights.find().path.parent == tmp_path / "b"
    # Other content is another backbone, and the old one is not here any more.
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    (tmp_path / "b" / "config.json").write_text(json.dumps({**config, "layer_norm_eps": 1e-3}))
    assert SOURCE.entry(str(tmp_path / "b")).name.split("+")[1] != entry.name.split("+")[1]


def test_the_second_run_imports_neither_torch_nor_transformers(images, tmp_path):
    _saved(tmp_path, "ViTModel", _config("ViTConfig", **TOKENS), SQUASH, images)
    _entry(tmp_path)
    code = (
        "import sys; from bottleneck_probe.backbones.sources.hf import SOURCE\n"
        f"entry = SOURCE.entry({str(tmp_path)!r}); entry.preprocessing(); entry.weights.find()\n"
        "assert not {'torch', 'transformers', 'timm'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_repository_of_the_hub_is_taken_from_its_cache(images, tmp_path, monkeypatch):
    """The layout of huggingface_hub's cache; no network is asked for what is there."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "models--google--tiny-vit"
    snapshot = folder / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    theirs, pixels = _saved(snapshot, "ViTModel", _config("ViTConfig", **TOKENS), SQUASH, images)
    entry = SOURCE.entry("google/tiny-vit")
    assert entry.name.startswith("hf/google/tiny-vit+")
    backbone = Backbone(entry, entry.weights.find(), entry.preprocessing())
    with torch.no_grad():
        wanted = theirs(pixels).last_hidden_state[:, 0]
    assert networks.error(_run(backbone, images)[0][0], wanted) < 1e-4
    again = SOURCE.entry(entry.name.removeprefix("hf/"))
    assert (again.name, again.weights.find()) == (entry.name, entry.weights.find())
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE") as caught:
        SOURCE.entry("google/other")
    assert "config.json" in caught.value.expected


def test_code_of_a_repository_is_never_run(tmp_path):
    ran = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n")
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "code.C", "AutoModel": "code.C"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="is code of its own"):
        SOURCE.entry(str(tmp_path))
    assert not ran.exists()


def _answer_yes(monkeypatch):
    """A user who says yes to whatever is asked; what was asked is kept."""
    asked = []

    def answer(prompt=""):
        asked.append(prompt)
        return "y"

    monkeypatch.setattr("builtins.input", answer)
    return asked


@pytest.mark.parametrize(
    ("file", "key", "model_type"),
    [
        ("config.json", "AutoConfig", "mine"),
        ("config.json", "AutoModel", "vit"),
        ("config.json", "AutoModelForImageClassification", "vit"),
        ("preprocessor_config.json", "AutoImageProcessor", "vit"),
        ("config.json", "AutoImageProcessor", "vit"),
    ],
)
@pytest.mark.parametrize("by", ["entry", "transformers"])
def test_a_folder_that_brings_code_is_refused_without_a_question(
    file, key, model_type, by, tmp_path, monkeypatch, capsys
):
    """transformers asks on the terminal, and one `y` runs the folder's code."""
    from bottleneck_probe.backbones import transformers_models, transformers_pixels

    ran = tmp_path / "ran"
    code = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass C: pass\n"
    (tmp_path / "code.py").write_text(code)
    contents = {
        "config.json": {"model_type": model_type, **TOKENS},
        # Without a class of transformers, or its own is taken and nothing is asked.
        "preprocessor_config.json": {"size": {"height": 64, "width": 64}, **HALF},
    }
    contents[file]["auto_map"] = {key: "code.C"}
    for name, content in contents.items():
        (tmp_path / name).write_text(json.dumps(content))
    asked = _answer_yes(monkeypatch)
    if by == "transformers":  # the second wall: what holds if the first did not see it
        for module in (transformers_models, transformers_pixels):
            for name in ("refuse_network", "refuse_processor"):
                monkeypatch.setattr(module, name, lambda folder: None, raising=False)
        with contextlib.suppress(InputError):
            transformers_models.describe(tmp_path)
        with contextlib.suppress(InputError):
            transformers_pixels.preprocessing(tmp_path)
    else:
        with pytest.raises(InputError, match=f"code of its own .*{key}") as caught:
            SOURCE.entry(str(tmp_path)).preprocessing()
        assert caught.value.where == str(tmp_path / file)
        assert caught.value.expected
        assert "copy of the folder" in caught.value.next
    assert asked == []
    assert not ran.exists()
    assert capsys.readouterr().out == ""


def test_an_image_processor_of_the_folders_own_is_not_asked_for(tmp_path, monkeypatch):
    """Where transformers has none for the type, it would ask."""
    from bottleneck_probe.backbones import transformers_pixels

    ran = tmp_path / "ran"
    (tmp_path / "code.py").write_text(f"open({str(ran)!r}, 'w')\nclass C: pass\n")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    processor = {"auto_map": {"AutoImageProcessor": "code.C"}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    asked = _answer_yes(monkeypatch)
    with pytest.raises(InputError, match=r"the image processor of .* is code of its own"):
        transformers_pixels.preprocessing(tmp_path)
    monkeypatch.setattr(transformers_pixels, "refuse_processor", lambda folder: None, raising=False)
    with pytest.raises(InputError):
        transformers_pixels.preprocessing(tmp_path)
    assert asked == []
    assert not ran.exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_a_kernel_from_elsewhere_is_refused(key, tmp_path):
    """transformers would fetch it from the hub, and run it."""
    config = {"model_type": "clip", "vision_config": {**TOKENS, key: "somebody/kernel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="code from elsewhere"):
        SOURCE.entry(str(tmp_path))


def test_a_type_without_a_network_is_named_with_a_way_out(tmp_path):
    config = {"model_type": "encoder-decoder", "encoder": {"model_type": "bert"}}
    config["decoder"] = {"model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    monkey = transformers.MODEL_MAPPING
    if type(transformers.AutoConfig.from_pretrained(tmp_path)) in monkey:
        pytest.skip("transformers has one")
    with pytest.raises(InputError, match="no network for type encoder-decoder") as caught:
        SOURCE.entry(str(tmp_path))
    assert "model_type" in caught.value.expected
    assert caught.value.where == str(tmp_path / "config.json")
    assert "ONNX" in caught.value.next


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn], ids=str)
@pytest.mark.parametrize("tensor", ["attention", "norm", "old name"])
def test_quantised_tensors_are_refused(tensor, dtype, images, tmp_path):
    """transformers casts them to float32, scales forgotten, before they can be looked at."""
    _saved(tmp_path, "ViTModel", _config("ViTConfig", **TOKENS), SQUASH, images)
    state = load_file(tmp_path / "model.safetensors")
    word = "attention" if tensor == "old name" else tensor
    name = next(k for k in state if word in k and k.endswith("weight"))
    value = (state.pop(name) * 100).round().to(dtype)
    # As in files that have the whole of a classifier's names: transformers drops the beginning.
    state[f"vit.{name}" if tensor == "old name" else name] = value
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    quantised = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (tmp_path / "config.json").write_text(json.dumps({**config, "quantization_config": quantised}))
    _, backbone = _entry(tmp_path)
    short = str(dtype).removeprefix("torch.")
    with pytest.raises(WeightsError, match=rf"quantised.* is {short}, not float32"):
        network.load(backbone)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: _config("BertConfig"), "takes input_ids, not images"),
        (lambda: _config("ViTMAEConfig", **TOKENS), "at random"),
    ],
    ids=["text", "masked"],
)
def test_networks_that_give_an_image_no_vector_are_errors(config, message, tmp_path):
    config().save_pretrained(tmp_path)
    with pytest.raises(InputError, match=message):
        SOURCE.entry(str(tmp_path))


def test_a_folder_without_weights_or_configuration_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no config\.json"):
        SOURCE.entry(str(tmp_path))
    with pytest.raises(InputError, match="there is no folder"):
        SOURCE.entry(str(tmp_path / "none"))
    _config("ViTConfig", **TOKENS).save_pretrained(tmp_path)
    weights = SOURCE.entry(str(tmp_path)).weights
    assert not weights.here()
    with pytest.raises(WeightsError, match="no weights in one file"):
        weights.fetch(lambda text: None)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="parts listed in model"):
        weights.fetch(lambda text: None)


def test_without_transformers_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    from bottleneck_probe import MissingExtraError

    with pytest.raises(MissingExtraError) as caught:
        SOURCE.entry(str(tmp_path))
    assert "bottleneck-probe[hf]" in caught.value.next
