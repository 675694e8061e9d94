"""What is left of a damaged file is looked at part by part, and nothing outside it."""

import itertools
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import examination, scanning, structure
from bottleneck_probe.cache.examining import examine
from common import flip

pytestmark = pytest.mark.usefixtures("examined_here")


def address(path, name):
    """Where the head of a group or dataset lies."""
    with h5py.File(path) as h5:
        return h5py.h5o.get_info(h5[name].id).addr


def in_doubt(found):
    return {name: scan.fault for name, scan in found.scans.items() if scan.fault}


def test_a_whole_file_is_examined_whole_and_its_features_last(layered):
    path, _, _ = layered()
    found = examine(path)
    assert (found.faults, in_doubt(found)) == ([], {})
    assert (found.vouched, found.sound_attributes) == (True, True)
    assert all(scan.vouched for scan in found.scans.values())
    assert found.attributes["root"] == "/data/ants"
    names = list(found.scans)
    assert names[-4] == "features"
    assert all(name.startswith("layers/") for name in names[-3:])
    assert {"paths", "keys", "meta/folder", "quarantine/reasons"} <= set(names[:-4])


def soft(h5, folder):
    h5["a"] = h5py.SoftLink("/labels")


def outside(h5, folder):
    h5.create_group("a")["b"] = h5py.ExternalLink(str(folder / "secret.h5"), "keys")


def twice(h5, folder):
    h5["later"] = h5["keys"]


def deep(h5, folder):
    h5.create_group("/".join("a" * (structure.DEPTH + 2)))["x"] = np.arange(3)


def a_named_type(h5, folder):
    h5["kind"] = np.dtype("i4")


