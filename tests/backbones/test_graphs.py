"""Networks in ONNX files: cut where asked, and the same numbers as the network they came from.

The references are PyTorch's own forward passes with hooks, Keras' own predictions, and plain NumPy.
"""

import json
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bottleneck_probe.backbones.base import Output
from bottleneck_probe.backbones.cut import pool
from bottleneck_probe.backbones.graphs import converting
from bottleneck_probe.backbones.graphs.graph import compose, nodes
from bottleneck_probe.backbones.graphs.pooling import Stage, add_pooling
from bottleneck_probe.backbones.graphs.reading import read
from bottleneck_probe.backbones.layers import Node, select, sizes
from bottleneck_probe.errors import InputError
from bottleneck_probe.images.preprocess import Preprocessing
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1]))
from networks import calibrate_, error, he_, picture, spread

DATA = Path(__file__).parent / "data"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RAW = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}


def preprocessing(size: int, **changes) -> Preprocessing:
    given = {"mean": MEAN, "std": STD, **changes}
    return Preprocessing(size, (size, size), "bilinear", **given)


def pictures(count: int, size: int) -> np.ndarray:
    """(n, h, w, 3) uint8."""
    return np.stack([np.asarray(picture(seed, (size, size))) for seed in range(count)])


def normalised(images: np.ndarray) -> torch.Tensor:
    """torchvision's ToTensor and Normalize, written out."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def run(content: bytes, images: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["images"]
    names = [each.name for each in session.get_outputs()]
    assert names == [f"features_{i}" for i in range(len(names))]
    return session.run(names, {"images": images})


def features(path: Path, layers: list[str], images: np.ndarray, **changes) -> list[np.ndarray]:
    """What comes out of the cut file for some layers, after the sizes were compared."""
    p = preprocessing(images.shape[1], **changes)
    found = nodes(path, p.crop)
    outputs = select(found, layers)
    result = run(compose(path, p, found, outputs), images)
    assert [each.shape for each in result] == [(len(images), d) for d in sizes(found, outputs)]
    return result


def message(path: Path, size: int = 8, layer: str = "penultimate", **changes) -> str:
    """The error of cutting a file, as it is printed."""
    with pytest.raises(InputError) as caught:
        features(path, [layer], pictures(2, size), **changes)
    return str(caught.value)


# Networks that PyTorch exported ------------------------------------------------------------------


class Watched(torch.nn.Module):
    """A network that also returns what two of its modules return, under known names."""

    def __init__(self, network: torch.nn.Module, inner: list[str]) -> None:
        super().__init__()
        self.network, self.inner = network, inner
        self.seen: dict[str, torch.Tensor] = {}
        for name in inner:
            network.get_submodule(name).register_forward_hook(self._keep(name))

    def _keep(self, name: str):
        def hook(module: torch.nn.Module, args: object, result: torch.Tensor) -> None:
            self.seen[name] = result

        return hook

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.network(x)
        return (logits, *(self.seen[name] for name in self.inner))


def resnet18() -> tuple[torch.nn.Module, str, list[str]]:
    import torchvision

    return torchvision.models.resnet18(weights=None), "fc", ["layer2", "layer3"]


def mobilenet_v3_small() -> tuple[torch.nn.Module, str, list[str]]:
    import torchvision

    network = torchvision.models.mobilenet_v3_small(weights=None)
    return network, "classifier.3", ["features.3", "features.9"]


def vit_tiny() -> tuple[torch.nn.Module, str, list[str]]:
    from timm.models import VisionTransformer

    network = VisionTransformer(
        img_size=64, patch_size=16, embed_dim=48, depth=3, num_heads=2, num_classes=10
    )
    return network, "head", ["blocks.0", "blocks.1"]


EXPORTED = {"resnet18": resnet18, "mobilenet_v3_small": mobilenet_v3_small, "vit_tiny": vit_tiny}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory):
    """A file, the reference's features and logits, and the classifier, of a network by name."""
    made = {}

    def make(name: str, batch: str):
        if (name, batch) in made:
            return made[name, batch]
        network, classifier, inner = EXPORTED[name]()
        images = pictures(3, 64)
        calibrate_(he_(network, seed=3), normalised(pictures(6, 64)))
        for block in network.modules():  # dropout that is left on would be seen at once
            assert not block.training
        path = tmp_path_factory.mktemp("exported") / f"{name}-{batch}.onnx"
        example = normalised(images if batch == "free" else images[:1]).contiguous()
        shapes = ({0: torch.export.Dim("batch", min=1)},) if batch == "free" else None
        names = ["logits", *(f"inner_{i}" for i in range(len(inner)))]
        watched = Watched(network, inner).eval().requires_grad_(False)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                watched, (example,), path, dynamo=True, verbose=False, opset_version=18,
                external_data=False, dynamic_shapes=shapes, output_names=names,
            )  # fmt: skip
        seen = {}
        module = network.get_submodule(classifier)
        module.register_forward_pre_hook(lambda m, args: seen.update(penultimate=args[0]))
        with torch.inference_mode():
            logits, *values = watched(normalised(images))
        made[name, batch] = path, module, [seen["penultimate"], *values], logits
        return made[name, batch]

    return make


