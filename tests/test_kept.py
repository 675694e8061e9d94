"""Files of earlier versions open in this one, and hold what they held then."""

import json
import shutil
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache import trailer
from bottleneck_probe.cache.shards import load, take

KEPT = Path(__file__).parent / "kept"
KNOWN = json.loads((KEPT / "known.json").read_text("utf-8"))


def require_known(found):
    assert found.fingerprint == KNOWN["fingerprint"]
    assert found.outputs == KNOWN["outputs"]
    assert found.paths.tolist() == KNOWN["paths"]
    assert found.labels.tolist() == KNOWN["labels"]
    assert found.splits.tolist() == KNOWN["splits"]
    assert found.quarantine == [tuple(each) for each in KNOWN["quarantine"]]
    assert [key.tobytes().hex() for key in found.keys] == KNOWN["keys"]
    assert found.phash.tolist() == KNOWN["phash"]
    assert {name: list(column) for name, column in found.meta.items()} == KNOWN["meta"]
    for name in found.outputs:
        X = np.asarray(found.output(name).features[:])
        np.testing.assert_allclose(X.sum(axis=1, dtype=np.float64), KNOWN["sums"][name], rtol=1e-12)
    np.testing.assert_array_equal(found.features[0][:4], np.float32(KNOWN["first"]))
    assert found.environment["engine"] == "eager"


def test_a_feature_file_of_format_version_1():
    path = KEPT / "feature-file-1.h5"
    found = bp.open(path)
    require_known(found)
    assert found.features.stored.identity == KNOWN["content"]
    with path.open("rb") as file:
        assert trailer.read(file, path) is not None
    assert bp.open(f"{path}::blocks.0").features.shape == (8, 16)


def test_a_feature_file_from_before_the_trailer():
    path = KEPT / "without-trailer.h5"
    with path.open("rb") as file:
        assert trailer.read(file, path) is None
    found = bp.open(path)
    assert found.features.shape == (20, 8)
    assert found.features.stored.identity == (
        "8726d0439987efa6328528492d856993ad63f1461c13f2e3fcec1c5ff3fd31ba"
    )
    assert len(found.layers) == 3
    assert np.isfinite(found.features[:]).all()


def test_a_sealed_shard_of_format_version_1(tmp_path):
    parts = tmp_path / "x.h5.parts"
    shutil.copytree(KEPT / "shards-1", parts)
    index, notes = load(parts, KNOWN["fingerprint"])
    assert not notes
    keys = np.array([list(bytes.fromhex(key)) for key in KNOWN["keys"][:3]], np.uint8)
    assert index.holds(keys).all()
    sums = take(index, keys).sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(sums, KNOWN["sums"][KNOWN["outputs"][0]][:3], rtol=1e-12)


def test_a_directory_of_manifest_version_1():
    require_known(bp.open(KEPT / "directory-1"))


def test_a_probe_of_format_version_3():
    probe = bp.load(KEPT / "probe-3.probe")
    X = np.asarray(bp.open(KEPT / "feature-file-1.h5").features)
    np.testing.assert_allclose(probe.predict_proba(X), KNOWN["answers"], rtol=1e-6)
    assert probe.metrics["accuracy"]["value"] == KNOWN["accuracy"]


@pytest.mark.parametrize("name", ["renamed-checksums.h5", "odd-attribute-type.h5"])
def test_damaged_ones_are_refused(name):
    with pytest.raises(bp.CacheError, match="is damaged"):
        bp.open(KEPT / name)
