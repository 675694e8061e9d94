"""Files of one output and no views are what they have always been, to the byte."""

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import trailer, writing
from bottleneck_probe.cache.format import Header, Rows, write
from bottleneck_probe.recipe import fingerprint

RECIPE = {
    "modality": "image",
    "backbone": "x",
    "preprocessing": {"resize": 256, "mean": [0.5, 0.25]},
    "outputs": [{"node": "penultimate", "pooling": "none"}],
}
N = 150
X = (np.arange(N * 5).reshape(N, 5) / 8 - 7).astype(np.float32)

# Made with the code that knew of no layers: attribute `content`, and BLAKE3 of the whole file.
KNOWN = {
    (False, "float32"): (
        "dd27c6553d59d4060a96c711181eb3e7b445fc9abb51d1e869d5af9697c91a02",
        "64b44a4945c2e3baac2bc4c869d1be05c23b59f4ea24b35c810e2577422c64c6",
    ),
    (False, "float16"): (
        "7c7e0452d88e5f4e68baa6c08010d9e55349ddd63fe9e23a378f315baddbd55a",
        "c0b8a2f1cd3f9f935b7708ff5ed6f8a0d633063bbfa04b354c515041b39c2367",
    ),
    (True, "float32"): (
        "1eaa31514f83f25024aac5d3d1c4652d76ba71830146576d3d4f14c4cf403600",
        "b18f2c0e237c54855787ce9b61cacab06edeafe37f94d2655962f687f663fe84",
    ),
    (True, "float16"): (
        "4de463d9a3dd25882fc00f59acc5a78de22686e3294c0636f42b9fba5d1ae041",
        "d3431c982018ee3c93cc9524e4a6a9dc3eebc7ab40444428d4bd91d76fce4ae0",
    ),
}
# How HDF5 lays out a file is its own affair, so the bytes are compared where it is the same one.
HDF5 = "2.0.0"


def table(views: bool) -> Rows:
    each = 2 if views else 1
    return Rows(
        paths=[f"ants/{i // each:03}.jpg" for i in range(N)],
        keys=(np.arange(N * 32) % 251).astype(np.uint8).reshape(N, 32),
        labels=(np.arange(N) % 3 - 1).astype(np.int32),
        splits=[("train", "val", "")[i % 3] for i in range(N)],
        classes=["ants", "bees"],
        meta={
            "weight": np.arange(N) / 4,
            "folder": [f"box {i}" for i in range(N)],
            "a/b": ["é"] * N,
        },
        view=(np.arange(N) % 2).astype(np.int32) if views else None,
        quarantine=[("ants/bad.jpg", "truncated")],
    )


@pytest.mark.parametrize(("views", "store"), KNOWN, ids=lambda value: str(value))
def test_a_file_without_layers_has_the_bytes_it_always_had(tmp_path, monkeypatch, views, store):
    monkeypatch.setattr(writing, "__version__", "0.0.0")  # it stands in `created_by`
    path = tmp_path / "x.h5"
    header = Header(
        RECIPE, {"engine": "eager"}, fingerprint(RECIPE, RECIPE["outputs"][0]), "/data/ants", store
    )
    write(path, header, table(views), [X])
    content, whole = KNOWN[views, store]
    with h5py.File(path) as h5:
        assert h5["checksums"].attrs["content"] == content
        assert "layers" not in h5
    if h5py.version.hdf5_version == HDF5:
        with path.open("rb") as file:
            length = trailer.read(file, path).hdf5_bytes
        assert blake3(path.read_bytes()[:length]).hexdigest() == whole
    found = bp.open(path)
    np.testing.assert_array_equal(found.features, X.astype(store))
    assert found.outputs == ["penultimate:none"]
    assert found.views.tolist() == ([i % 2 for i in range(N)] if views else [0] * N)
