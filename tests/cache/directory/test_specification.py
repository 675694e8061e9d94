"""A directory read by what cache/README.md says, with json, h5py and blake3 alone."""

import importlib.util
import json
import sys
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
from blake3 import blake3
from bottleneck_probe.cache.directory import building


def histories():
    name = "bottleneck_test_histories"
    if name not in sys.modules:
        path = Path(__file__).with_name("test_histories.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def read_by_specification(folder):
    """Path, key, feature, class, split, columns of every row, and the quarantine."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    told = manifest.pop("checksum")
    plain = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert blake3(plain.encode()).hexdigest() == told
    rows = {}
    for shard in manifest["shards"]:
        data = (folder / shard["name"]).read_bytes()
        assert len(data) == shard["bytes"]
        assert blake3(data).hexdigest() == shard["blake3"]
        assert shard["name"] == shard["blake3"][:32] + ".h5"
        dead = {i for first, stop in shard["dead"] for i in range(first, stop)}
        with h5py.File(folder / shard["name"]) as f:
            sums = f["checksums"].attrs
            assert shard["content"] == sums.get("content_without_stat", sums["content"])
            assert shard["fingerprint"] == manifest["fingerprint"] == f.attrs["fingerprint"]
            assert len(f["features"]) == shard["rows"]
            assert not len(f["quarantine/paths"])
            names = f["classes"].asstr()[:]
            for i, path in enumerate(f["paths"].asstr()[:]):
                if i in dead:
                    continue
                label = int(f["labels"][i])
                columns = []
                for column, kind in manifest["meta"]:
                    if column not in shard["meta"]:
                        columns.append("" if kind == "text" else None)
                    elif kind == "text":
                        columns.append(f[f"meta/{column}"].asstr()[i])
                    else:
                        value = float(f[f"meta/{column}"][i])
                        columns.append(None if np.isnan(value) else value)
                rows[path] = (
                    f["keys"][i].tobytes(),
                    f["features"][i].tolist(),
                    None if label < 0 else names[label],
                    f["splits"].asstr()[i],
                    columns,
                )
    assert len(rows) == manifest["rows"]
    lists = manifest["lists"]
    bad = json.loads((folder / lists["name"]).read_bytes())["quarantine"] if lists else []
    return dict(sorted(rows.items(), key=lambda row: row[0].encode())), bad


def test_a_reader_written_from_the_specification_agrees(tmp_path, monkeypatch):
    h = histories()
    monkeypatch.setattr(building, "SHARD_ROWS", 8)
    h.stub.install(monkeypatch.setattr, monkeypatch.setitem)
    world = h.World(tmp_path, np.random.default_rng(3))
    steps = [
        [lambda world: world.add_images(14), h.World.spoil],
        [h.World.edit],
        [h.World.table],
        [h.World.folder_again, h.World.remove],
    ]
    n_dead = 0
    for changes in steps:
        for change in changes:
            change(world)
        assert isinstance(world.run(), tuple)
        rows, bad = read_by_specification(tmp_path / "many")
        features = bp.open(tmp_path / "many")
        assert list(rows) == features.paths.tolist()
        for i, (key, feature, label, split, columns) in enumerate(rows.values()):
            assert key == features.keys[i].tobytes()
            assert feature == features.features[i].tolist()
            assert (label, split) == (features.labels[i], features.splits[i])
            found = [column[i] for column in features.meta.values()]
            assert columns == [None if value != value else value for value in found]
        assert [tuple(each) for each in bad] == features.quarantine
        shards = features.features.directory.manifest.shards
        n_dead += sum(shard.rows - shard.alive for shard in shards)
    assert n_dead
