"""torchvision's networks: the same images through us and through torchvision's own transforms and pass."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from bottleneck_probe import InputError
from bottleneck_probe.backbones import network, registry
from bottleneck_probe.backbones.base import PENULTIMATE, Output, Weights
from bottleneck_probe.backbones.sources.torchvision import SOURCE, adapt
from bottleneck_probe.images.preprocess import apply
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.feature_extraction import create_feature_extractor

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import calibrate_, error, he_, picture, save, spread

IMAGES = [picture(0, (250, 190)), picture(1, (180, 240)), picture(2, (310, 300))]

# The smallest of each family, its classifier, and two nodes inside: modules, and what a function gives.
FAMILIES = [
    ("resnet18", "fc", "layer1.0.add", "layer3"),
    ("vgg11_bn", "classifier.6", "features.7", "features"),
    ("inception_v3", "fc", "Mixed_5b", "Mixed_6a"),
    ("efficientnet_b0", "classifier.1", "features.2", "features.5"),
    ("densenet121", "classifier", "features.transition1", "features"),
    ("mobilenet_v2", "classifier.1", "features.3", "features.14"),
    ("mobilenet_v3_small", "classifier.3", "features.4", "features.9"),
    ("mnasnet0_5", "classifier.1", "layers.8", "layers.13"),
    ("shufflenet_v2_x0_5", "fc", "stage2", "stage4"),
    ("regnet_y_400mf", "fc", "trunk_output.block1", "trunk_output.block4"),
    ("squeezenet1_1", "classifier.1", "features.4", "features.12.expand3x3"),
    ("convnext_tiny", "classifier.2", "features.0", "features.5"),
    ("vit_b_32", "heads.head", "encoder.layers.encoder_layer_3.ln_1", "encoder.layers"),
    ("swin_t", "head", "features.1", "features.5"),
]


def reference(name: str) -> tuple[torch.nn.Module, torch.Tensor]:
    """torchvision's own network with weights that tell images apart, and what its transforms give."""
    preset = get_model_weights(name).DEFAULT.transforms()
    batch = torch.stack([preset(image) for image in IMAGES])
    # Its own start would take inception_v3 half a minute.
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    model = get_model(name, weights=None, **options)
    for part in model.modules():
        if hasattr(part, "inplace"):
            part.inplace = False  # else what is extracted below is overwritten by the layer behind
    if options:
        model.transform_input = True  # as with its pretrained weights
    calibrate_(he_(model, seed=7), batch)
    return model, batch


def ours(name: str, path: Path, nodes: tuple[str, ...]) -> tuple[torch.Tensor, ...]:
    backbone = registry.resolve(f"torchvision/{name}", weights=path)
    outputs = [PENULTIMATE]
    for node in nodes:
        tokens = name.startswith("vit")
        outputs.append(Output(node, "patches" if tokens else "avg"))
    backbone = backbone.with_outputs(tuple(outputs))
    p = backbone.preprocessing
    pixels = np.stack([apply(image, p) for image in IMAGES]).astype(np.float32) / 255
    activations = (pixels - np.float32(p.mean)) / np.float32(p.std)
    cut = network.load(backbone)[0]
    with torch.no_grad():
        return cut(torch.from_numpy(activations.transpose(0, 3, 1, 2).copy()))


def inside(model: torch.nn.Module, batch: torch.Tensor, node: str) -> torch.Tensor:
    """What a module returns, or a function inside one."""
    if node not in dict(model.named_modules()):
        return create_feature_extractor(model, [node])(batch)[node]
    caught = []
    handle = model.get_submodule(node).register_forward_hook(
        lambda module, args, result: caught.append(result.clone())
    )
    model(batch)
    handle.remove()
    return caught[0]


def pooled(name: str, value: torch.Tensor) -> torch.Tensor:
    """Mean over the places, written for the layout that this family is known to have."""
    if name.startswith("vit"):
        return value[:, 1:].mean(1)
    return value.mean((1, 2) if name.startswith("swin") else (2, 3))


@pytest.mark.parametrize(("name", "classifier", "early", "late"), FAMILIES, ids=lambda x: x)
def test_features_are_those_of_torchvision(name, classifier, early, late, tmp_path):
    model, batch = reference(name)
    path = save(model, tmp_path / f"{name}.pth")
    got, *inner = ours(name, path, (early, late))
    path.unlink()
    caught = []
    head = model.get_submodule(classifier)
    handle = head.register_forward_pre_hook(lambda module, args: caught.append(args[0]))
    with torch.no_grad():
        logits = model(batch)
        handle.remove()
        wanted = caught[0].mean((2, 3)) if caught[0].ndim == 4 else caught[0]
        assert spread(wanted) >= 0.05
        assert error(got, wanted) <= 1e-4
        for node, vector in zip((early, late), inner, strict=True):
            wanted = pooled(name, inside(model, batch, node))
            assert spread(wanted) >= 0.05, node
            assert error(vector, wanted) <= 1e-4, node
        if isinstance(head, torch.nn.Linear):
            assert error(head(got), logits) <= 1e-4