@pytest.mark.parametrize("batch", ["free", "one"])
@pytest.mark.parametrize("name", EXPORTED)
def test_features_are_those_of_the_network_that_was_exported(name, batch, exported):
    """Also where it was exported for one image a call."""
    path, classifier, wanted, logits = exported(name, batch)
    got = features(path, ["penultimate", "inner_0", "inner_1"], pictures(3, 64))
    for a, b in zip(got, wanted, strict=True):
        b = b[:, 0] if name == "vit_tiny" and b.ndim == 3 else b
        b = b.mean((2, 3)) if b.ndim == 4 else b
        assert spread(b) > 0.05
        assert error(a, b) < 1e-4
    with torch.inference_mode():
        assert error(classifier(torch.from_numpy(got[0])), logits) < 1e-4


@pytest.mark.parametrize("name", EXPORTED)
def test_what_lies_behind_the_cut_is_not_in_the_file(name, exported):
    path, classifier, _, _ = exported(name, "free")
    found = nodes(path, (64, 64))
    cut = compose(path, preprocessing(64), found, select(found, ["penultimate"]))
    shapes = {tuple(sorted(t.dims)) for t in onnx.load_model_from_string(cut).graph.initializer}
    shape = tuple(sorted(classifier.weight.shape))
    before = {tuple(sorted(t.dims)) for t in onnx.load(path).graph.initializer}
    assert shape in before
    assert shape not in shapes
    assert len(cut) < path.stat().st_size - 0.9 * classifier.weight.nbytes
    onnx.checker.check_model(cut, full_check=True)


def test_layouts_of_a_vision_transformer_are_told(exported):
    """16 patches and a class token; heads of attention are no places."""
    path, _, wanted, _ = exported("vit_tiny", "free")
    by_name = {node.name: node for node in nodes(path, (64, 64))}
    assert (by_name["inner_0"].layout, by_name["inner_0"].prefix) == ("tokens", 1)
    assert not any(n.layout.startswith("map") and n.shape[0] == 2 for n in by_name.values())
    got = features(path, ["inner_0:patches", "inner_0:2x2", "inner_0:max"], pictures(3, 64))
    patches = wanted[1][:, 1:]
    grid = patches.transpose(1, 2).unflatten(2, (4, 4))
    plain = [patches.mean(1), torch.nn.functional.adaptive_avg_pool2d(grid, 2), patches.amax(1)]
    for a, b in zip(got, plain, strict=True):
        assert error(a, b.flatten(1)) < 1e-4


# A network that Keras and tf2onnx wrote -------------------------------------------------------------


def test_a_file_of_tf2onnx_gives_the_features_of_keras():
    """Channels last, padding on one side, a batch of unknown length; see data/make_tiny_keras.py."""
    wanted = np.load(DATA / "tiny_keras.npz")
    names = ["penultimate", "**residual_1/Add:0", "**stem_relu_1/Relu6:0", "output_0"]
    half = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
    got = features(DATA / "tiny_keras.onnx", names, wanted["images"], **half)
    for a, name in zip(got, ("pool", "residual", "stem_relu", "classifier"), strict=True):
        b = wanted[name]
        b = b.mean((1, 2)) if b.ndim == 4 else b
        assert spread(b) > 0.05
        assert error(a, b) < 1e-4


# Small graphs ---------------------------------------------------------------------------------------


def save(
    path: Path,
    graph_nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    *,
    shape: list = ("batch", 3, 8, 8),
    outputs: tuple[str, ...] = ("y",),
    name: str = "x",
    elem_type: int = TensorProto.FLOAT,
    opset: int = 17,
    ir_version: int = 8,
    metadata: dict[str, str] | None = None,
    more_inputs: tuple = (),
) -> Path:
    graph = helper.make_graph(
        graph_nodes,
        "g",
        [helper.make_tensor_value_info(name, elem_type, list(shape)), *more_inputs],
        [helper.make_empty_tensor_value_info(output) for output in outputs],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version
    )
    helper.set_model_props(model, metadata or {})
    for value in model.graph.output:  # the checker wants a type
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    onnx.save(model, path)
    return path


