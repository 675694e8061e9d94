"""A small recipe, rows and features, made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.cache.format import Header, Layer, Rows, write
from bottleneck_probe.recipe import fingerprint

RECIPE = {
    "modality": "image",
    "backbone": "efficientnet_lite0",
    "weights_sha256": "ab" * 32,
    "preprocessing": {"resize": 256, "crop": [224, 224], "mean": [0.5, 0.5, 0.5]},
    "precision": "fp32",
    "outputs": [{"node": "penultimate", "pooling": "none"}],
}


def make_header(recipe: dict = RECIPE, **changes) -> Header:
    fields = {"environment": {"engine": "eager"}, "root": "/data/ants", **changes}
    return Header(recipe, fingerprint=fingerprint(recipe, recipe["outputs"][0]), **fields)


def make_rows(n: int, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    return Rows(
        paths=[f"ants/{i:05}.jpg" for i in range(n)],
        keys=rng.integers(0, 256, (n, 32), np.uint8),
        labels=rng.integers(-1, 2, n).astype(np.int32),
        splits=[("train", "val", "")[i % 3] for i in range(n)],
        classes=["ants", "bees"],
        meta={"weight": rng.random(n), "folder": [f"box {i}" for i in range(n)]},
        quarantine=[("ants/bad.jpg", "truncated after 75 %")],
    )


def make_features(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., tuple[Path, np.ndarray, Rows]]:
    """Writes a feature file of n rows; gives its path, its features and its rows."""

    def write_one(n: int = 10, d: int = 8, name: str = "ants.h5", seed: int = 0, **changes):
        path, features, rows = tmp_path / name, make_features(n, d, seed), make_rows(n, seed)
        write(path, make_header(**changes), rows, [features])
        return path, features, rows

    return write_one


# d of each further output. The second has all that HDF5 would take for something else.
LAYERS = {("layer3", "avg"): 4, ("/stem/./Relu%:0", "2x2"): 12, ("layer3", "max"): 1}
OUTPUTS = [{"node": node, "pooling": pooling} for node, pooling in LAYERS]


def make_layers(n: int, seed: int = 0) -> tuple[dict, dict[str, np.ndarray], list[Layer]]:
    """A recipe of four outputs, the values of all of them by id, and three layers to write."""
    recipe = {**RECIPE, "outputs": [*RECIPE["outputs"], *OUTPUTS]}
    values = {"penultimate:none": make_features(n, seed=seed)}
    layers = []
    for number, (output, d) in enumerate(zip(OUTPUTS, LAYERS.values(), strict=True), start=1):
        array = make_features(n, d, seed=seed + number)
        values[f"{output['node']}:{output['pooling']}"] = array
        layers.append(Layer(output, fingerprint(recipe, output), [array]))
    return recipe, values, layers


@pytest.fixture
def layered(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, np.ndarray], Rows]]:
    """Writes a feature file of n rows and four outputs; gives path, values by id, and rows."""

    def write_one(n: int = 100, name: str = "ants.h5", seed: int = 0, **changes):
        recipe, values, layers = make_layers(n, seed)
        path, rows = tmp_path / name, make_rows(n, seed)
        write(path, make_header(recipe, **changes), rows, [values["penultimate:none"]], layers)
        return path, values, rows

    return write_one


@pytest.fixture
def layers() -> Callable[..., tuple[dict, dict[str, np.ndarray], list[Layer]]]:
    return make_layers


@pytest.fixture
def header() -> Callable[..., Header]:
    return make_header


@pytest.fixture
def rows() -> Callable[..., Rows]:
    return make_rows


@pytest.fixture
def features() -> Callable[..., np.ndarray]:
    return make_features
