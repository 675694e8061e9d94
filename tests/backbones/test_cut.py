"""A cut network against the same network run whole: values inside it, and what is not computed."""

import numpy as np
import pytest
import torch
import torchvision
from bottleneck_probe.backbones import network
from bottleneck_probe.backbones.base import Backbone, Entry, Output, Weights, Whole
from bottleneck_probe.backbones.cut import Cut, pool
from bottleneck_probe.backbones.layers import Node, select
from bottleneck_probe.backbones.trace import trace
from bottleneck_probe.engines import export
from bottleneck_probe.images.preprocess import Preprocessing
from torch import nn
from torch.nn import functional
from torchvision.models.feature_extraction import create_feature_extractor

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

P = Preprocessing(64, (64, 64), "bilinear", (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


class Reporter:
    def note(self, text):
        pass

    def warn(self, text):
        raise AssertionError(text)


@pytest.fixture
def images():
    return torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(1))


def resnet():
    torch.manual_seed(0)
    return torchvision.models.resnet18().eval()


def cut_at(module, *patterns, classifier="fc", size=(64, 64)):
    nodes = trace(Whole(module, classifier), size).nodes
    outputs = select(nodes, patterns)
    return Cut(module, nodes, outputs), outputs


def test_modules_and_functions_inside_forward_are_those_of_torchvisions_own_extractor(images):
    wanted = ["relu", "layer1.0.relu_1", "layer2.1.add", "layer3.0", "layer4", "avgpool", "flatten"]
    plain = resnet()
    for part in plain.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False  # else torchvision hands out `add` after ReLU has written over it
    reference = create_feature_extractor(plain, wanted)
    cut, _ = cut_at(resnet(), *wanted)
    with torch.no_grad():
        theirs = reference(images)
        ours = cut(images)
    assert len(ours) == len(wanted)
    for name, found in zip(wanted, ours, strict=True):
        value = theirs[name]
        expected = value.mean((2, 3)) if value.ndim == 4 else value
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        assert (found[0] - found[1]).norm() > 0.01 * found[0].norm(), name


def test_a_value_is_taken_before_a_later_layer_writes_over_it(images):
    class Overwritten(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.relu = nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.conv(x)
            x += 1
            x = self.relu(x)
            return x.mean((2, 3))

    torch.manual_seed(3)
    module = Overwritten().eval()
    cut, outputs = cut_at(module, "conv:flatten", "add:flatten", "relu:flatten", classifier=None)
    with torch.no_grad():
        conv, add, relu = cut(images)
        expected = module.conv(images).flatten(1)
    assert [output.node for output in outputs] == ["conv", "add", "relu"]
    torch.testing.assert_close(conv, expected)
    torch.testing.assert_close(add, expected + 1)
    torch.testing.assert_close(relu, (expected + 1).clamp(min=0))


def test_nothing_behind_the_last_cut_is_computed(images):
    module = resnet()
    ran = []
    for name, part in module.named_modules():
        part.register_forward_hook(lambda *_, name=name: ran.append(name))
    cut, _ = cut_at(module, "layer1", "layer2.0")
    ran.clear()
    cut(images)
    assert "layer2.0.conv2" in ran
    assert not any(name.startswith(("layer2.1", "layer3", "layer4", "fc")) for name in ran)


def test_several_layers_cost_one_forward(images):
    module = resnet()
    calls = []
    module.conv1.register_forward_hook(lambda *_: calls.append(1))
    cut, outputs = cut_at(module, "layer*", "penultimate")
    calls.clear()
    cut(images)
    assert len(outputs) == 5
    assert calls == [1]


def test_penultimate_is_what_the_classifier_takes(images):
    module = resnet()
    cut, _ = cut_at(module, "penultimate")
    with torch.no_grad():
        torch.testing.assert_close(module.fc(cut(images)[0]), module(images))


def test_a_convolution_as_classifier_takes_maps_which_are_averaged(images):
    torch.manual_seed(0)
    module = torchvision.models.squeezenet1_1().eval()
    cut, _ = cut_at(module, "penultimate", classifier="classifier.1")
    with torch.no_grad():
        expected = module.features(images).mean((2, 3))
        torch.testing.assert_close(cut(images)[0], expected)


def test_tokens(images):
    torch.manual_seed(0)
    module = torchvision.models.VisionTransformer(64, 16, 2, 2, 24, 48).eval()
    nn.init.normal_(module.encoder.pos_embedding)
    cut, _ = cut_at(
        module,
        "encoder.ln:cls",
        "encoder.ln:patches",
        "encoder.ln:max",
        "encoder.ln:2x2",
        "penultimate",
        classifier="heads.head",
    )
    with torch.no_grad():
        tokens = create_feature_extractor(module, ["encoder.ln"])(images)["encoder.ln"]
        cls, patches, largest, grid, penultimate = cut(images)
    torch.testing.assert_close(cls, tokens[:, 0])
    torch.testing.assert_close(patches, tokens[:, 1:].mean(1))
    torch.testing.assert_close(largest, tokens[:, 1:].amax(1))
    torch.testing.assert_close(penultimate, tokens[:, 0])
    places = tokens[:, 1:].reshape(3, 2, 2, 2, 2, 24)  # n, 2 rows of 2, 2 columns of 2, channels
    expected = places.mean((2, 4)).permute(0, 3, 1, 2).flatten(1)
    torch.testing.assert_close(grid, expected)


@pytest.mark.parametrize("layout", ["map", "map-last"])
@pytest.mark.parametrize("pooling", ["avg", "max", "gem", "2x2", "3x2", "flatten"])
def test_poolings_against_plain_numpy(layout, pooling):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6, 6)).astype(np.float32)
    shape = (5, 6, 6) if layout == "map" else (6, 6, 5)
    given = x if layout == "map" else x.transpose(0, 2, 3, 1)
    node = Node("x", "", shape, layout)
    found = pool(torch.from_numpy(np.ascontiguousarray(given)), node, pooling).numpy()
    if pooling == "flatten":
        expected = given.reshape(2, -1)
    elif pooling == "gem":
        expected = (np.maximum(x, 1e-6).astype(np.float64) ** 3).mean((2, 3)) ** (1 / 3)
    elif pooling in ("avg", "max"):
        expected = getattr(x, {"avg": "mean", "max": "max"}[pooling])(axis=(2, 3))
    else:
        rows, columns = (int(side) for side in pooling.split("x"))
        cells = x.reshape(2, 5, rows, 6 // rows, columns, 6 // columns)
        expected = cells.mean((3, 5)).reshape(2, -1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_a_flattened_value_does_not_share_memory_with_the_network():
    value = torch.ones((2, 3))
    found = pool(value, Node("x", "", (3,), "vector"), "none")
    value += 1
    assert found.tolist() == [[1, 1, 1], [1, 1, 1]]


class Calls(nn.Module):
    """Calls one module three times, and takes a path that depends on values."""

    def __init__(self):
        super().__init__()
        self.act = nn.ReLU()
        self.conv = nn.Conv2d(3, 4, 1)
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        x = self.act(self.conv(self.act(x)))
        if x.sum() >= 0:  # impossible on the meta device
            x = self.act(x * 2)
        return self.fc(x.mean((2, 3)))


def entry(make, classifier):
    return Entry("tests", "tests", "tests", None, lambda: P, lambda size: Whole(make(), classifier))


def test_control_flow_that_looks_at_values_is_followed_with_values(images):
    found = network.trace_shapes(entry(Calls, "fc"), (64, 64))
    names = [node.name for node in found.nodes]
    assert [name for name in names if name.startswith("act")] == ["act", "act_1", "act_2"]
    assert "mul" in names
    assert "penultimate" in names


def weights_of(module, tmp_path, **changes):
    path = tmp_path / "weights.pth"
    torch.save({**module.state_dict(), **changes}, path)
    return Weights(path, "0" * 64, "a test")


def backbone(weights, *outputs):
    return Backbone(entry(resnet, "fc"), weights, P, outputs or (Output(),))


def test_what_lies_behind_the_cut_is_neither_asked_of_the_file_nor_kept(tmp_path, images):
    state = {k: v for k, v in resnet().state_dict().items() if not k.startswith(("layer4", "fc"))}
    path = tmp_path / "part.pth"
    torch.save({**state, "something.else": torch.ones(3)}, path)
    weights = Weights(path, "0" * 64, "a test")
    cut, _, unused = network.load(backbone(weights, Output("layer3", "avg")))
    assert unused == 1
    stored = sum(t.untyped_storage().nbytes() for t in cut.state_dict().values())
    needed = sum(t.numel() * t.element_size() for t in state.values())
    assert stored < needed * 1.01
    with torch.no_grad():
        expected = create_feature_extractor(resnet(), ["layer3"])(images)["layer3"].mean((2, 3))
        torch.testing.assert_close(cut(images)[0], expected, rtol=1e-5, atol=1e-6)


def test_what_lies_before_the_cut_must_be_there(tmp_path):
    from bottleneck_probe import BottleneckError

    state = {k: v for k, v in resnet().state_dict().items() if k != "layer2.0.conv1.weight"}
    path = tmp_path / "part.pth"
    torch.save(state, path)
    weights = Weights(path, "0" * 64, "a test")
    with pytest.raises(BottleneckError, match=r"layer2\.0\.conv1\.weight"):
        network.load(backbone(weights))
    network.load(backbone(weights, Output("layer1", "avg")))


def test_a_tensor_that_no_file_holds_is_computed_as_its_network_does(tmp_path, images):
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.register_buffer("table", torch.arange(4.0).view(1, 4, 1, 1), persistent=False)
            self.plain = [torch.full((1,), 7.0)]

        def forward(self, x):
            return (self.conv(x) + self.table * self.plain[0]).mean((2, 3))

    torch.manual_seed(0)
    module = Constant().eval()
    weights = weights_of(module, tmp_path)
    made = Backbone(entry(Constant, None), weights, P, (Output(),))
    cut = network.load(made)[0]
    with torch.no_grad():
        torch.testing.assert_close(cut(images)[0], module(images))


def test_parameters_are_frozen_and_no_gradient_is_kept(tmp_path, images):
    weights = weights_of(resnet(), tmp_path)
    cut = network.load(backbone(weights, Output("layer1", "avg"), Output()))[0]
    assert not any(p.requires_grad for p in cut.parameters())
    assert all(out.grad_fn is None for out in cut(images))
    assert not any(part.training for part in cut.network.modules())


def test_random_weights_are_seeded_and_tell_images_apart(images):
    def features(seed):
        weights = Weights(None, f"random:{seed}", "random")
        with torch.no_grad():
            return network.load(backbone(weights))[0](images)[0]

    torch.testing.assert_close(features(0), features(0), rtol=0, atol=0)
    assert (features(0) - features(1)).norm() > 0.1 * features(0).norm()
    assert (features(0)[0] - features(0)[1]).norm() > 0.05 * features(0)[0].norm()


def test_random_weights_look_at_the_image_through_layer_scale(images):
    """At 1e-6, where ConvNeXt begins, two images gave the same vector to six digits."""

    def build(size):
        return Whole(torchvision.models.convnext_tiny(), "classifier.2")

    made = Backbone(
        Entry("tests", "tests", "tests", None, lambda: P, build),
        Weights(None, "random:0", "random"),
        P,
        (Output("features", "flatten"),),
    )
    with torch.no_grad():
        found = network.load(made)[0](images)[0]
    assert (found[0] - found[1]).norm() > 0.05 * found[0].norm()


@pytest.mark.filterwarnings("ignore")
def test_an_exported_network_gives_the_same_and_holds_no_classifier(tmp_path):
    import onnx
    import onnxruntime

    made = backbone(
        weights_of(resnet(), tmp_path),
        Output("layer2.0.add", "gem"),
        Output("layer3", "2x2"),
        Output(),
    )
    path = export.find_or_export(made, Reporter())
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    session = onnxruntime.InferenceSession(str(path))
    found = session.run(None, {"images": images})
    with torch.no_grad():
        x = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
        inside = create_feature_extractor(resnet(), ["layer2.0.add", "layer3", "flatten"])(x)
    expected = [
        inside["layer2.0.add"].clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3),
        functional.adaptive_avg_pool2d(inside["layer3"], 2).flatten(1),
        inside["flatten"],
    ]
    for a, b in zip(found, expected, strict=True):
        error = np.linalg.norm(a - b.numpy()) / np.linalg.norm(b.numpy() - b.numpy().mean(0))
        assert error < 1e-3
    names = [each.name for each in onnx.load(path).graph.initializer]
    assert names
    assert not any("fc." in name for name in names)
    shapes = [list(each.dims) for each in onnx.load(path).graph.initializer]
    assert [1000, 512] not in shapes


@pytest.mark.filterwarnings("ignore")
def test_an_export_that_follows_one_path_only_is_noticed():
    """Its trace sees dark pixels only; of bright ones the network makes something else."""

    class Forked(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            if torch.compiler.is_exporting():
                return self.conv(x).mean((2, 3)) * 1.01
            return self.conv(x).mean((2, 3))

    made = Backbone(entry(Forked, None), Weights(None, "random:0", "random"), P, (Output(),))
    with pytest.raises(export.ExportError, match="gives other features at penultimate:none"):
        export.find_or_export(made, Reporter())


# --- what axes mean, where shapes alone would mislead ------------------------------------------


def layout_of(make, name, size, classifier=None):
    found = network.trace_shapes(entry(make, classifier), size)
    return next(node for node in found.nodes if node.name == name)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("features.0.0", "map"),  # a convolution
        ("features.1.0.block.0", "map"),
        ("features.1.0.block.1", "map-last"),  # permuted for the layer norm
        ("features.1.0.block.2", "map-last"),
        ("features.1.0.block.5", "map-last"),  # a linear layer
        ("features.1.0.block.6", "map"),  # permuted back
        ("features.1.0", "map"),
    ],
)
def test_as_many_channels_as_places_are_told_apart_by_what_was_computed(name, layout):
    """ConvNeXt has 96 channels, and 96 x 96 places at 384 px."""
    node = layout_of(torchvision.models.convnext_tiny, name, (384, 384), "classifier.2")
    assert node.shape in ((96, 96, 96), (96, 96, 384))
    assert node.layout == layout


