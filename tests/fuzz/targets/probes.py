"""A probe: whatever it holds, it answers with numbers, or is refused with one of our errors."""

import atexit
import json
import random
import shutil
import struct
import sys
import tempfile
import warnings
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe import probe_format
from bottleneck_probe.errors import BottleneckError
from safetensors.numpy import load, save

sys.path.insert(0, str(Path(__file__).parents[2] / "faults"))
from harness import hurt

_FOLDER = Path(tempfile.mkdtemp(prefix="fuzz-probes-"))
atexit.register(shutil.rmtree, _FOLDER, ignore_errors=True)
_FILE = _FOLDER / "x.probe"
hurt.probe_file(_FILE, "logistic")
_GOOD = _FILE.read_bytes()
_LENGTH = struct.unpack("<Q", _GOOD[:8])[0]
_TEXT = json.loads(_GOOD[8 : 8 + _LENGTH])["__metadata__"]["bottleneck"].encode()
_OLD = (Path(__file__).parents[2] / "probes" / "version-2-svm-rbf.probe").read_bytes()


def target(data: bytes) -> None:
    """Load the probe that `data` describes, and ask it something."""
    if not data:
        return
    mode, rest = data[0] % 4, data[1:]
    if mode == 0:
        _FILE.write_bytes(rest)
    elif mode == 1:
        _FILE.write_bytes(hurt.forge(_GOOD, random.Random(rest)))
    elif mode == 2:
        _FILE.write_bytes(_with_description(rest))
    else:
        _FILE.write_bytes(hurt.damage(_OLD, random.Random(rest)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = bp.load(_FILE)
            answer = found.predict_proba(np.zeros((2, found.n_features), np.float32))
        assert answer.shape == (2, len(found.classes))
        assert np.isfinite(answer).all()
        repr(found), found._repr_html_(), found.novelty_threshold
        found.to_bytes()
    except BottleneckError:
        return


def _with_description(text: bytes) -> bytes:
    """The tensors of a good probe with this JSON, and a digest that fits where it is JSON."""
    said = text.decode("utf-8", "replace")
    arrays = load(_GOOD)
    try:
        description = json.loads(said)
        description.pop("blake3", None)
        description["blake3"] = probe_format.digest(description, arrays)
        said = json.dumps(description)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError, BottleneckError):
        pass
    return save(arrays, {"bottleneck": said})


def seeds() -> list[bytes]:
    """Good probes of two versions, a description, and numbers for the forger."""
    return [b"\0" + _GOOD, b"\0" + _OLD, b"\2" + _TEXT, *(bytes([1, i]) for i in range(40)), b"\3a"]
