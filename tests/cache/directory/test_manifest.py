"""``manifest.json`` from anywhere: it is what it says, or there is one clear error."""

import importlib.util
import json
from pathlib import Path

import pytest
from blake3 import blake3
from bottleneck_probe.cache.directory.decoding import decode
from bottleneck_probe.cache.directory.manifest import Manifest, Shard, encode
from bottleneck_probe.cache.layout import Header
from bottleneck_probe.errors import BottleneckError, CacheError
from bottleneck_probe.recipe import canonical_json, fingerprint
from hypothesis import given, settings
from hypothesis import strategies as st

RECIPE = {"modality": "image", "outputs": [{"node": "penultimate", "pooling": "none"}]}
PRINT = fingerprint(RECIPE, RECIPE["outputs"][0])


def shard(number=0, **changes):
    digest = blake3(bytes([number])).hexdigest()
    told = {
        "name": f"{digest[:32]}.h5",
        "bytes": 9000,
        "blake3": digest,
        "rows": 9,
        "fingerprint": PRINT,
        "content": "c",
        "meta": ("age",),
        "dead": ((2, 4), (8, 9)),
    }
    return Shard(**{**told, **changes})


def manifest(*shards):
    header = Header(RECIPE, {"engine": "onnx"}, PRINT, "/photos", "float32", "")
    meta = (("age", "number"), ("site", "text"))
    return Manifest(header, ["ants", "bees"], shards or (shard(),), meta, phash=True)


def test_a_manifest_is_read_as_it_was_written():
    wanted = manifest(shard(0), shard(1, dead=()))
    found = decode(encode(wanted), "x/")
    assert found.rows == 6 + 9
    assert encode(found) == encode(wanted)
    assert found.shards == wanted.shards
    assert (found.meta, found.classes, found.phash) == (wanted.meta, wanted.classes, True)


def changed(**changes):
    """A manifest with other values and a checksum that fits."""
    found = json.loads(encode(manifest()))
    del found["checksum"]
    found["shards"][0].update({k[6:]: v for k, v in changes.items() if k.startswith("shard_")})
    found.update({k: v for k, v in changes.items() if not k.startswith("shard_")})
    found = {k: v for k, v in found.items() if v != "absent"}
    found["checksum"] = blake3(canonical_json(found)).hexdigest()
    return canonical_json(found)


