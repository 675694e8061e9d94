"""A backbone without a network: the feature is the mean colour, so that a row shows whose it is.

Loaded by path from tests, and run as a program by tests that kill or interrupt a process:
``python stub.py DELAY_S SEAL_AFTER_S extract IMAGES -o FILE.h5 --backbone stub``.
"""

import hashlib
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
from bottleneck_probe.backbones import nodes, registry
from bottleneck_probe.backbones.base import Entry, Weights
from bottleneck_probe.backbones.layers import Node, sizes
from bottleneck_probe.cache import shards
from bottleneck_probe.engines import devices, select
from bottleneck_probe.engines.base import Engine
from bottleneck_probe.images.preprocess import Preprocessing
from PIL import Image

D = 4
NODES = [
    Node("pixels", "Input", (3, 8, 8), "map"),
    Node("double", "Mul", (3,), "vector"),
    Node("penultimate", "output", (D,), "vector"),
]


class StubWeights:
    label = "none"
    licence = "none"

    def here(self):
        return True

    def find(self):
        here = Path(__file__)
        return Weights(here, hashlib.sha256(here.read_bytes()).hexdigest(), "a test")

    def fetch(self, tell):
        raise AssertionError("the stub's weights are always here")


def stub_preprocessing():
    half = (0.5, 0.5, 0.5)
    return Preprocessing(resize=8, crop=(8, 8), interpolation="bilinear", mean=half, std=half)


def refuse(size):
    raise AssertionError("a stub has no network to build")


def entry(name):
    return Entry(
        name=name,
        source="tests",
        architecture=name,
        weights=StubWeights(),
        preprocessing=stub_preprocessing,
        build=refuse,
    )


STUBS = {name: entry(name) for name in ("stub", "other")}


class StubEngine(Engine):
    """Mean colour; `scale` is what another machine's arithmetic would do to it."""

    name = "stub"

    def __init__(self, calls, backbone, *, batch_size, delay_s=0.0, scale=1.0, on_call=None):
        super().__init__(
            batch_size=batch_size,
            size=(8, 8),
            feature_sizes=sizes(NODES, backbone.outputs),
            device="cpu",
        )
        self.outputs = backbone.outputs
        self.offset = 0 if backbone.entry.name == "stub" else 1000
        self.calls = calls
        self.delay_s = delay_s
        self.scale = scale
        self.on_call = on_call

    def forward(self, images):
        assert images.shape == (self.batch_size, 8, 8, 3)
        self.calls.forwards += 1
        self.calls.cuts.append([output.id for output in self.outputs])
        if self.on_call:
            self.on_call(self.calls)
        time.sleep(self.delay_s)
        return [self._of(output, images) for output in self.outputs]

    def _of(self, output, images):
        colours = images.reshape(len(images), -1, 3).mean(axis=1, dtype=np.float64) + self.offset
        if output.node == "double":
            found = 2 * colours
        elif output.node == "pixels":
            found = {
                "avg": colours,
                "flatten": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
            }[output.pooling]
        else:
            found = np.column_stack([colours, np.ones(len(images))])
        return (found * self.scale).astype(np.float32)


class Calls:
    """What the engine was asked, and how it is to behave."""

    def __init__(self):
        self.forwards = 0
        self.cuts = []  # the outputs of each forward
        self.started = 0
        self.choices = []
        self.delay_s = 0.0
        self.scale = 1.0
        self.on_call = None


def install(setattr_, setitem):
    """Register the backbones and let every chosen engine be the stub; `Calls` counts."""
    calls = Calls()

    def start(choice, backbone, reporter):
        assert backbone.entry.name in STUBS
        calls.started += 1
        calls.choices.append(choice)
        engine = StubEngine(
            calls,
            backbone,
            batch_size=choice.batch_size,
            delay_s=calls.delay_s,
            scale=calls.scale,
            on_call=calls.on_call,
        )
        return engine, choice

    real_nodes = nodes.nodes_of
    for name, stub in STUBS.items():
        setitem(registry.ENTRIES, name, stub)
    setattr_(
        nodes,
        "nodes_of",
        lambda backbone: NODES if backbone.entry.name in STUBS else real_nodes(backbone),
    )
    setattr_(select, "start", start)
    setattr_(devices, "driver_has_gpu", lambda: False)
    return calls


def colour_of(number):
    """A colour of its own for each number below 65,536."""
    return (number >> 8 & 255, number & 255, number * 83 + 7 & 255)


def feature_of(number):
    return np.array([*colour_of(number), 1], np.float32)


def paint(path, number, size=(12, 9)):
    """Write a PNG of one colour, which resizing leaves as it is."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour_of(number)).save(path, "PNG", compress_level=1)
    return path


def main():
    delay_s, seal_after_s = float(sys.argv[1]), float(sys.argv[2])
    calls = install(setattr, dict.__setitem__)
    calls.delay_s = delay_s
    calls.cuts = deque(maxlen=1)  # else a run over many images would measure the stub's memory
    devices.cpu_precisions = lambda: ("fp32",)  # as `conftest.py` has it for the tests themselves
    shards.SEAL_AFTER_S = seal_after_s
    from bottleneck_probe.cli.main import main as command

    del sys.argv[1:3]
    print("ready", file=sys.stderr, flush=True)
    command()


if __name__ == "__main__":
    main()
