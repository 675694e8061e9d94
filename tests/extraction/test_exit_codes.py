"""How `bottleneck extract` ends where something is wrong: exit code, message, and what is left."""

import errno
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import bottleneck_probe as bp
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import checks, media, shards
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.engines import onnx
from bottleneck_probe.extraction import lane
from click.testing import CliRunner
from common import flip, offset
from safetensors.numpy import save_file


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "x.h5"


@pytest.fixture
def extract(calls, output):
    """Runs the command; its exit code, its JSON reply and what it said to people."""

    def extract_(root, **options):
        calls.forwards = 0
        stated = {"backbone": "stub", "engine": "eager", "batch_size": 4, **options}
        words = [w for name, v in stated.items() for w in (f"--{name.replace('_', '-')}", str(v))]
        done = CliRunner().invoke(
            bottleneck, ["extract", str(root), "-o", str(output), *words, "--json"]
        )
        reply = json.loads(done.stdout)
        assert reply["exit_code"] == done.exit_code
        assert "Traceback" not in done.stderr
        if done.exit_code in (0, 3):
            assert reply["computed"] + reply["reused"] + reply["quarantined"] == reply["seen"]
        return done.exit_code, reply, done.stderr

    return extract_


def left(output):
    """All files at the output and in its parts, with their bytes; the lock is always an empty one."""
    found = [path for path in output.parent.rglob("*") if path.is_file()]
    return {path.name: path.read_bytes() for path in found}


# --- 1, and the file stays as it was ------------------------------------------------------------------


def _another_field(patch, calls, output, stated):
    return {"resize": 9}, ["preprocessing.resize  8 there, 9 here", "-o "]


def _another_weights_file(patch, calls, output, stated):
    """Of one name and length, with one bit that differs."""
    old = stated["weights"]
    new = output.parent / "run1" / old.name
    new.parent.mkdir()
    shutil.copy(old, new)
    flip(new, -1)
    return {"weights": new}, ["weights_sha256", " there, ", " here", "-o "]


def _another_library(patch, calls, output, stated):
    real = lane.version
    patch.setattr(lane, "version", lambda name: "99.0" if name == "pillow" else real(name))
    calls.scale = 0.9
    return {}, ["environment changed: pillow", "-> 99.0", "nothing was written", str(output)]


def _an_absent_device(patch, calls, output, stated):
    return {"device": "cuda:0"}, ["cuda:0 is not there", "--device cpu"]


def _an_absent_engine(patch, calls, output, stated):
    patch.setattr(onnx, "installed_packages", dict)
    return {"engine": "onnx"}, ["onnxruntime is not installed", "--engine onnx", "pip install"]


def _a_disk_too_small(patch, calls, output, stated):
    patch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=1000))
    return {}, ["disk full: needs", f"has 1.0 kB at {output.parent}"]


def _one_image_too_many_for_the_memory(patch, calls, output, stated):
    def on_call(calls):
        raise MemoryError

    calls.on_call = on_call
    return {}, ["has not enough memory for batches of 1", "--device cpu"]


def _a_disk_that_fails(patch, calls, output, stated):
    def unreadable(*arguments, **options):
        raise OSError(errno.EIO, "Input/output error")

    patch.setattr(checks, "_hdf5", unreadable)
    return {}, [f"{output} cannot be read", "EIO"]


def _a_flipped_bit(patch, calls, output, stated):
    flip(output, offset(output, "features"))
    return {}, [f"{output} is damaged: features, rows"]


NOTHING_WRITTEN = [
    _another_field,
    _another_weights_file,
    _another_library,
    _an_absent_device,
    _an_absent_engine,
    _a_disk_too_small,
    _one_image_too_many_for_the_memory,
    _a_disk_that_fails,
    _a_flipped_bit,
]


@pytest.mark.parametrize("fault", NOTHING_WRITTEN, ids=lambda fault: fault.__name__[1:])
def test_1_where_nothing_may_be_written(fault, extract, photos, output, calls, tmp_path):
    root = photos(6)
    stated = {}
    if fault is _another_weights_file:
        stated = {"weights": tmp_path / "run0" / "best.safetensors"}
        stated["weights"].parent.mkdir()
        save_file({"w": np.arange(8, dtype=np.float32)}, stated["weights"])
    assert extract(root, **stated)[0] == 0
    photos(3, first=50)
    with pytest.MonkeyPatch.context() as patch:
        options, words = fault(patch, calls, output, stated)
        before = left(output)
        code, reply, _ = extract(root, **{**stated, **options})
    assert code == 1
    error = reply["error"]
    assert error["what"]
    assert error["where"]
    assert error["next"]
    for word in words:
        assert word in " ".join(error.values())
    after = left(output)
    if fault is _a_flipped_bit:  # found when the file is written anew: what was computed is kept
        assert [name for name in set(after) - set(before) if not name.endswith(".h5")] == []
        after = {name: after[name] for name in before}
    assert after == before