ONE = json.loads(encode(manifest()))["shards"][0]
HOSTILE = {
    "up": ({"shard_name": "../../etc/passwd"}, "no name of a file"),
    "absolute": ({"shard_name": "/etc/passwd"}, "no name of a file"),
    "inside": ({"shard_name": f"a/{ONE['name']}"}, "no name of a file"),
    "hidden": ({"shard_name": ".lock"}, "no name of a file"),
    "stream": ({"shard_name": ONE["name"] + ":x"}, "no name of a file"),
    "newline": ({"shard_name": ONE["name"] + "\n"}, "no name of a file"),
    "nul": ({"shard_name": ONE["name"][:-1] + "\0"}, "no name of a file"),
    "other name": ({"shard_name": "0" * 32 + ".h5"}, "no name of a file"),
    "name is a number": ({"shard_name": 7}, "name is 7"),
    "no digest": ({"shard_blake3": "zz"}, "not 64 hexadecimal digits"),
    "twice": ({"shards": [ONE, ONE], "rows": 12}, "lists a file twice"),
    "none": ({"shards": [], "rows": 0}, "0 shards"),
    "no list": ({"shards": {}}, "shards is {}"),
    "no object": ({"shards": [7]}, "7 stands where a file is described"),
    "huge rows": ({"shard_rows": 2**52}, "cannot have"),
    "more than fit": ({"shard_rows": 282, "shard_dead": []}, "cannot have 282 rows"),
    "beyond 53 bits": ({"shard_rows": 10**30}, "rows is 1000000000000"),
    "no rows": ({"shard_rows": 0}, "rows is 0"),
    "negative": ({"shard_bytes": -1}, "bytes is -1"),
    "true": ({"shard_rows": True}, "rows is True"),
    "a fraction": ({"shard_rows": 1.5}, "rows is 1.5"),
    "dead backwards": ({"shard_dead": [[4, 2]]}, "out of order"),
    "dead overlap": ({"shard_dead": [[0, 4], [3, 5]]}, "out of order"),
    "dead beyond": ({"shard_dead": [[8, 10]]}, "out of order"),
    "dead nothing": ({"shard_dead": [[4, 4]]}, "out of order"),
    "dead words": ({"shard_dead": [["a", 2]]}, "no run of rows"),
    "all dead": ({"shard_dead": [[0, 9]]}, "no row of"),
    "other count": ({"rows": 7}, "have 6 rows, not 7"),
    "classes twice": ({"classes": ["ants", "ants"]}, "byte order"),
    "classes of numbers": ({"classes": [1]}, "not all text"),
    "column kind": ({"meta": [["age", "blob"]]}, "blob"),
    "no column": ({"meta": ["age"]}, "'age' is no column"),
    "column of three": ({"meta": [["age", "text", 7]]}, "is no column"),
    "column of a number": ({"meta": [[7, "text"]]}, "is no column"),
    "column twice": ({"meta": [["age", "text"], ["age", "text"]]}, "column twice"),
    "task": ({"task": "poetry"}, "poetry"),
    "other recipe": ({"recipe": {**RECIPE, "modality": "audio"}}, "does not belong to the recipe"),
    "no outputs": ({"recipe": {}}, "no outputs"),
    "store": ({"store": "float64"}, "float64"),
    "lists up": (
        {"lists": {"name": "../x.json", "bytes": 5, "blake3": "0" * 64}},
        "no name of a file",
    ),
    "shard of another": ({"shard_fingerprint": "0" * 64}, "expected: that of the directory"),
    "no classes": ({"classes": "absent"}, "lacks classes"),
    "newer": ({"format_version": 2}, "format version 2, this reads 1"),
    "no version": ({"format_version": "absent"}, "no format version"),
    "no format": ({"format": "zip"}, "is not that of a directory"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_manifest_is_told(name):
    changes, words = HOSTILE[name]
    with pytest.raises(CacheError) as caught:
        decode(changed(**changes), "x/")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 600


def test_only_a_newer_version_asks_for_an_upgrade():
    for version, asked in ((2, True), (0, False), ("1", False), (True, False)):
        with pytest.raises(CacheError) as caught:
            decode(changed(format_version=version), "x/")
        assert ("--upgrade" in str(caught.value)) is asked


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"7", b"null", b'{"a": NaN}', b"\xff", b"[" * 99999]
)
def test_what_is_no_json_object_is_told(data):
    with pytest.raises(CacheError, match=r"manifest\.json"):
        decode(data, "x/")


@pytest.mark.parametrize("value", [b"1e999", b'"\\ud800"'], ids=["infinite", "half a character"])
def test_what_no_checksum_can_cover_is_told(value):
    """JSON can say it, and a manifest that was written never does."""
    data = encode(manifest()).replace(b'"/photos"', value)
    with pytest.raises(CacheError, match="it holds what no manifest does"):
        decode(data, "x/")


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_any_flipped_bit_is_found(draw):
    """All of it is covered: a root or a class that changed would be believed otherwise."""
    data = bytearray(encode(manifest()))
    place = draw.draw(st.integers(0, len(data) - 2))  # but the newline at the end
    data[place] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(CacheError, match="x/"):
        decode(bytes(data), "x/")


def fuzz_target():
    path = Path(__file__).parents[2] / "fuzz" / "targets" / "manifest.py"
    spec = importlib.util.spec_from_file_location("fuzz_manifest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FUZZ = fuzz_target()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(seed=st.sampled_from(FUZZ.seeds()[:2]), draw=st.data())
def test_any_value_anywhere_gets_an_answer(seed, draw):
    """The target of the fuzzer, with values that are JSON."""
    found = json.loads(seed)
    holder = draw.draw(
        st.sampled_from([found, found["shards"][0], found["lists"], found["recipe"]])
    )
    holder[draw.draw(st.sampled_from(sorted(holder)))] = draw.draw(JSON)
    FUZZ.target(json.dumps(found).encode())


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_get_an_answer(data):
    FUZZ.target(data)
    with pytest.raises(BottleneckError):
        decode(data, "x/")
