"""``manifest.json``: any bytes are a manifest that is written back as it was, or one of our errors."""

import json

from blake3 import blake3
from bottleneck_probe.cache.directory.decoding import decode
from bottleneck_probe.cache.directory.manifest import encode
from bottleneck_probe.errors import BottleneckError
from bottleneck_probe.recipe import canonical_json


def target(data: bytes) -> None:
    """Decode `data` as it is, and with a checksum that fits, so that what follows is reached."""
    for each in (data, _with_checksum(data)):
        try:
            manifest = decode(each, "fuzzed/")
        except BottleneckError:
            continue
        again = decode(encode(manifest), "fuzzed/")
        assert again.shards == manifest.shards
        assert again.header.recipe == manifest.header.recipe


def seeds() -> list[bytes]:
    """Manifests to begin with: a small one, and one that uses every member."""
    recipe = {"modality": "image", "outputs": [{"node": "penultimate", "pooling": "none"}]}
    shard = {"blake3": "0" * 64, "name": f"{'0' * 32}.h5", "bytes": 9000, "rows": 9}
    whole = {
        "format": "bottleneck-directory",
        "format_version": 1,
        "created_by": "tests",
        "recipe": recipe,
        "environment": {},
        "fingerprint": _fingerprint(recipe),
        "root": "/photos",
        "store": "float32",
        "rows": 8,
        "classes": ["ants", "bees"],
        "task": "classification",
        "meta": [["age", "number"], ["site", "text"]],
        "phash": True,
        "lists": {"blake3": "1" * 64, "name": f"{'1' * 32}.json", "bytes": 100},
        "shards": [
            {
                **shard,
                "fingerprint": _fingerprint(recipe),
                "content": "2" * 64,
                "meta": ["age"],
                "dead": [[2, 3]],
            }
        ],
    }
    return [canonical_json(whole), _with_checksum(canonical_json(whole)), b"{}"]


def _fingerprint(recipe: dict) -> str:
    from bottleneck_probe.recipe import fingerprint

    return fingerprint(recipe, recipe["outputs"][0])


def _with_checksum(data: bytes) -> bytes:
    try:
        found = json.loads(data)
        if not isinstance(found, dict):
            return data
        found.pop("checksum", None)
        found["checksum"] = blake3(canonical_json(found)).hexdigest()
        return canonical_json(found)
    except (ValueError, RecursionError, OverflowError, BottleneckError):
        return data