def weight(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def op(kind: str, inputs: str, outputs: str, **attributes) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), outputs.split(), name=outputs, **attributes)


def head(source: str, result: str = "y", softmax: bool = True) -> list[onnx.NodeProto]:
    """Pooling and a classifier as exporters write them."""
    return [
        op("GlobalAveragePool", source, "pooled", ),
        op("Flatten", "pooled", "flat", axis=1),
        op("MatMul", "flat w_head", "scores"),
        op("Add", "scores b_head", "biased" if softmax else result),
        *([op("Softmax", "biased", result)] if softmax else []),
    ]  # fmt: skip


CONV = op("Conv", "x w", "conv", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
W = {"w": weight(4, 3, 3, 3), "w_head": weight(4, 6, seed=1), "b_head": weight(6, seed=2)}


def convolved(images: np.ndarray, **scale) -> np.ndarray:
    """The small graphs' first layer by PyTorch: (n, 4, h, w)."""
    x = normalised(images) if not scale else torch.from_numpy(images).permute(0, 3, 1, 2).float()
    return torch.nn.functional.conv2d(x, torch.from_numpy(W["w"]), padding=1).numpy()


def penultimate_of(path: Path, size: int = 8) -> Node:
    return next(node for node in nodes(path, (size, size)) if node.name == "penultimate")


def test_the_classifier_is_found_behind_bias_and_softmax(tmp_path):
    path = save(tmp_path / "m.onnx", [CONV, op("Relu", "conv", "relu"), *head("relu")], W)
    node = penultimate_of(path)
    assert (node.module, node.shape, node.kind) == ("flat", (4,), "input of scores")
    order = [each.name for each in nodes(path, (8, 8))]
    assert order.index("flat") < order.index("penultimate") < order.index("scores")


POOLED = [op("GlobalAveragePool", "conv", "mean"), op("Flatten", "mean", "flat")]
HEADLESS = {
    # Its last convolution is 1x1 like a classifier of SqueezeNet's, but no probabilities follow.
    "pooled": [op("Conv", "conv v", "wide"), op("Relu", "wide", "act"),
               op("GlobalAveragePool", "act", "p"), op("Flatten", "p", "y")],
    "map": [op("Conv", "conv v", "y", kernel_shape=[1, 1])],
    "activation": [*POOLED, op("MatMul", "flat w_head", "fc"), op("Relu", "fc", "y")],
    "norm": [*POOLED, op("MatMul", "flat w_head", "fc"), op("ReduceL2", "fc", "length", axes=[1]),
             op("Div", "fc length", "y")],
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADLESS)
def test_a_graph_without_classifier_keeps_its_last_layers(tmp_path, kind):
    path = save(tmp_path / "m.onnx", [CONV, *HEADLESS[kind]], {**W, "v": weight(9, 4, 1, 1)})
    assert (penultimate_of(path).module, penultimate_of(path).kind) == ("y", "output")


@pytest.mark.parametrize("kernel", [{"kernel_shape": [1, 1]}, {}])
def test_a_classifier_of_one_place_may_be_a_convolution(tmp_path, kernel):
    """As in Keras' MobileNetV3; the size of the kernel need not be said."""
    body = [op("GlobalAveragePool", "conv", "mean"), op("Conv", "mean v", "wide", **kernel)]
    path = save(
        tmp_path / "m.onnx",
        [CONV, *body, op("Flatten", "wide", "y")],
        {**W, "v": weight(9, 4, 1, 1)},
    )
    assert (penultimate_of(path).module, penultimate_of(path).shape) == ("mean", (4, 1, 1))


def test_a_classifier_of_1x1_convolutions_is_found(tmp_path):
    body = [CONV, op("Conv", "conv v", "wide", kernel_shape=[1, 1]), op("Relu", "wide", "act")]
    rest = [
        op("GlobalAveragePool", "act", "mean"),
        op("Flatten", "mean", "f"),
        op("Softmax", "f", "y"),
    ]
    path = save(tmp_path / "m.onnx", body + rest, {**W, "v": weight(9, 4, 1, 1)})
    assert (penultimate_of(path).module, penultimate_of(path).layout) == ("conv", "map")
    got = features(path, ["penultimate"], pictures(3, 8))[0]
    assert error(got, convolved(pictures(3, 8)).mean((2, 3))) < 1e-4


@pytest.mark.parametrize(
    "before", [(3, "Conv"), (4, "Conv"), (13, "Softmax"), (13, "Conv"), (18, "Conv"), (21, "Conv")]
)
def test_files_of_many_versions_can_be_pooled(tmp_path, before):
    """The axes of a reduction became an input with opset 18; IR 3 lists weights as inputs."""
    opset, _ = before
    ir_version = 3 if opset < 9 else 8
    more = ()
    if ir_version == 3:
        more = [helper.make_tensor_value_info(k, TensorProto.FLOAT, v.shape) for k, v in W.items()]
    if opset < 7:  # Add needed to be told to broadcast
        body = [CONV, op("Relu", "conv", "y")]
    else:
        body = [CONV, op("Relu", "conv", "relu"), *head("relu")]
    path = save(tmp_path / "m.onnx", body, W, opset=opset, ir_version=ir_version, more_inputs=more)
    layers = ["conv:avg", "conv:max", "conv:gem", "conv:3x3", "conv:flatten"]
    got = features(path, layers, pictures(3, 8))
    node = Node("conv", "Conv", (4, 8, 8), "map")
    reference = torch.from_numpy(convolved(pictures(3, 8)))
    for layer, a in zip(layers, got, strict=True):
        wanted = pool(reference, node, layer.partition(":")[2])
        assert error(a, wanted) < 1e-4


def old(path: Path) -> Path:
    """A file that has to be converted."""
    return save(path, [CONV, op("Relu", "conv", "y")], W, opset=6)


def test_what_the_converter_refuses_is_told(tmp_path):
    """Upsample without an input has crashed it (CVE-2026-44512)."""
    nodes_ = [CONV, op("Upsample", "", "y", width_scale=2.0, height_scale=2.0)]
    path = save(tmp_path / "m.onnx", nodes_, W, opset=6)
    with pytest.raises(InputError, match=r"of version 6\n  expected: 8 or later; .* failed: \w+"):
        read(path)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        ("import os; os.abort()", "ONNX's converter crashed (exit code -6)"),
        ("import time; time.sleep(60)", "ONNX's converter did not answer within 1 s"),
        ("print('no model', end='')", "Error parsing message"),
    ],
)
@pytest.mark.skipif(os.name == "nt", reason="the program is a script of /bin/sh")
def test_a_converter_that_crashes_or_hangs_takes_nothing_with_it(
    tmp_path, monkeypatch, ending, said
):
    path, program = old(tmp_path / "m.onnx"), tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{ending}"\n')
    program.chmod(0o755)
    monkeypatch.setattr(converting, "_LIMIT_S", 1.0 if "sleep" in ending else 60.0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(program))
        with pytest.raises(InputError) as caught:
            read(path)
    assert said in str(caught.value)
    read(path)


