"""A reader and a checker written from cache/README.md, with h5py and blake3 alone."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
from blake3 import blake3
from bottleneck_probe.cache.format import write
from bottleneck_probe.cache.index import FileIndex

README = Path(__file__).parents[2] / "cache" / "README.md"


def test_the_example_in_the_specification_runs(written, monkeypatch):
    path, features, rows = written(name="photos-resnet50.h5")
    monkeypatch.chdir(path.parent)
    code = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)[1]
    names: dict = {}
    exec(code, names)
    np.testing.assert_array_equal(names["X"], features)
    np.testing.assert_array_equal(names["y"], rows.labels)
    assert names["paths"].tolist() == rows.paths
    assert names["classes"].tolist() == rows.classes
    assert names["train"].tolist() == [split == "train" for split in rows.splits]


def test_every_dataset_has_the_type_and_the_checksums_of_the_specification(written):
    path, _, _ = written(n=5000, d=3)
    with h5py.File(path) as f:
        found = {}
        f.visititems(lambda name, item: found.update({name: item}))
        data = {
            name: item
            for name, item in found.items()
            if isinstance(item, h5py.Dataset) and not name.startswith("checksums/")
        }
        assert {name: (item.shape, item.dtype.kind) for name, item in data.items()} == {
            "features": ((5000, 3), "f"),
            "keys": ((5000, 32), "u"),
            "paths": ((5000,), "O"),
            "labels": ((5000,), "i"),
            "splits": ((5000,), "O"),
            "classes": ((2,), "O"),
            "meta/weight": ((5000,), "f"),
            "meta/folder": ((5000,), "O"),
            "quarantine/paths": ((1,), "O"),
            "quarantine/reasons": ((1,), "O"),
        }
        assert f["features"].chunks is None
        sums = {"attributes": f["checksums/attributes"][:]}
        for name, item in data.items():
            sums[name] = f["checksums"][name][:]
            rows_of_a_block = int(f["checksums"][name].attrs["rows"])
            for i, digest in enumerate(sums[name]):
                block = item[i * rows_of_a_block : (i + 1) * rows_of_a_block]
                if item.dtype.kind == "O":
                    lengths = b"".join(len(text).to_bytes(4, "little") for text in block)
                    raw = lengths + b"".join(block)
                else:
                    raw = block.tobytes()
                assert blake3(raw).digest() == digest.tobytes()
            assert len(sums[name]) == -(-len(item) // rows_of_a_block)
        names = ["format", "format_version", "recipe", "environment", "fingerprint", "root"]
        names.append("created_by")
        texts = [str(f.attrs[name]).encode() for name in names]
        lengths = b"".join(len(text).to_bytes(4, "little") for text in texts)
        assert blake3(lengths + b"".join(texts)).digest() == sums["attributes"].tobytes()
        joined = b"".join(
            name.encode() + b"\0" + sums[name].tobytes() for name in sorted(sums, key=str.encode)
        )
        assert f["checksums"].attrs["content"] == blake3(joined).hexdigest()
        assert f["checksums"].attrs["algorithm"] == "blake3"


def test_the_index_has_the_types_and_the_digests_of_the_specification(
    tmp_path, header, rows, features
):
    n, q = 50, 1
    index = FileIndex(
        np.full((n, 4), 7),
        np.full((q, 4), -1),
        np.zeros((q, 32), np.uint8),
        ["ants/notes"],
        np.full((1, 4), 9),
        10**18,
        10**8,
        {"pillow": "13.0"},
    )
    write(tmp_path / "x.h5", header(), rows(n), [features(n)], index=index)
    with h5py.File(tmp_path / "x.h5") as f:
        assert {name: (item.shape, item.dtype.kind) for name, item in f["stat"].items()} == {
            "files": ((n, 4), "i"),
            "quarantine": ((q, 4), "i"),
            "quarantine_keys": ((q, 32), "u"),
            "ignored_paths": ((1,), "O"),
            "ignored": ((1, 4), "i"),
            "clock": ((2,), "i"),
            "decoders": ((1,), "O"),
        }
        assert set(f["checksums/stat"]) == set(f["stat"])
        assert f["stat/files"].dtype == f["stat/clock"].dtype == np.dtype("<i8")
        assert (
            blake3(f["stat/files"][:].tobytes()).digest() == f["checksums/stat/files"][0].tobytes()
        )
        assert json.loads(f["stat/decoders"][0]) == {"pillow": "13.0"}
        sums = {}
        f["checksums"].visititems(
            lambda name, item: sums.update({name: item}) if isinstance(item, h5py.Dataset) else None
        )
        for attribute, left_out in (("content", "\0"), ("content_without_stat", "stat/")):
            joined = b"".join(
                name.encode() + b"\0" + sums[name][:].tobytes()
                for name in sorted(sums, key=str.encode)
                if not name.startswith(left_out)
            )
            assert f["checksums"].attrs[attribute] == blake3(joined).hexdigest()


def test_the_fingerprint_is_that_of_the_specification(written):
    path, _, _ = written()
    with h5py.File(path) as f:
        recipe = json.loads(f.attrs["recipe"])
        recipe["output"] = recipe.pop("outputs")[0]
        text = json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert f.attrs["fingerprint"] == blake3(text.encode()).hexdigest()


def test_layers_are_those_of_the_specification(layered):
    """Fingerprint, name, attributes, type and checksums, all worked out from the text alone."""
    path, values, _ = layered(n=100)
    with h5py.File(path) as f:
        recipe = json.loads(f.attrs["recipe"])
        outputs = recipe.pop("outputs")
        assert len(f["layers"]) == len(outputs) - 1
        for output in outputs[1:]:
            name = f"{output['node']}:{output['pooling']}"
            link = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
            layer = f["layers"][link]
            assert layer.shape[0] == f["features"].shape[0]
            assert layer.dtype == f["features"].dtype
            assert (layer.attrs["node"], layer.attrs["pooling"]) == tuple(output.values())
            whole = {**recipe, "output": output}
            text = json.dumps(whole, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert layer.attrs["fingerprint"] == blake3(text.encode()).hexdigest()
            np.testing.assert_array_equal(layer[:], values[name])
            sums = f["checksums"][f"layers/{link}"]
            size = int(sums.attrs["rows"])
            for i, digest in enumerate(sums[:]):
                block = layer[i * size : (i + 1) * size]
                assert blake3(block.tobytes()).digest() == digest.tobytes()
        sums = {}
        f["checksums"].visititems(
            lambda name, item: sums.update({name: item[:]}) if hasattr(item, "shape") else None
        )
        joined = b"".join(
            name.encode() + b"\0" + sums[name].tobytes() for name in sorted(sums, key=str.encode)
        )
        assert f["checksums"].attrs["content"] == blake3(joined).hexdigest()


def test_the_example_in_the_specification_reads_layers(layered, monkeypatch):
    path, values, _ = layered(name="photos-resnet50.h5")
    monkeypatch.chdir(path.parent)
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.S)[1], names)
    assert set(names["layers"]) == set(values) - {"penultimate:none"}
    for name, X in names["layers"].items():
        np.testing.assert_array_equal(X, values[name])
