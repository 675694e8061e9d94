"""Feature files and probes that hold one of everything, and ways to damage their bytes."""

from __future__ import annotations

import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe.cache import trailer
from bottleneck_probe.cache.format import Header, Layer, Rows, write
from bottleneck_probe.cache.index import FileIndex, index_of
from bottleneck_probe.errors import BottleneckError
from bottleneck_probe.recipe import fingerprint
from bottleneck_probe.targets import Targets

N = 60
NODES = [("penultimate", "none", 8), ("layer3", "avg", 4), ("stem/x", "2x2", 12)]
RECIPE: dict[str, Any] = {
    "modality": "image",
    "backbone": "x",
    "weights_sha256": "ab" * 32,
    "preprocessing": {"resize": 256, "mean": [0.5, 0.25]},
    "precision": "fp32",
    "outputs": [{"node": node, "pooling": pooling} for node, pooling, _ in NODES],
}


def feature_file(path: Path, *, end: bool = True) -> None:
    """Three outputs, meta columns of both kinds, views, hashes, quarantine, index and checksums.

    Parameters
    ----------
    path : Path
    end : bool, default True
        With the trailer; else as files of earlier versions are.
    """
    rng = np.random.default_rng(0)
    rows = Rows(
        paths=[f"ants/{i // 2:03}é.jpg" for i in range(N)],
        keys=np.repeat(rng.integers(0, 256, (N // 2, 32), np.uint8), 2, axis=0),
        labels=rng.integers(-1, 2, N).astype(np.int32),
        splits=[("train", "val", "")[i // 2 % 3] for i in range(N)],
        classes=["ants", "bees"],
        meta={"weight": rng.random(N), "folder": [f"box {i}" for i in range(N)]},
        view=np.arange(N, dtype=np.int32) % 2,
        quarantine=[("ants/bad.jpg", "truncated after 75 %"), ("ants/no.jpg", "empty file")],
        phash=rng.integers(0, 2**63, N).astype(np.uint64),
    )
    index = FileIndex(
        files=rng.integers(0, 2**40, (N, 4)),
        quarantine=rng.integers(0, 2**40, (2, 4)),
        quarantine_keys=rng.integers(0, 256, (2, 32), np.uint8),
        ignored_paths=["ants/readme"],
        ignored=rng.integers(0, 2**40, (1, 4)),
        time_ns=2**50,
        grain_ns=10**8,
        decoders={"pillow": "13.0"},
    )
    arrays = [rng.standard_normal((N, d)).astype(np.float32) for _, _, d in NODES]
    layers = [
        Layer(output, fingerprint(RECIPE, output), [array])
        for output, array in zip(RECIPE["outputs"][1:], arrays[1:], strict=True)
    ]
    write(path, _header(RECIPE), rows, [arrays[0]], layers, index)
    if not end:
        _without_trailer(path)


def target_file(path: Path) -> None:
    """Several labels for each row, unknown ones among them, as float16."""
    rng = np.random.default_rng(1)
    recipe = {**RECIPE, "outputs": RECIPE["outputs"][:1]}
    values = rng.integers(0, 2, (N, 2)).astype(np.float32)
    values[::7, 1] = np.nan
    rows = Rows(
        paths=[f"{i:03}.jpg" for i in range(N)],
        keys=rng.integers(0, 256, (N, 32), np.uint8),
        labels=np.full(N, -1, np.int32),
        splits=[""] * N,
        classes=["legs", "wings"],
        targets=Targets("multilabel", ["legs", "wings"], values),
    )
    array = rng.standard_normal((N, 8)).astype(np.float16).astype(np.float32)
    write(path, _header(recipe, store="float16"), rows, [array])


def _header(recipe: dict[str, Any], store: str = "float32") -> Header:
    mark = fingerprint(recipe, recipe["outputs"][0])
    return Header(recipe, {"engine": "eager"}, mark, "/data/ants", store)


def _without_trailer(path: Path) -> None:
    with path.open("rb") as file:
        found = trailer.read(file, path)
    assert found is not None
    with path.open("r+b") as file:
        file.truncate(found.hdf5_bytes)


def probe_file(path: Path, head: str) -> None:
    """A probe of three classes."""
    rng = np.random.default_rng(2)
    y = np.arange(45) % 3
    X = (rng.normal(0, 1, (3, 5))[y] + rng.normal(0, 1, (45, 5))).astype(np.float32)
    features = bp.Features.from_arrays(X, [("ants", "bees", "wasps")[i] for i in y])
    bp.fit(features, head=head, folds=3, repeats=1, quiet=True).save(path)


QUERY = np.random.default_rng(3).normal(0, 1, (20, 5)).astype(np.float32)


def content(path: Path) -> list[Any]:
    """All that a reader gets of a feature file or a probe, to be compared with `equal`."""
    return _of_probe(bp.load(path)) if path.suffix == ".probe" else _of_features(bp.open(path))


def _of_features(found: bp.Features) -> list[Any]:
    rows, header = found.rows, found.header
    told = [header.recipe, header.environment, header.fingerprint, header.root, header.store]
    told += [found.outputs, found.task, rows.classes, sorted(rows.meta), rows.quarantine]
    told += [found.paths.tolist(), found.splits.tolist(), found.keys, found.y, found.views]
    told += [found.phash, found.targets, found.features[:]]
    told += [array[:] for array in found.layers.values()]
    told += [np.asarray(column).tolist() for column in found.meta.values()]
    index = index_of(found)
    if index is not None:
        told += [index.files, index.quarantine, index.quarantine_keys, index.ignored]
        told += [list(index.ignored_paths), index.time_ns, index.grain_ns, index.decoders]
    return told


def _of_probe(found: bp.Probe) -> list[Any]:
    # What it is written as holds all that it is.
    return [found.to_bytes(), found.predict_proba(QUERY), repr(found)]


def equal(a: list[Any], b: list[Any]) -> bool:
    """Whether two contents are the same, bit by bit."""
    return len(a) == len(b) and all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") and x.dtype == y.dtype
        if isinstance(x, np.ndarray) and isinstance(y, np.ndarray)
        else type(x) is type(y) and x == y
        for x, y in zip(a, b, strict=True)
    )


def damage(data: bytes, rng: random.Random) -> bytes:
    """The same bytes with one random fault, of the kinds that disks, copies and cables make."""
    kind = rng.choices(
        ["bytes", "bit", "cut", "double", "zeros", "swap", "text"], [40, 25, 5, 8, 8, 8, 6]
    )[0]
    found = bytearray(data)
    if kind == "bytes":
        for _ in range(rng.randint(1, 8)):
            found[rng.randrange(len(found))] = rng.randrange(256)
    elif kind == "bit":
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del found[rng.randrange(len(found)) :]
    elif kind == "text":  # a letter of a name, which HDF5 itself has no reason to doubt
        places = [i for i, byte in enumerate(found) if chr(byte).isascii() and chr(byte).isalpha()]
        found[rng.choice(places)] ^= 1 << rng.randrange(5)
    else:
        size = 2 ** rng.randint(3, 11)
        start = rng.randrange(max(1, len(found) - size))
        block = bytes(found[start : start + size])
        if kind == "double":
            found[start:start] = block
        elif kind == "zeros":
            found[start : start + size] = bytes(len(block))
        else:
            other = rng.randrange(max(1, len(found) - size))
            found[start : start + size], found[other : other + size] = (
                bytes(found[other : other + size]),
                block,
            )
    return bytes(found)


def forge(data: bytes, rng: random.Random) -> bytes:
    """A probe whose description or tensors a stranger has changed, with a digest that fits."""
    from bottleneck_probe import probe_format
    from safetensors.numpy import load, save

    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["bottleneck"])
    description.pop("blake3")
    arrays = load(data)
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.7:
            _mutate(description, rng)
        else:
            _misshape(arrays, rng)
    try:
        description["blake3"] = probe_format.digest(description, arrays)
    except BottleneckError:
        description["blake3"] = "0" * 64
    return save(arrays, {"bottleneck": json.dumps(description)})


ODD = (
    *(None, True, -1, 0, 1, 2, 7, 10**30, -(10**400), 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "accuracy", "\ud800", "\x1b[2J", [], [[]], {}, {"value": 1}, [1, 2, 3], ["a", "b"]),
)


def _mutate(value: Any, rng: random.Random) -> None:
    """Put something odd at a random place in JSON data."""
    while True:
        names: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not names:
            return
        name = rng.choice(names)
        if isinstance(value[name], dict | list) and value[name] and rng.random() < 0.8:
            value = value[name]
            continue
        if rng.random() < 0.2:
            del value[name]
        else:
            value[name] = copy.deepcopy(rng.choice(ODD))  # else a list could come to hold itself
        return


def _misshape(arrays: dict[str, np.ndarray], rng: random.Random) -> None:
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    kind = rng.randrange(5)
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[name] = array[: len(array) // 2]
    elif kind == 2:
        arrays[name] = array.reshape(-1)
    elif kind == 3:
        arrays[name] = array.astype(rng.choice(["f4", "f8", "i8", "u1", "i4"]))
    else:
        arrays[name] = np.full_like(array, rng.choice([0, 1, 99]))