def test_without_a_process_to_convert_in_it_is_told(tmp_path, monkeypatch):
    path = old(tmp_path / "m.onnx")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(InputError, match="no process could be started for it"):
        read(path)


@settings(deadline=None, max_examples=25)
@given(
    layout=st.sampled_from(["map", "map-last", "tokens"]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.integers(1, 5),
    prefix=st.integers(0, 2),
    data=st.data(),
)
def test_pooling_is_that_of_pytorch(layout, height, width, channels, prefix, data):
    if layout == "tokens":
        shape = (prefix + height * width, channels)
    else:
        prefix = 0
        shape = (channels, height, width) if layout == "map" else (height, width, channels)
    rows = data.draw(st.integers(1, height))
    columns = data.draw(st.integers(1, width))
    choices = ["max", "gem", "flatten", f"{rows}x{columns}"]
    choices += ["patches"] + ["cls"] * (prefix > 0) if layout == "tokens" else ["avg"]
    output = Output("a", data.draw(st.sampled_from(choices)))
    grid = (height, width) if layout == "tokens" else (0, 0)
    node = Node("a", "Any", shape, layout, prefix, grid=grid)
    value = np.random.default_rng(len(shape) + height).normal(1, 2, (3, *shape)).astype(np.float32)
    stage = Stage("s", data.draw(st.sampled_from([13, 18])))
    add_pooling(stage, "value", node, output, "out")
    graph = helper.make_graph(
        stage.nodes,
        "g",
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", *shape])],
        [helper.make_empty_tensor_value_info("out")],
        stage.constants,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", stage.opset)], ir_version=8
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    got = session.run(None, {"value": value})[0]
    tensor = torch.from_numpy(value)
    np.testing.assert_allclose(got, pool(tensor, node, output.pooling), rtol=1e-4, atol=1e-5)
    if output.pooling.endswith(f"x{columns}"):
        places = tensor if layout == "map" else tensor.movedim(-1, 1)
        if layout == "tokens":
            places = places[..., prefix:].unflatten(2, (height, width))
        torch_own = torch.nn.functional.adaptive_avg_pool2d(places, (rows, columns)).flatten(1)
        np.testing.assert_allclose(got, torch_own, rtol=1e-4, atol=1e-5)


# What goes in ---------------------------------------------------------------------------------------


def test_channels_last_and_a_transpose_as_tf2onnx_writes_them(tmp_path):
    """The name of the batch is theirs, the names of tensors end in :0, and 6 is no colour."""
    body = [
        op("Transpose", "serving_default:0", "t__1:0", perm=[0, 3, 1, 2]),
        op("Conv", "t__1:0 w", "Conv__2:0", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        op("Transpose", "Conv__2:0", "back:0", perm=[0, 2, 3, 1]),
        op("Relu", "back:0", "relu:0"),
        op("ReduceMean", "relu:0", "Identity:0", axes=[1, 2], keepdims=0),
    ]
    path = save(
        tmp_path / "m.onnx", body, W, shape=["unk__6", 6, 9, 3], name="serving_default:0",
        outputs=("Identity:0",), opset=13,
    )  # fmt: skip
    p = Preprocessing(9, (6, 9), "bilinear", MEAN, STD)
    found = nodes(path, (6, 9))
    by_name = {node.name: (node.shape, node.layout) for node in found}
    assert by_name["Conv__2:0"] == ((4, 6, 9), "map")
    assert by_name["relu:0"] == ((6, 9, 4), "map-last")
    images = np.ascontiguousarray(pictures(3, 9)[:, :6])
    content = compose(path, p, found, select(found, ["penultimate", "relu:0:2x3"]))
    got = run(content, images)
    reference = torch.from_numpy(convolved(images)).relu()
    assert error(got[0], reference.mean((2, 3))) < 1e-4
    assert error(got[1], torch.nn.functional.adaptive_avg_pool2d(reference, (2, 3))) < 1e-4


def test_a_map_with_as_many_channels_as_places_is_read_by_its_operator(tmp_path):
    """Eight channels of 8x8 in a file that takes channels last: shapes alone would mislead."""
    body = [
        op("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        op("Conv", "t w", "first", pads=[1, 1, 1, 1]),
        op("Reshape", "first same", "reshaped"),  # nothing is known of its axes any more
        op("Conv", "reshaped w2", "conv", pads=[1, 1, 1, 1]),
        op("Sigmoid", "conv", "gate"),
        op("Transpose", "gate", "y", perm=[0, 2, 3, 1]),
    ]
    weights = {"w": weight(8, 3, 3, 3), "w2": weight(8, 8, 3, 3), "same": np.array([0, 8, 8, 8])}
    path = save(tmp_path / "m.onnx", body, weights, shape=["n", 8, 8, 3])
    layouts = {node.name: node.layout for node in nodes(path, (8, 8))}
    assert (layouts["conv"], layouts["gate"], layouts["y"]) == ("map", "map", "map-last")


@pytest.mark.parametrize(
    ("shape", "first", "expected"),
    [
        (["n", 3, None, None], "Conv", False),
        (["n", None, None, 3], "Conv", True),
        (["n", None, None, None], "Conv", False),
        (["n", None, None, None], "Transpose", True),
        (["n", 3, 3, 3], "Transpose", True),
    ],
)
def test_layout_of_the_input_is_told(tmp_path, shape, first, expected):
    from bottleneck_probe.backbones.graphs.input import find_input

    turned = [op("Transpose", "x", "t", perm=[0, 3, 1, 2]), op("Conv", "t w", "y")]
    body = turned if first == "Transpose" else [op("Conv", "x w", "y")]
    path = save(tmp_path / "m.onnx", body, W, shape=shape)
    assert find_input(onnx.load(path).graph).channels_last is expected


def test_layout_that_cannot_be_told_is_asked_for(tmp_path):
    body = [op("Flatten", "x", "flat"), op("MatMul", "flat w", "y")]
    given = {"shape": ["n", 3, 3, 3], "outputs": ("y",)}
    path = save(tmp_path / "m.onnx", body, {"w": weight(27, 4)}, **given)
    assert '"layout"' in message(path, size=3)
    told = {"metadata": {"bottleneck.preprocessing": json.dumps({"layout": "nhwc"})}}
    path = save(tmp_path / "n.onnx", body, {"w": weight(27, 4)}, **given, **told)
    images = pictures(3, 3)
    flat = normalised(images).permute(0, 2, 3, 1).flatten(1)
    assert error(features(path, ["penultimate"], images)[0], flat) < 1e-4


def test_grey_images_are_refused(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        [op("Conv", "x w", "y")],
        {"w": weight(4, 1, 3, 3)},
        shape=["n", 1, 8, 8],
    )
    assert "colour" in message(path)


@pytest.mark.parametrize("key", ["bottleneck.preprocessing", "Image.BitmapPixelFormat"])
def test_blue_green_red_is_turned_after_the_mean(tmp_path, key):
    """Mean and std are those of red, green and blue, whatever order the network was trained on."""
    value = json.dumps({"channels": "bgr"}) if key.startswith("b") else "Bgr8"
    path = save(tmp_path / "m.onnx", [CONV, op("Relu", "conv", "y")], W, metadata={key: value})
    images = pictures(3, 8)
    turned = normalised(images).flip(1)
    wanted = torch.nn.functional.conv2d(turned, torch.from_numpy(W["w"]), padding=1)
    assert error(features(path, ["conv"], images)[0], wanted.mean((2, 3))) < 1e-4


def test_pixels_of_0_to_255_come_through_unrounded(tmp_path):
    path = save(tmp_path / "m.onnx", [op("Identity", "x", "y")], {})
    images = pictures(3, 8)
    got = features(path, ["y:flatten"], images, **RAW)[0]
    np.testing.assert_array_equal(got, images.transpose(0, 3, 1, 2).reshape(3, -1))


def test_a_graph_that_takes_bytes_gets_them(tmp_path):
    body = [
        op("Cast", "x", "float", to=TensorProto.FLOAT),
        op("Conv", "float w", "y", pads=[1] * 4),
    ]
    path = save(tmp_path / "m.onnx", body, W, elem_type=TensorProto.UINT8)
    got = features(path, ["y:flatten"], pictures(3, 8), **RAW)[0]
    assert error(got, convolved(pictures(3, 8), raw=True).reshape(3, -1)) < 1e-4
    assert "0 to 255" in message(path)


def test_float16_keeps_its_features_and_sums_in_float32(tmp_path):
    body = [CONV, op("Relu", "conv", "y")]
    half = {"w": W["w"].astype(np.float16)}
    path = save(tmp_path / "m.onnx", body, half, elem_type=TensorProto.FLOAT16)
    got = features(path, ["y:avg", "y:gem"], pictures(3, 8))
    assert got[0].dtype == np.float32
    reference = torch.from_numpy(convolved(pictures(3, 8))).relu()
    assert error(got[0], reference.mean((2, 3))) < 1e-2


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("value", [NAN, INF])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value, constant, dtype):
    """Behind a ReLU a processor may show them as zeros."""
    w = W["w"].astype(dtype)
    w[1, 2, 0, 0] = value
    before = [op("Constant", "", "w", value=numpy_helper.from_array(w))] if constant else []
    path = save(
        tmp_path / "m.onnx",
        [*before, CONV, op("Relu", "conv", "y")],
        {} if constant else {"w": w},
        elem_type=TensorProto.FLOAT if dtype == np.float32 else TensorProto.FLOAT16,
    )
    assert "m.onnx holds NaN or infinity in w" in message(path, layer="y:avg")


def test_what_a_branch_holds_is_looked_at(tmp_path):
    bad = helper.make_graph(
        [op("Constant", "", "inner", value=numpy_helper.from_array(np.float32([NAN]))),
         op("Add", "conv inner", "then")],
        "then", [], [helper.make_empty_tensor_value_info("then")],
    )  # fmt: skip
    good = helper.make_graph(
        [op("Identity", "conv", "else")], "else", [], [helper.make_empty_tensor_value_info("else")]
    )
    branch = op("If", "yes", "y", then_branch=bad, else_branch=good)
    path = save(tmp_path / "m.onnx", [CONV, branch], {**W, "yes": np.array(False)})
    assert "holds NaN or infinity in inner" in message(path, layer="y:avg")


def test_infinity_that_is_no_weight_and_what_lies_behind_the_cut_do_no_harm(tmp_path):
    bounds = {"low": np.float32(0), "high": np.float32(INF)}
    body = [CONV, op("Clip", "conv low high", "relu"), *head("relu")]
    w = {**W, **bounds, "w_head": np.full((4, 6), NAN, np.float32)}
    (got,) = features(save(tmp_path / "m.onnx", body, w), ["relu:avg"], pictures(3, 8))
    reference = torch.from_numpy(convolved(pictures(3, 8))).relu().mean((2, 3))
    assert error(got, reference) < 1e-4


def test_names_of_the_graph_may_be_ours(tmp_path):
    """Many files call their input `images`; one could call a tensor what we call an output."""
    body = [
        op("Conv", "images w", "features_0", pads=[1] * 4),
        op("Relu", "features_0", "bottleneck/input/Cast_0"),
        op("Sigmoid", "bottleneck/input/Cast_0", "penultimate"),
    ]
    path = save(tmp_path / "m.onnx", body, W, name="images", outputs=("penultimate",))
    got = features(path, ["features_0", "penultimate_"], pictures(3, 8))
    reference = torch.from_numpy(convolved(pictures(3, 8)))
    assert error(got[0], reference.mean((2, 3))) < 1e-4
    assert error(got[1], reference.relu().sigmoid().mean((2, 3))) < 1e-4


def test_what_needs_another_input_is_no_layer(tmp_path):
    more = [helper.make_tensor_value_info("text", TensorProto.FLOAT, ["n", 4])]
    body = [
        CONV,
        op("GlobalAveragePool", "conv", "p"),
        op("Flatten", "p", "f"),
        op("Mul", "f text", "y"),
    ]
    path = save(tmp_path / "m.onnx", body, W, more_inputs=more, outputs=("y", "f"))
    assert [node.name for node in nodes(path, (8, 8))] == ["conv", "p", "f", "penultimate"]
    path = save(tmp_path / "n.onnx", body, W, more_inputs=more)
    assert "text" in message(path)


def test_branches_take_values_from_outside(tmp_path):
    """What an If uses is not among its inputs; forgetting it would cut the graph apart."""
    out = helper.make_empty_tensor_value_info("inner")
    out.type.tensor_type.elem_type = TensorProto.FLOAT
    branch = helper.make_graph([op("Relu", "conv", "inner")], "then", [], [out])
    body = [CONV, helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)]
    path = save(tmp_path / "m.onnx", body, {**W, "yes": np.array(True)}, name="x")
    got = features(path, ["y:avg"], pictures(3, 8))[0]
    assert error(got, np.maximum(convolved(pictures(3, 8)), 0).mean((2, 3))) < 1e-4


# Batches --------------------------------------------------------------------------------------------


def reshaped(shape: list[int]) -> list[onnx.NodeProto]:
    constant = numpy_helper.from_array(np.array(shape), "c")
    return [CONV, op("Constant", "", "shape", value=constant), op("Reshape", "conv shape", "y")]


@pytest.mark.parametrize(
    ("batch", "shape"), [(1, [1, -1]), (1, [1, 256]), (1, [4, 64]), (2, [2, 256])]
)
def test_a_fixed_batch_is_freed(tmp_path, batch, shape):
    body = reshaped(shape)
    if shape[0] == 4:  # windows, and back
        body[-1] = op("Reshape", "conv shape", "windows")
        body += [op("Reshape", "windows back", "y")]
    weights = {**W, "back": np.array([1, 256])}
    path = save(tmp_path / "m.onnx", body, weights, shape=[batch, 3, 8, 8])
    got = features(path, ["y"], pictures(5, 8))[0]
    assert error(got, convolved(pictures(5, 8)).reshape(5, -1)) < 1e-4


@pytest.mark.parametrize("shape", [["n", 3, 8, 8], [1, 3, 8, 8], [3, 3, 8, 8]])
def test_a_graph_that_mixes_images_is_refused(tmp_path, shape):
    """Batch norm left in training mode, say: an image's features would hang on its neighbours."""
    mean = op("ReduceMean", "conv", "mean", axes=[0], keepdims=1)
    path = save(tmp_path / "m.onnx", [CONV, mean, op("Sub", "conv mean", "y")], W, shape=shape)
    text = message(path, layer="y")
    assert "batch" in text
    assert "torch.onnx.export" in text


def test_a_batch_that_cannot_be_freed_is_refused(tmp_path):
    """Rows and channels change places before the reshape: no constant in it is the batch alone."""
    turn = op("Transpose", "conv", "t", perm=[1, 0, 2, 3])
    body = [CONV, turn, op("Reshape", "t shape", "u"), op("Reshape", "u shape2", "y")]
    weights = {**W, "shape": np.array([2, -1]), "shape2": np.array([1, 256])}
    path = save(tmp_path / "m.onnx", body, weights, shape=[1, 3, 8, 8])
    assert "dynamic batch" in message(path, layer="y")


# Files that cannot be used --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git-lfs"),
        (b"PK\x03\x04" + bytes(60), "zip"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
        (bytes(range(256)), "no usable ONNX"),
    ],
)
def test_what_is_no_onnx_file_is_said(tmp_path, content, said):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    assert said in message(path)


def test_a_file_that_was_cut_off_is_refused(tmp_path):
    whole = (DATA / "tiny_keras.onnx").read_bytes()
    path = tmp_path / "m.onnx"
    for share in (0.3, 0.6, 0.9, 0.99):
        path.write_bytes(whole[: int(share * len(whole))])
        assert "no usable ONNX file" in message(path, size=32)


def test_operators_of_others_are_refused(tmp_path):
    """Running them would take a library of somebody's."""
    node = helper.make_node("Evil", ["conv"], ["y"], domain="com.example")
    path = save(tmp_path / "m.onnx", [CONV, node], W)
    text = message(path)
    assert "com.example:Evil" in text
    assert "never loaded" in text


def test_operators_that_do_not_exist_are_named(tmp_path):
    """tf2onnx writes what it could not translate into the file, and says so only in its log."""
    body = [CONV, op("Erfc", "conv", "z"), op("StatefulPartitionedCall", "z", "y")]
    path = save(tmp_path / "m.onnx", body, W)
    assert "Erfc, StatefulPartitionedCall" in message(path)


def external(path: Path, location: str, **keys: str) -> Path:
    """A file whose first weight is said to lie elsewhere."""
    save(path, [CONV, op("Relu", "conv", "y")], W)
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    content = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **keys}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    (path.parent / "w.bin").write_bytes(b"pad!" + content)
    return path