# --- 1, and what was finished stays -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk full: needs "),
        (errno.EDQUOT, "over quota"),
        (errno.EFBIG, "ulimit"),
        (errno.EIO, "EIO"),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_1_where_the_disk_fails_in_the_middle(
    call, number, words, extract, photos, output, monkeypatch
):
    """Of three shards the second cannot be written; a failed fsync is not tried again."""
    root = photos(12)
    monkeypatch.setattr(shards, "SEAL_AT_BYTES", 1)  # a shard for each batch
    failed = []
    real_open, real_call, temporary = os.open, getattr(os, call), {}

    def open_(path, *arguments, **options):
        descriptor = real_open(path, *arguments, **options)
        temporary.pop(descriptor, None)
        if str(path).endswith(".tmp") and list(output.parent.glob("x.h5.parts/*.h5")):
            temporary[descriptor] = path
        return descriptor

    def fail(descriptor, *arguments):
        if descriptor in temporary:
            failed.append(temporary[descriptor])
            raise OSError(number, os.strerror(number))
        return real_call(descriptor, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(media, "fcntl", None)  # on macOS it is the one that syncs
        patch.setattr(os, "open", open_)
        patch.setattr(os, call, fail)
        code, reply, _ = extract(root)
    assert code == 1
    told = " ".join(reply["error"].values())
    assert words in told
    assert f"in {call}" in told
    assert str(output.parent) in told
    assert failed
    assert call == "write" or len(failed) == len(set(failed))
    assert not output.exists()
    assert sorted(name[-3:] for name in left(output)) == [".h5", "ock"]
    code, reply, _ = extract(root)
    assert (code, reply["resumed"], reply["computed"]) == (0, 4, 8)


READ_ONLY = """
import sys
from bottleneck_probe.cli.main import main
try:
    main()
finally:
    assert "torch" not in sys.modules
"""


def _obey_permissions():
    """Root no longer may read and write what its permissions forbid (Linux)."""
    import ctypes

    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_1_where_the_folder_is_read_only_before_a_network_is_loaded(stub, photos, tmp_path):
    is_root = os.geteuid() == 0
    if is_root and sys.platform != "linux":
        pytest.skip("no permission stops root here")
    out = tmp_path / "out"
    out.mkdir(0o555)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, "extract", photos(2), "-o", out / "x.h5", "--json"],
        preexec_fn=_obey_permissions if is_root else None,
        capture_output=True,
        check=False,
    )
    assert not list(out.iterdir())
    assert done.returncode == 1, done.stderr
    error = json.loads(done.stdout)["error"]
    assert f"no permission to write {out / 'x.h5'}" in error["what"]
    assert error["where"]
    assert error["next"]


# --- 3: a file that cannot be used is in the quarantine, with its reason -------------------------------


def _an_error_of_the_disk(patch, path):
    real = os.open

    def open_(name, *arguments, **options):
        if os.fspath(name) == str(path):
            raise OSError(errno.EIO, "Input/output error")
        return real(name, *arguments, **options)

    patch.setattr(os, "open", open_)
    return "cannot be read: EIO, Input/output error"


def _a_file_that_changes_all_the_time(patch, path):
    real, number = os.fstat, path.stat().st_ino

    def fstat(descriptor):
        found = real(descriptor)
        if found.st_ino == number:
            os.utime(path, ns=(1, found.st_mtime_ns + 1_000_000_000))
        return found

    patch.setattr(os, "fstat", fstat)
    return "changed while read"


def _a_broken_link(patch, path):
    path.unlink()
    path.symlink_to(path.with_name("gone.png"))
    return "broken link"


BAD = [_an_error_of_the_disk, _a_file_that_changes_all_the_time, _a_broken_link]


@pytest.mark.skipif(os.name != "posix", reason="links, and times of open files, as POSIX has them")
@pytest.mark.parametrize("fault", BAD, ids=lambda fault: fault.__name__[1:])
def test_3_where_one_image_cannot_be_read(fault, extract, photos, output, monkeypatch):
    root = photos(6)
    with monkeypatch.context() as patch:
        reason = fault(patch, root / "ants" / "00002.png")
        code, reply, _ = extract(root)
    assert (code, reply["computed"], reply["quarantined"]) == (3, 5, 1)
    features = bp.open(output)
    assert features.quarantine == [("ants/00002.png", reason)]
    assert len(features) == 5


# --- 0, and it is told --------------------------------------------------------------------------------


def test_0_where_a_batch_is_halved_until_it_fits(extract, photos, output, calls, stub):
    def on_call(calls):
        if calls.choices[-1].batch_size > 5:
            raise MemoryError

    calls.on_call = on_call
    code, reply, said = extract(photos(40), batch_size=16)
    assert (code, reply["computed"]) == (0, 40)
    for size in (16, 8):
        assert f"{size} images do not fit into the memory" in said
    assert "4 images do not fit" not in said
    features = bp.open(output)
    wanted = [stub.feature_of(int(path[-9:-4])) for path in features.paths]
    np.testing.assert_array_equal(features.features[:], wanted)


def test_0_where_another_recipe_has_left_parts_and_they_stay(extract, photos, output, stub):
    """Named, never merged, never removed: its own run may still go on."""
    root = photos(6)
    parts = output.with_name("x.h5.parts")
    foreign = shards.Shards(parts, "ab" * 32, recipe={"backbone": "another"})
    same = [blake3(path.read_bytes()).digest() for path in sorted(root.rglob("*.png"))[:5]]
    keys = np.frombuffer(b"".join(same), np.uint8).reshape(5, 32)
    foreign.append(keys, np.full((5, stub.D), 7, np.float32))
    kept = foreign.seal()
    code, reply, said = extract(root)
    assert (code, reply["computed"], reply["resumed"]) == (0, 6, 0)
    assert "also holds 5 finished rows of recipe ababab" in said
    assert list(parts.iterdir()) == [kept]
    features = bp.open(output)
    wanted = [stub.feature_of(int(path[-9:-4])) for path in features.paths]
    np.testing.assert_array_equal(features.features[:], wanted)