def test_a_convolution_gives_channels_first_also_where_the_network_is_channels_last():
    make = lambda: torchvision.models.swin_t()  # noqa: E731
    assert layout_of(make, "features.0.0", (384, 384), "head").layout == "map"
    assert layout_of(make, "features.0.1", (384, 384), "head").layout == "map-last"
    assert layout_of(make, "features.1", (384, 384), "head").layout == "map-last"


@pytest.mark.parametrize("size", [(480, 200), (544, 72), (320, 75), (200, 480), (75, 320)])
def test_maps_of_inputs_that_are_not_square(size):
    found = network.trace_shapes(entry(resnet, "fc"), size)
    by_name = {node.name: node for node in found.nodes}
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        assert by_name[name].layout == "map", (name, by_name[name].shape)


def test_patches_of_an_input_that_is_not_square(images):
    import timm

    def make():
        return timm.create_model("vit_tiny_patch16_224", img_size=(64, 256), num_classes=0)

    found = network.trace_shapes(entry(make, None), (64, 256))
    node = next(each for each in found.nodes if each.name == "blocks.3")
    assert (node.layout, node.prefix, node.grid) == ("tokens", 1, (4, 16))
    torch.manual_seed(0)
    module = make().eval()
    x = torch.rand((2, 3, 64, 256))
    cut = Cut(module, found.nodes, (Output("blocks.3", "2x2"),))
    with torch.no_grad():
        seen = {}
        module.blocks[3].register_forward_hook(lambda m, a, out: seen.update(out=out))
        module(x)
        places = seen["out"][:, 1:].reshape(2, 2, 2, 2, 8, 192).mean((2, 4))
        torch.testing.assert_close(cut(x)[0], places.permute(0, 3, 1, 2).flatten(1))