@pytest.mark.parametrize(
    ("change", "faults"),
    [
        (soft, ["a points outside the file or at another place in it"]),
        (outside, ["a/b points outside the file or at another place in it"]),
        (twice, ["later stands twice in the file"]),
        (deep, [f"{'a/' * (structure.DEPTH + 1)} is nested too deep"]),
        (a_named_type, []),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_must_not_be_followed_is_named_and_the_rest_examined(
    written, tmp_path, change, faults
):
    path, _, _ = written()
    names = set(examine(path).scans)
    with h5py.File(path, "r+") as h5:
        change(h5, tmp_path)
    found = examine(path)
    assert found.faults == faults
    assert set(found.scans) == names
    assert in_doubt(found) == {}


def test_a_dataset_that_cannot_be_as_it_says_is_not_read(written, tmp_path):
    path, _, _ = written()
    (tmp_path / "secret").write_bytes(b"s" * 320)
    with h5py.File(path, "r+") as h5:
        del h5["keys"], h5["labels"]
        h5.create_dataset("labels", (10,), "i4")
        external = [(str(tmp_path / "secret"), 0, 320)]
        h5.create_dataset("keys", (10, 32), "u1", external=external)
        h5["one"] = 5
    doubts = in_doubt(examine(path))
    assert doubts.pop("labels") == f"{path}: labels was declared, but never written in full"
    assert doubts.pop("keys") == f"{path}: keys points outside the file"
    assert doubts.pop("one").startswith("it cannot be read (")  # a number has no rows
    assert doubts == {}


def test_a_group_or_a_dataset_whose_head_is_damaged_costs_no_other(written):
    path, _, _ = written()
    flip(path, address(path, "labels"))
    whole = path.read_bytes()
    nodes = [at for at in range(len(whole)) if whole[at : at + 4] == b"SNOD"]
    at = min(at for at in nodes if at > address(path, "quarantine"))
    flip(path, at)
    found = examine(path)
    assert [fault.partition(" (")[0] for fault in found.faults] == ["quarantine cannot be listed"]
    assert in_doubt(found).keys() == {"labels"}
    assert found.scans["labels"].fault.startswith("it cannot be opened (")
    assert {"keys", "meta/folder", "features"} <= found.scans.keys()
    assert found.vouched


def test_a_root_that_is_damaged_is_told(written):
    path, _, _ = written()
    flip(path, path.read_bytes().index(b"SNOD"))
    found = examine(path)
    assert found.scans == {}
    assert [fault.partition(" (")[0] for fault in found.faults] == ["HDF5 cannot open it"]


def without(h5, secret):
    pass


def in_another_file(h5, secret):
    right = h5.attrs["right"]
    secret.write_bytes(right.tobytes())
    external = [(str(secret), 0, 32)]
    h5.create_dataset("checksums/keys", (1, 32), "u1", external=external).attrs["rows"] = 4096


def linked(h5, secret):
    h5["checksums/mine"] = h5.attrs["right"]
    h5["checksums/mine"].attrs["rows"] = 4096
    h5["checksums/keys"] = h5py.SoftLink("/checksums/mine")


def a_group(h5, secret):
    h5.create_group("checksums/keys")


def no_group(h5, secret):
    del h5["checksums"]
    h5["checksums"] = h5.attrs["right"]


def of_another_shape(h5, secret):
    h5["checksums/keys"] = h5.attrs["right"][0]
    h5["checksums/keys"].attrs["rows"] = 4096


def of_no_rows(h5, secret):
    h5["checksums/keys"] = h5.attrs["right"]


def of_negative_rows(h5, secret):
    h5["checksums/keys"] = h5.attrs["right"]
    h5["checksums/keys"].attrs["rows"] = -4096


def of_rows_in_a_list(h5, secret):
    h5["checksums/keys"] = h5.attrs["right"]
    h5["checksums/keys"].attrs["rows"] = [4096]


def unreadable(h5, secret):
    options = {"chunks": (1, 32), "compression": "gzip"}
    sums = h5.create_dataset("checksums/keys", data=h5.attrs["right"], **options)
    sums.attrs["rows"] = 4096
    h5.flush()
    broken.append(sums.id.get_chunk_info(0).byte_offset)


broken: list[int] = []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (without, "it has no checksums"),
        (
            in_another_file,
            "its checksums cannot be read (checksums/keys points outside the file)",
        ),
        (linked, "it has no checksums"),
        (a_group, "it has no checksums"),
        (no_group, "it has no checksums"),
        (of_another_shape, "its checksums are no (m, 32) uint8"),
        (of_no_rows, "its checksums do not say of how many rows each is"),
        (of_negative_rows, "its checksums do not say of how many rows each is"),
        (of_rows_in_a_list, "its checksums do not say of how many rows each is"),
        (unreadable, "its checksums cannot be read ("),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_only_checksums_of_the_file_itself_vouch_for_a_dataset(written, tmp_path, change, fault):
    path, _, _ = written()
    broken.clear()
    with h5py.File(path, "r+") as h5:
        h5.attrs["right"] = h5["checksums/keys"][()]
        del h5["checksums/keys"]
        change(h5, tmp_path / "secret")
    for at in broken:
        data = bytearray(path.read_bytes())
        data[at : at + 8] = b"\xff" * 8
        path.write_bytes(data)
    scan = examine(path).scans["keys"]
    assert scan.fault.startswith(fault)
    assert fault.endswith("(") or scan.fault == fault
    assert not scan.vouched
    assert not scan.good_rows().any()


def test_attributes_without_a_digest_are_told(written):
    path, _, _ = written()
    with h5py.File(path, "r+") as h5:
        del h5["checksums/attributes"], h5.attrs["root"]
    found = examine(path)
    assert found.faults == [
        "the root attribute root is missing",
        "of the root attributes: it has no checksums",
    ]
    assert found.sound_attributes is None
    with h5py.File(path, "r+") as h5:
        del h5["checksums"]
    assert examine(path).faults == [
        "the root attribute root is missing",
        "the group checksums is missing, which every file of this program has",
    ]


def test_what_is_left_out_is_not_looked_at(written):
    path, _, _ = written()
    said: list[dict] = []
    examination.examine_here(path, said.append, frozenset({"keys", "features", examination.ROOT}))
    begun = [line["name"] for line in said if line["kind"] == "begin"]
    assert begun == [line["scan"]["name"] for line in said if line["kind"] == "scan"]
    assert not {"keys", "features", examination.ROOT} & set(begun)
    assert {"paths", "labels"} <= set(begun)
    assert all(line["kind"] != "rest" for line in said)


def test_bytes_are_reported_now_and_then(written, monkeypatch):
    """So that whoever waits knows a slow disk from a hang."""
    path, X, _ = written(n=300)
    times = itertools.count(step=0.6)
    monkeypatch.setattr(examination, "time", SimpleNamespace(monotonic=times.__next__))
    monkeypatch.setattr(scanning, "SPAN_BYTES", 1)  # a block of 64 rows at a time
    told: list[int] = []
    found = examine(path, told.append)
    assert found.faults == []
    assert X[:128].nbytes in told  # after 1.2 s, and not after 0.6
    assert X[:64].nbytes not in told
    assert sum(told) <= sum(scan.n_bytes for scan in found.scans.values())
    assert examine(path).scans == found.scans  # also if nobody wants to know