def test_external_data_beside_the_file_is_read(tmp_path):
    path = external(tmp_path / "m.onnx", "w.bin", offset="4", length=str(W["w"].nbytes))
    got = features(path, ["conv"], pictures(3, 8))[0]
    assert error(got, convolved(pictures(3, 8)).mean((2, 3))) < 1e-4


@pytest.mark.parametrize(
    "kind", ["..", "absolute", "windows", "link", "folder link", "link inside"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path, kind):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(W["w"].nbytes))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "link.bin").symlink_to(secret)
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside.bin").symlink_to("w.bin")
    locations = {
        "..": "../secret.bin",
        "absolute": str(secret),
        "windows": "C:\\secret.bin",
        "link": "link.bin",
        "folder link": "up/secret.bin",
        "link inside": "inside.bin",
    }
    path = external(folder / "m.onnx", locations[kind])
    assert "outside its folder" in message(path)


def test_external_data_with_another_name_on_the_disk_is_refused(tmp_path):
    """A hard link has no target that could be looked at: it is the secret file."""
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(W["w"].nbytes))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "data.bin").hardlink_to(secret)
    assert "hard links" in message(external(folder / "m.onnx", "data.bin"))
    secret.unlink()  # now it is a file of its own
    features(external(folder / "m.onnx", "data.bin"), ["conv"], pictures(1, 8))


def test_a_pipe_in_the_place_of_a_model_or_its_data_does_not_block(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names there")
    os.mkfifo(tmp_path / "pipe.onnx")
    assert "is a pipe" in message(tmp_path / "pipe.onnx")
    os.mkfifo(tmp_path / "data.bin")
    assert "missing" in message(external(tmp_path / "m.onnx", "data.bin"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"location": "gone.bin"}, "missing"),
        ({"location": ""}, "elsewhere, not where"),
        ({"location": "w.bin", "length": "12"}, "12 bytes"),
        ({"location": "w.bin", "offset": "400"}, "cut off"),
        ({"location": "w.bin", "offset": "-4"}, "at -4"),
    ],
)
def test_external_data_of_the_wrong_length_is_refused(tmp_path, keys, said):
    assert said in message(external(tmp_path / "m.onnx", **keys))


def test_another_size_than_the_files_own_is_refused(tmp_path):
    path = save(tmp_path / "m.onnx", [CONV, op("Relu", "conv", "y")], W)
    assert "the only size" in message(path, size=16)
