"""A walk over everything in torchvision and timm, on the meta device: the size announced is the size.

All of timm takes half an hour: set ``BOTTLENECK_EVERY_NETWORK=1``. Otherwise a seeded sample of one of
its modules each is walked until the time is up.
"""

import os
import random
import time

import pytest
import timm
import torch
import torchvision
from bottleneck_probe.backbones import network, registry
from bottleneck_probe.backbones.base import PENULTIMATE, Entry
from bottleneck_probe.backbones.layers import sizes
from bottleneck_probe.backbones.trace import trace
from timm.models import list_modules
from torchvision.models import get_model, get_model_weights, list_models

SECONDS = 20
FEWEST = 10  # however slow the machine is
LARGEST = 100_000_000  # parameters; beyond it tracing says nothing that the small one of its kind does not


def announced(entry: Entry, size: tuple[int, int]) -> tuple[int, int, torch.nn.Module]:
    """Length of the penultimate vector that we announce, that the network has, and the network."""
    with torch.device("meta"):
        whole = network.build(entry, size)
    found = trace(whole, size)
    (ours,) = sizes(found.nodes, [PENULTIMATE])
    if whole.classifier is not None:
        head = whole.module.get_submodule(whole.classifier)
        theirs = getattr(head, "in_features", None) or head.in_channels
    else:
        theirs = whole.module.head_hidden_size
    return ours, theirs, whole.module


@pytest.mark.parametrize("name", list_models(module=torchvision.models))
def test_torchvision(name):
    entry = registry.find_entry(f"torchvision/{name}")
    side = entry.preprocessing().crop[0]
    if name.startswith("regnet"):
        # It reads numbers of tensors while it is built, so not on the meta device.
        parameters = get_model_weights(name).DEFAULT.meta["num_params"]
        if parameters > 25_000_000:
            pytest.skip("too large to be built with its tensors")
        found = network.trace_shapes(entry, (64, 64))
        assert sizes(found.nodes, [PENULTIMATE]) == [get_model(name, weights=None).fc.in_features]
        return
    ours, theirs, module = announced(entry, (side, side))
    assert ours == theirs
    assert module(torch.zeros(1, 3, side, side, device="meta")).shape == (1, 1000)


def sample() -> list[str]:
    """Names of timm: all, or one of each module and then the rest, in a seeded order."""
    if os.environ.get("BOTTLENECK_EVERY_NETWORK"):
        return timm.list_models()
    draw = random.Random(0)
    first = [draw.choice(timm.list_models(module=module) or [""]) for module in list_modules()]
    rest = timm.list_models()
    draw.shuffle(rest)
    draw.shuffle(first)
    return list(dict.fromkeys(name for name in [*first, *rest] if name))


def test_timm():
    everything = bool(os.environ.get("BOTTLENECK_EVERY_NETWORK"))
    until = time.monotonic() + SECONDS
    walked = 0
    for name in sample():
        if not everything and walked >= FEWEST and time.monotonic() > until:
            break
        entry = registry.find_entry(f"timm/{name}")
        size = timm.get_pretrained_cfg(name).input_size[-2:]
        with torch.device("meta"):
            whole = timm.create_model(name, pretrained=False)
        if not everything and sum(p.numel() for p in whole.parameters()) > LARGEST:
            continue
        ours, theirs, module = announced(entry, tuple(size))
        assert ours == theirs, name
        # By timm's own account as well, where its classifier is one layer.
        if isinstance(whole.get_classifier(), torch.nn.Linear):
            assert ours == whole.get_classifier().in_features, name
            if not isinstance(getattr(whole, "head", None), timm.layers.ClassifierHead):
                assert ours == module.head_hidden_size, name
        walked += 1
    assert walked >= (len(timm.list_models()) if everything else FEWEST)
