"""Names, patterns and poolings of layers, as plain data."""

import json
import subprocess
import sys

import pytest
from bottleneck_probe import BottleneckError
from bottleneck_probe.backbones import layers
from bottleneck_probe.backbones.base import Output
from bottleneck_probe.backbones.layers import Node, default_pooling, parse, pooled_size, select
from hypothesis import given, settings
from hypothesis import strategies as st

NODES = [
    Node("conv1", "Conv2d", (64, 112, 112), "map"),
    Node("layer4.0.add", "add", (512, 7, 7), "map", module="layer4.0", function="add"),
    Node("layer4.0", "Block", (512, 7, 7), "map"),
    Node("layer4.1.conv1", "Conv2d", (512, 7, 7), "map"),
    Node("layer4.1", "Block", (512, 7, 7), "map"),
    Node("layer4", "Sequential", (512, 7, 7), "map"),
    Node("blocks", "Sequential", (197, 768), "tokens", 1, grid=(14, 14)),
    Node("stage", "Swin", (7, 7, 768), "map-last"),
    Node("odd", "Attention", (12, 49, 64), "other"),
    Node("penultimate", "input of fc", (512,), "vector", module="fc"),
    Node("fc", "Linear", (1000,), "vector"),
]
BY_NAME = {node.name: node for node in NODES}


def names(*patterns, pooling=None):
    return [output.id for output in select(NODES, patterns, pooling)]


def test_a_star_stays_within_one_part_of_a_name():
    assert names("layer4.*") == ["layer4.0:avg", "layer4.1:avg"]
    assert names("layer4.**") == [
        "layer4.0.add:avg",
        "layer4.0:avg",
        "layer4.1.conv1:avg",
        "layer4.1:avg",
    ]
    assert names("layer?") == ["layer4:avg"]


def test_order_is_that_of_the_patterns_then_of_the_forward_pass_and_each_output_stands_once():
    assert names("penultimate", "layer4.*", "layer4.1") == [
        "penultimate:none",
        "layer4.0:avg",
        "layer4.1:avg",
    ]


def test_a_layer_may_state_its_own_pooling():
    assert names("layer4:max", "layer4", "conv1", pooling="gem") == [
        "layer4:max",
        "layer4:gem",
        "conv1:gem",
    ]
    assert names("layer4:default", pooling="gem") == ["layer4:gem"]


def test_the_penultimate_vector_is_never_pooled_by_a_word_for_others():
    assert names("penultimate", "layer4", pooling="max") == ["penultimate:none", "layer4:max"]


def test_the_mean_of_tokens_has_one_name():
    assert names("blocks:avg") == names("blocks:patches") == ["blocks:patches"]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("layer4", ("layer4", None)),
        ("layer4:2x3", ("layer4", "2x3")),
        ("a/b:0", ("a/b:0", None)),
        ("a/b:0:flatten", ("a/b:0", "flatten")),
        ("avg", ("avg", None)),
        ("layer4:0x2", ("layer4:0x2", None)),
    ],
)
def test_a_colon_belongs_to_a_name_unless_a_pooling_follows(text, parsed):
    assert parse(text) == parsed


@pytest.mark.parametrize(
    ("name", "pooling", "size"),
    [
        ("layer4", "avg", 512),
        ("layer4", "flatten", 512 * 49),
        ("layer4", "2x3", 512 * 6),
        ("stage", "max", 768),
        ("stage", "7x7", 768 * 49),
        ("blocks", "cls", 768),
        ("blocks", "flatten", 197 * 768),
        ("blocks", "14x14", 768 * 196),
        ("odd", "flatten", 12 * 49 * 64),
        ("fc", "none", 1000),
        ("penultimate", "none", 512),
    ],
)
def test_sizes(name, pooling, size):
    assert pooled_size(BY_NAME[name], pooling) == size


@pytest.mark.parametrize(
    ("name", "pooling", "said"),
    [
        ("layer4", "cls", "avg, max, gem, flatten, KxK"),
        ("layer4", "8x8", "7x7"),
        ("fc", "avg", "none, flatten"),
        ("odd", "avg", "flatten"),
        ("blocks", "avg", "patches"),
        ("stage", "none", "avg"),
    ],
)
def test_a_pooling_that_does_not_fit_is_refused_with_those_that_do(name, pooling, said):
    with pytest.raises(BottleneckError) as caught:
        pooled_size(BY_NAME[name], pooling)
    assert said in str(caught.value)


def test_a_name_that_is_not_there_is_refused_with_the_nearest():
    with pytest.raises(BottleneckError, match="did you mean layer4"):
        names("layer_4")
    with pytest.raises(BottleneckError, match=r"no node 'nowhere\.\*'"):
        names("nowhere.*")
    with pytest.raises(BottleneckError, match="no pooling is called 'mean'"):
        names("layer4", pooling="mean")


@pytest.mark.parametrize("node", NODES, ids=lambda node: node.name)
def test_every_node_can_be_pooled_by_its_default(node):
    assert pooled_size(node, default_pooling(node)) > 0


@given(
    st.builds(
        Node,
        name=st.text(max_size=20),
        kind=st.text(max_size=5),
        shape=st.lists(st.integers(1, 99), min_size=1, max_size=4).map(tuple),
        layout=st.sampled_from(["vector", "map", "map-last", "tokens", "other"]),
        prefix=st.integers(0, 5),
        call=st.integers(0, 3),
        grid=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    )
)
@settings(deadline=None, max_examples=50)
def test_a_node_survives_its_memo(node):
    assert Node.from_json(json.loads(json.dumps(node.to_json()))) == node


@given(st.text(min_size=1, max_size=12), st.sampled_from([*layers.POOLINGS, "2x2", "10x3"]))
@settings(deadline=None, max_examples=100)
def test_an_output_is_chosen_by_its_id(node, pooling):
    assert parse(Output(node, pooling).id) == (node, pooling)


def test_nothing_heavy_is_imported():
    code = (
        "import sys, bottleneck_probe.backbones.nodes, bottleneck_probe.backbones.sources as s;"
        "s.sources();"
        "assert not {'torch', 'timm', 'torchvision', 'transformers', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
