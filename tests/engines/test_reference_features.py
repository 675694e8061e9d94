"""Features are those that the networks' own libraries give in a plain loop."""

from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
import torch
import torchvision
from bottleneck_probe.backbones import registry
from bottleneck_probe.engines import export, network
from bottleneck_probe.reporter import Silent
from PIL import Image
from torchvision import transforms

TOLERANCE = {"eager": 1e-4, "onnx": 1e-3}

# As the publisher of the default weights evaluates them.
LITE0_TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256, transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
)


def relative_error(a, b):
    return np.linalg.norm(a - b, axis=1) / np.linalg.norm(b, axis=1)


def spread(features):
    """The smallest relative distance between the features of any two images."""
    n = len(features)
    return min(
        np.linalg.norm(features[i] - features[j]) / np.linalg.norm(features[j])
        for i in range(n)
        for j in range(i)
    )


def load_rgb(path: Path) -> Image.Image:
    return Image.open(path).convert("RGB")


def lite0_loop(model, paths):
    rows = []
    with torch.no_grad():
        for path in paths:
            maps = model.forward_features(LITE0_TRANSFORM(load_rgb(path))[None])
            rows.append(model.global_pool(maps)[0].numpy())
    return np.stack(rows)


def by_path(cache: bp.Features, paths: list[Path], root: Path) -> np.ndarray:
    place = {path: i for i, path in enumerate(cache.paths)}
    return cache.features[:][[place[path.relative_to(root).as_posix()] for path in paths]]


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_lite0_gives_timms_features_of_generated_images(
    engine, generated, lite0_reference, tmp_path
):
    cache = bp.extract(
        generated[0].parent,
        output=tmp_path / "x.h5",
        engine=engine,
        device="cpu",
        batch_size=4,
        quiet=True,
    )
    expected = lite0_loop(lite0_reference, generated)
    assert spread(expected) > 0.05
    assert cache.environment["engine"] == engine
    got = by_path(cache, generated, generated[0].parent)
    assert relative_error(got, expected).max() <= TOLERANCE[engine]


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_lite0_gives_timms_features_of_photographs(engine, test_data, lite0_reference):
    photographs = sorted((test_data / "ants-bees").rglob("*.jpg"))[::40]
    got = bp.embed(photographs, engine=engine, device="cpu", batch_size=4)
    expected = lite0_loop(lite0_reference, photographs)
    assert relative_error(got, expected).max() <= TOLERANCE[engine]


def test_lite0_features_with_the_classifier_are_the_logits_of_the_whole_network(
    generated, lite0_reference
):
    features = torch.from_numpy(bp.embed(generated, engine="eager", device="cpu", batch_size=4))
    with torch.no_grad():
        logits = lite0_reference.classifier(features)
        whole = lite0_reference(torch.stack([LITE0_TRANSFORM(load_rgb(p)) for p in generated]))
    assert relative_error(logits.numpy(), whole.numpy()).max() <= 1e-4


@pytest.fixture(scope="module")
def resnet50(resnet50_weights):
    model = torchvision.models.resnet50(weights=None)
    model.load_state_dict(torch.load(resnet50_weights, weights_only=True))
    return model.eval()


@pytest.fixture(scope="module")
def resnet50_expected(resnet50, generated):
    """Features as a hook on torchvision's own pooling sees them, and the network's logits."""
    preset = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    pooled = []
    handle = resnet50.avgpool.register_forward_hook(lambda m, i, o: pooled.append(o.flatten(1)))
    with torch.no_grad():
        logits = torch.cat([resnet50(preset(load_rgb(path))[None]) for path in generated])
    handle.remove()
    return torch.cat(pooled).numpy(), logits.numpy()


@pytest.mark.parametrize("engine", ["eager", "onnx"])
def test_resnet50_gives_torchvisions_features(
    engine, generated, resnet50, resnet50_weights, resnet50_expected
):
    expected, logits = resnet50_expected
    assert spread(expected) >= 0.05
    got = bp.embed(
        generated,
        backbone="resnet50",
        weights=resnet50_weights,
        engine=engine,
        device="cpu",
        batch_size=4,
    )
    assert relative_error(got, expected).max() <= TOLERANCE[engine]
    with torch.no_grad():
        again = resnet50.fc(torch.from_numpy(got)).numpy()
    assert relative_error(again, logits).max() <= TOLERANCE[engine]


def test_vgg16_gives_torchvisions_features(generated, vgg16_weights):
    model = torchvision.models.vgg16(weights=None, init_weights=False)
    model.load_state_dict(torch.load(vgg16_weights, weights_only=True, mmap=True), assign=True)
    model.eval()
    preset = torchvision.models.VGG16_Weights.IMAGENET1K_V1.transforms()
    seen = []
    model.classifier[4].register_forward_hook(lambda m, i, o: seen.append(o.clone()))
    with torch.no_grad():
        for path in generated[:3]:
            model(preset(load_rgb(path))[None])
    expected = torch.cat(seen).numpy()
    assert expected.min() == 0  # after the ReLU
    assert spread(expected) >= 0.05
    got = bp.embed(
        generated[:3],
        backbone="vgg16",
        weights=vgg16_weights,
        engine="eager",
        device="cpu",
        batch_size=3,
    )
    assert got.shape == (3, 4096)
    assert relative_error(got, expected).max() <= TOLERANCE["eager"]


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_an_exported_network_has_no_classifier_and_a_free_batch(name, generated, resnet50_weights):
    import onnx
    import onnxruntime

    weights = resnet50_weights if name == "resnet50" else None
    backbone = registry.resolve(name, weights=weights)
    path = export.find_or_export(backbone, Silent())
    graph = onnx.load(path).graph
    shapes = [tuple(tensor.dims) for tensor in graph.initializer]
    assert not any(1000 in shape for shape in shapes)
    assert not any(word in t.name for t in graph.initializer for word in ("classifier", "fc."))
    parameters = sum(int(np.prod(shape)) for shape in shapes if shape)
    # Batch norm may be folded into the convolutions, so fewer; a classifier would be 1.3 or 2 million more.
    assert parameters <= backbone.entry.facts.parameters * 1.02
    assert path.stat().st_size <= 4 * parameters * 1.02 + 500_000
    batch = graph.input[0].type.tensor_type.shape.dim[0]
    assert batch.dim_param
    assert not batch.dim_value
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).integers(0, 256, (5, 224, 224, 3), np.uint8)
    together = session.run(["features_0"], {"images": images})[0]
    alone = session.run(["features_0"], {"images": images[3:4]})[0]
    assert together.shape == (5, backbone.entry.facts.feature_size)
    assert relative_error(together[3:4], alone).max() <= 1e-5


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50", "vgg16"])
def test_the_registry_counts_the_parameters_of_the_cut_network(name, request):
    fixtures = {"resnet50": "resnet50_weights", "vgg16": "vgg16_weights"}
    weights = request.getfixturevalue(fixtures[name]) if name in fixtures else None
    backbone = registry.resolve(name, weights=weights)
    body, sizes = network.load(backbone, Silent())
    parts = [p for p in body.parameters() if p.untyped_storage().nbytes() >= p.nbytes]
    assert sum(p.numel() for p in parts) == backbone.entry.facts.parameters
    assert sizes == [backbone.entry.facts.feature_size]
    assert not body.training
    assert not any(p.requires_grad for p in body.parameters())
