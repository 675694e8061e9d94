"""A feature file: whatever it holds, it opens with values that make sense, or with one of our errors.

The first byte says how the rest is meant: as the file itself; as changes to the bytes of a good one; or
as changes that a stranger makes with h5py, which HDF5 itself finds nothing wrong with.
"""

import atexit
import shutil
import sys
import tempfile
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
from bottleneck_probe.cache import checks, child
from bottleneck_probe.cache.index import index_of
from bottleneck_probe.errors import BottleneckError

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))
from harness import hurt

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-features-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_FILE = _FOLDER / "x.h5"
hurt.feature_file(_FILE)
_LAYERED = _FILE.read_bytes()
hurt.target_file(_FILE)
_TARGETS = _FILE.read_bytes()
# Of these only what a stranger has left of the format is checked, not whether it is as it was written.
_SURVIVED = child.require_survived


def target(data: bytes) -> None:
    """Open what `data` describes, and read all of it."""
    if not data:
        return
    mode, rest = data[0] % 8, data[1:]
    checks._whole.clear()
    child.require_survived = _SURVIVED
    if mode == 0:
        _FILE.write_bytes(rest)
    elif mode == 1:
        _FILE.write_bytes(_patched(rest))
    else:
        _FILE.write_bytes((_LAYERED, _TARGETS)[mode % 2])
        _edit(rest)
        # HDF5 has just written it: a child would cost 0.2 s and find nothing.
        child.require_survived = lambda *args: None
    try:
        found = bp.open(_FILE)
        assert np.isfinite(found.features[:]).all()
        for array in found.layers.values():
            assert np.isfinite(array[:]).all()
        assert len(found) == len(found.paths) == len(found.labels) == len(found.keys)
        _ = found.meta, found.splits, found.views, found.phash, found.files, found.quarantine
        index_of(found)
        repr(found), found._repr_html_()
    except BottleneckError:
        return


def _patched(data: bytes) -> bytes:
    """A good file with some bytes replaced; its trailer is stale now, or cut off."""
    changed = bytearray(_LAYERED)
    for start in range(1, len(data) - 4, 5):
        place = int.from_bytes(data[start : start + 3], "little") % len(changed)
        changed[place] ^= data[start + 4]
    # One in 64 is tried in a child, as a file of an earlier version.
    return bytes(changed[: _hdf5_bytes()] if data[:1] and data[0] < 4 else changed)


def _hdf5_bytes() -> int:
    size = int.from_bytes(_LAYERED[-16:-8], "little")
    return len(_LAYERED) - 16 - size


NAMES = (
    *("features", "keys", "paths", "labels", "splits", "classes", "targets", "view", "phash"),
    *("layers/layer3:avg", "meta/weight", "meta/folder", "quarantine/paths", "quarantine/reasons"),
    *(
        "stat/files",
        "stat/clock",
        "stat/decoders",
        "stat/ignored_paths",
        "checksums/keys",
        "mine/x",
    ),
    *("checksums", "meta", "stat", "layers", "quarantine"),
)
ATTRIBUTES = (
    *("format", "format_version", "recipe", "environment", "fingerprint", "root", "created_by"),
    *("content", "rows", "algorithm", "task", "node", "pooling", "content_without_stat"),
)
TYPES = ("u1", "<i4", "<i8", "<f4", "<f8", ">f4", "<f2", "<u8", "S3", "?", "<c8", "text")


def _edit(data: bytes) -> None:
    """What `data` says, done with h5py."""
    numbers = iter(data)

    def take(n: int = 1) -> int:
        return int.from_bytes(bytes(next(numbers, 0) for _ in range(n)), "little")

    with h5py.File(_FILE, "r+") as h5:
        if take() % 2:
            del h5["checksums"], h5.attrs["created_by"]
        for _ in range(1 + take() % 3):
            name, kind = NAMES[take() % len(NAMES)], take() % 6
            if kind == 0 and name in h5:
                del h5[name]
            elif kind == 1:
                _set_attribute(h5, name, take)
            elif kind == 2 and name in h5 and "mine" not in h5:
                h5.move(name, "mine")
            elif kind == 3 and isinstance(h5.get(name), h5py.Dataset) and h5[name].size:
                _set_value(h5[name], take)
            else:
                _replace(h5, name, take)


def _set_attribute(h5, name, take):
    holder = h5[name] if name in h5 and take() % 2 else h5
    attribute = ATTRIBUTES[take() % len(ATTRIBUTES)]
    holder.attrs[attribute] = (
        lambda: take(2),
        lambda: bytes(take() for _ in range(take() % 20)).decode("latin-1").replace("\0", ""),
        lambda: np.arange(take() % 4),
        lambda: '{"outputs":[{"node":"penultimate","pooling":"none"}],"modality":"array"}',
        lambda: np.bytes_(bytes(take() for _ in range(5)) or b"x"),
        lambda: float(take(2)),
    )[take() % 6]()


def _set_value(dataset, take):
    place = np.unravel_index(take(2) % dataset.size, dataset.shape)
    if h5py.check_string_dtype(dataset.dtype) is not None:
        dataset[place] = bytes(take() for _ in range(take() % 9)).replace(b"\0", b"")
    elif dataset.dtype.kind in "iufb":
        raw = bytes(take() for _ in range(dataset.dtype.itemsize))
        dataset[place] = np.frombuffer(raw, dataset.dtype)[0]


def _replace(h5, name, take):
    parent = name.partition("/")[0]
    if name in h5:
        del h5[name]
    elif parent != name and parent in h5 and not isinstance(h5[parent], h5py.Group):
        del h5[parent]
    shape = tuple((0, 1, 2, 59, 60, 61, 32, 4)[take() % 8] for _ in range(take() % 4))
    dtype = TYPES[take() % len(TYPES)]
    options = {"compression": "gzip"} if shape and 0 not in shape and take() % 2 else {}
    if dtype == "text":
        values = np.full(shape, b"x", object)
        h5.create_dataset(name, data=values, dtype=h5py.string_dtype(), **options)
    else:
        h5.create_dataset(name, data=np.full(shape, take()).astype(dtype), **options)


def seeds() -> list[bytes]:
    """The good file itself, a patch, and edits of every kind."""
    found = [b"\0" + _LAYERED, b"\1\0\0\1\0\7", b"\1\7\0\1\0\7"]
    rng = np.random.default_rng(0)
    return found + [bytes([2 + i % 6]) + rng.bytes(24) for i in range(60)]