class Unfolded(nn.Module):
    """Patches without a convolution: no map is ever there."""

    def __init__(self, tokens):
        super().__init__()
        self.extra = nn.Parameter(torch.zeros(1, tokens, 24))
        self.embed = nn.Linear(3 * 16 * 16, 24)
        self.norm = nn.LayerNorm(24)

    def forward(self, x):
        patches = functional.unfold(x, 16, stride=16).transpose(1, 2)
        tokens = torch.cat([self.extra.expand(len(x), -1, -1), self.embed(patches)], 1)
        return self.norm(tokens)[:, 0]


@pytest.mark.parametrize("extra", [0, 1, 5])
@pytest.mark.parametrize("size", [(224, 448), (96, 160), (224, 224)])
def test_class_tokens_are_counted_from_the_input_where_no_map_tells(extra, size):
    node = layout_of(lambda: Unfolded(extra), "norm", size)
    assert (node.prefix, node.grid) == (extra, (size[0] // 16, size[1] // 16))


def test_shared_tensors_keep_their_values_under_each_name(tmp_path, images):
    """One of two names of a weight was filled with zeros, as if it lay behind the cut."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
            self.b.weight = self.a.weight

        def forward(self, x):
            return torch.cat([self.a(x).amax((2, 3)), self.b(x).amax((2, 3))], 1)

    torch.manual_seed(2)
    module = Tied().eval()
    made = Backbone(entry(Tied, None), weights_of(module, tmp_path), P, (Output(),))
    with torch.no_grad():
        torch.testing.assert_close(network.load(made)[0](images)[0], module(images))


def test_one_place_may_be_pooled_in_several_ways(images):
    cut, outputs = cut_at(
        resnet(), "penultimate", "penultimate:flatten", "layer4:avg", "layer4:max"
    )
    assert len(outputs) == 4
    with torch.no_grad():
        first, second, *_ = cut(images)
    torch.testing.assert_close(first, second)


def test_a_network_whose_features_depend_on_their_neighbours_is_refused(tmp_path):
    from bottleneck_probe import BottleneckError
    from bottleneck_probe.engines import network as engine_network

    class Selfish(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4, track_running_stats=False)

        def forward(self, x):
            return self.norm(self.conv(x)).relu().mean((2, 3))

    weights = weights_of(Selfish(), tmp_path)
    made = Backbone(entry(Selfish, None), weights, P, (Output(),))
    with pytest.raises(BottleneckError, match="depends on the other images of its batch"):
        engine_network.load(made, Reporter())
    # Before the batch norm it is sound.
    engine_network.load(made.with_outputs((Output("conv", "avg"),)), Reporter())


def test_weights_of_a_deeper_network_are_refused(tmp_path):
    """All that ResNet-18 needs stands in ResNet-34's file, in the right shapes."""
    from bottleneck_probe import BottleneckError

    torch.manual_seed(0)
    weights = weights_of(torchvision.models.resnet34(), tmp_path)
    with pytest.raises(BottleneckError, match=r"96 tensors of blocks .* layer1\.2\.conv1\.weight"):
        network.load(backbone(weights))
    # What is deeper behind the cut does not matter.
    network.load(backbone(weights, Output("conv1", "avg")))


def test_an_auxiliary_head_in_the_file_is_only_counted(tmp_path):
    torch.manual_seed(0)
    weights = weights_of(resnet(), tmp_path, **{"AuxLogits.conv0.conv.weight": torch.ones(3)})
    *_, unused = network.load(backbone(weights))
    assert unused == 3


def test_nothing_is_kept_from_one_batch_to_the_next(images):
    import gc

    cut, _ = cut_at(resnet(), "layer1.0.add", "layer3:2x2", "penultimate")

    def alive():
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

    with torch.no_grad():
        cut(images)
        before = alive()
        for _ in range(5):
            cut(images)
    assert alive() == before
