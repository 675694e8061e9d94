"""The quarantine of a directory: written anew only when it says more, refused where it is none."""

from dataclasses import replace

import bottleneck_probe as bp
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import directory
from bottleneck_probe.cache.directory.lists import Lists, load, store
from bottleneck_probe.cache.directory.manifest import Part, encode
from bottleneck_probe.cache.index import FileIndex
from bottleneck_probe.cache.storage import LocalStorage
from bottleneck_probe.recipe import canonical_json

STATUS = [[9, 5, 5, 7]]
YOUNG = {"time_ns": 5, "grain_ns": 1}  # the files were changed while they were read
INDEX = FileIndex(
    files=np.empty((0, 4), np.int64),
    quarantine=np.array(STATUS),
    quarantine_keys=np.full((1, 32), 1, np.uint8),
    ignored_paths=["notes"],
    ignored=np.array(STATUS) + [0, 1, 1, 1],
    time_ns=100,
    grain_ns=10,
    decoders={"pillow": "13.0.0"},
)
LISTS = Lists([("bad.jpg", "truncated")], INDEX)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, True),
        ({"time_ns": 200}, True),
        ({"decoders": {"pillow": "13.1.0"}}, False),
        ({"ignored_paths": ["other"]}, False),
        ({"quarantine_keys": np.full((1, 32), 2, np.uint8)}, False),
        ({"quarantine": np.array(STATUS) + [1, 0, 0, 0]}, False),
        ({"ignored": np.array(STATUS)}, False),
        ({"quarantine": np.full((1, 4), -1)}, True),
        (YOUNG, True),
    ],
    ids=["same", "later", "decoders", "paths", "keys", "quarantine", "ignored", "less", "young"],
)
def test_lists_that_say_no_more_need_not_be_written(changes, says):
    assert LISTS.knows(Lists(LISTS.quarantine, replace(INDEX, **changes))) is says


def test_what_was_too_young_to_be_sure_of_is_written_once_it_is_not():
    assert not Lists(LISTS.quarantine, replace(INDEX, **YOUNG)).knows(LISTS)
    assert LISTS.knows(Lists(LISTS.quarantine))
    assert not Lists(LISTS.quarantine).knows(LISTS)
    assert not LISTS.knows(Lists([("bad.jpg", "empty")], INDEX))


def test_they_are_read_as_they_were_written(tmp_path):
    storage = LocalStorage(tmp_path)
    found = load(store(LISTS, storage), storage)
    assert found.knows(LISTS)
    assert LISTS.knows(found)
    assert found.index.decoders == INDEX.decoders
    assert store(Lists(), storage) is None


WHOLE = {"quarantine": [["bad.jpg", "truncated"]], "stat": None}
STAT = {
    "quarantine": STATUS,
    "quarantine_keys": ["01" * 32],
    "ignored_paths": [],
    "ignored": [],
    "clock": [100, 10],
    "decoders": {},
}


@pytest.mark.parametrize(
    "told",
    [
        [],
        {},
        {"quarantine": [["bad.jpg"]]},
        {"quarantine": [["bad.jpg", 7]]},
        {**WHOLE, "stat": []},
        *({**WHOLE, "stat": {k: v for k, v in STAT.items() if k != name}} for name in STAT),
        {**WHOLE, "stat": {**STAT, "quarantine": []}},
        {**WHOLE, "stat": {**STAT, "quarantine_keys": ["01"]}},
        {**WHOLE, "stat": {**STAT, "ignored_paths": [7]}},
        {**WHOLE, "stat": {**STAT, "clock": [100, 10.5]}},
        {**WHOLE, "stat": {**STAT, "clock": [True, 10]}},
        {**WHOLE, "stat": {**STAT, "quarantine": [[9, 5, 5, 1 << 63]]}},
        {**WHOLE, "stat": {**STAT, "decoders": {"pillow": 13}}},
        {**WHOLE, "stat": {**STAT, "decoders": []}},
    ],
)
def test_what_is_no_quarantine_is_an_error_and_a_fault(tmp_path, told):
    """Named by its content and listed by a manifest: everything is right but what it says."""
    folder = tmp_path / "many"
    bp.Features.from_arrays(np.eye(2)).save(f"{folder}/")
    storage = LocalStorage(folder)
    data = canonical_json(told)
    digest = blake3(data).hexdigest()
    part = Part(f"{digest[:32]}.json", len(data), digest)
    (folder / part.name).write_bytes(data)
    storage.put("manifest.json", encode(replace(directory.load(storage), lists=part)))
    with pytest.raises(bp.CacheError, match="is not what a quarantine looks like"):
        bp.open(folder)
    ((name, fault),) = directory.check(storage).faults
    assert name == part.name
    assert "is not what a quarantine looks like" in fault