def test_every_tag_is_preprocessed_as_torchvision_does():
    seen = set()
    image = picture(3, (611, 457))
    for name in list_models(module=torchvision.models):
        for tag in get_model_weights(name):
            p = SOURCE.entry(f"{name}@{tag.name}").preprocessing()
            if p in seen:
                continue
            seen.add(p)
            wanted = tag.transforms()(image).permute(1, 2, 0).numpy()
            got = (apply(image, p).astype(np.float32) / 255 - np.float32(p.mean)) / np.float32(
                p.std
            )
            np.testing.assert_allclose(got, wanted, atol=1e-6, err_msg=f"{name} {tag}")
    assert len(seen) >= 20


def test_weights_and_tags_are_those_of_torchvision():
    for name in ("regnet_y_16gf", "vgg16", "efficientnet_b1"):
        enum = get_model_weights(name)
        assert SOURCE.entry(name).name == f"torchvision/{name}@{enum.DEFAULT.name}"
        for tag in enum:
            weights = SOURCE.entry(f"{name}@{tag.name.lower()}").weights
            assert weights.url() == tag.url
            assert tag.url.endswith(f"/{weights.filename}")
            assert weights.size_mb == tag.meta["_file_size"]
            assert weights.label == tag.name
            wanted = "CC-BY-NC-4.0" if "SWAG" in tag.name else "BSD-3-Clause"
            assert weights.licence == wanted
    for wrong, hint in [("swin_tt", "swin_t"), ("resnet18@V9", "IMAGENET1K_V1")]:
        with pytest.raises(InputError) as caught:
            SOURCE.entry(wrong)
        assert hint in caught.value.next


def load(name: str, state: dict, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    whole = SOURCE.entry(name).build(changes.get("crop", (224, 224)))
    adapted = dict(adapt(state, whole.module))
    # We compare names before torchvision's own reader could mend them.
    assert adapted.keys() == whole.module.state_dict().keys()
    whole.module.load_state_dict(adapted)
    return whole.module.eval()


def test_the_names_of_published_files_of_densenet_are_understood():
    new = get_model("densenet121", weights=None).state_dict()
    published = {
        k.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.").replace("conv2.", "conv.2.")
        if "denselayer" in k else k: v
        for k, v in new.items()
    }  # fmt: skip
    assert published.keys() != new.keys()
    got = load("densenet121", published).state_dict()
    assert all(torch.equal(got[k], v) for k, v in new.items())


def test_the_names_of_published_files_of_vision_transformers_are_understood():
    new = get_model("vit_b_32", weights=None).state_dict()
    published = {
        k.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v
        for k, v in new.items()
    }
    assert published.keys() != new.keys()
    got = load("vit_b_32", published).state_dict()
    assert all(torch.equal(got[k], v) for k, v in new.items())


def test_position_embeddings_follow_the_crop():
    """The grid is resampled, the class token's own embedding is not."""
    state = get_model("vit_b_32", weights=None).state_dict()
    rows = torch.linspace(0, 1, 7)[:, None].expand(7, 7).reshape(1, 49, 1)  # rises downwards
    state["encoder.pos_embedding"][:, 1:] = rows
    got = load("vit_b_32", state, crop=(416, 416)).state_dict()["encoder.pos_embedding"]
    assert got.shape == (1, 1 + 13 * 13, 768)
    assert torch.equal(got[:, 0], state["encoder.pos_embedding"][:, 0])
    grid = got[0, 1:, 0].reshape(13, 13)
    torch.testing.assert_close(
        grid, torch.linspace(0, 1, 13)[:, None].expand(13, 13), atol=0.02, rtol=0
    )


def test_weights_without_a_classifier_are_cut_before_it():
    """Behind the convolutions the published IMAGENET1K_FEATURES of VGG16 are NaN."""
    with torch.device("meta"):
        whole = SOURCE.entry("vgg16@IMAGENET1K_FEATURES").build((224, 224))
    assert whole.classifier == "classifier.0"
    with torch.device("meta"):
        assert SOURCE.entry("vgg16").build((224, 224)).classifier == "classifier.6"


@pytest.mark.parametrize(
    ("name", "size"), [("vit_b_16", (224, 192)), ("vit_b_16", (225, 225)), ("maxvit_t", (200, 200))]
)
def test_a_size_that_a_network_cannot_take_is_an_error(name, size):
    with pytest.raises(InputError, match=name) as caught:
        SOURCE.entry(name).build(size)
    assert caught.value.where == "--crop"


def test_random_weights_are_the_same_each_time():
    """The tables of positions, which no rule of ours draws, included."""

    def once() -> torch.Tensor:
        entry = SOURCE.entry("swin_t")
        backbone = registry.Backbone(entry, Weights(None, "random:0", ""), entry.preprocessing())
        with torch.no_grad():
            return network.load(backbone)[0](torch.ones(1, 3, 224, 224))[0]

    torch.manual_seed(1)
    first = once()
    torch.manual_seed(2)
    assert torch.equal(once(), first)
