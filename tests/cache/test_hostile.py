"""Files made to do harm: refused in plain words, in bounded memory, and no other file is opened."""

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path

import bottleneck_probe as bp
import h5py
import numpy as np
import pytest
from bottleneck_probe.cache import checks, structure
from bottleneck_probe.errors import CacheError

KEPT = Path(__file__).parents[1] / "kept"


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(checks, "_whole", type(checks._whole)())


def replace(h5, name, data=None, **options):
    del h5[name]
    return h5.create_dataset(name, data=data, **options)


def chunk_bomb(h5):
    """540 KB of file, 2 GB for the first row: a chunk is unpacked whole."""
    sides = {"shape": (10, 32), "maxshape": (None, None), "chunks": (1 << 19, 1024)}
    replace(h5, "keys", dtype="u1", compression="gzip", **sides)[:] = 1


def many_texts_of_one(h5):
    """All entries of a column are one long text: 4,096 of them would be 400 MB."""
    rows = len(h5["paths"])
    column = replace(h5, "splits", dtype=h5py.string_dtype(), shape=(rows,))
    column[0] = "x" * 100_000
    for row in range(1, rows):
        column[row] = "y"
    h5.flush()
    start = column.id.get_offset()
    entry = column.id.get_storage_size() // rows
    path = h5.filename
    h5.close()
    with open(path, "r+b") as file:
        file.seek(start)
        first = file.read(entry)
        file.seek(start)
        file.write(first * rows)


def many_texts_of_one_in_chunks(h5):
    """The same, where the lengths cannot be added up before they are followed."""
    rows = len(h5["paths"])
    column = replace(h5, "splits", dtype=h5py.string_dtype(), shape=(rows,), chunks=(rows,))
    column[0] = "x" * 100_000
    for row in range(1, rows):
        column[row] = "y"
    h5.flush()
    info = column.id.get_chunk_info(0)
    path = h5.filename
    h5.close()
    with open(path, "r+b") as file:
        file.seek(info.byte_offset)
        first = file.read(16)
        file.seek(info.byte_offset)
        file.write(first * rows)


def many_texts_in_more_room_than_they_need(h5):
    """The same, and the file declares more bytes for them, so that most of these are no lengths."""
    path = h5.filename
    room = len(h5["paths"]) * 16
    h5["zeros"] = np.zeros(room * 150, np.uint8)
    zeros = h5["zeros"].id.get_offset()
    many_texts_of_one(h5)
    with h5py.File(path) as h5:
        start, at = h5["splits"].id.get_offset(), h5py.h5o.get_info(h5["splits"].id).addr
    data = bytearray(Path(path).read_bytes())
    data[zeros : zeros + room] = data[start : start + room]
    declared = data.index(struct.pack("<QQ", start, room), at)
    data[declared : declared + 16] = struct.pack("<QQ", zeros, room * 150)
    Path(path).write_bytes(data)
    with h5py.File(path) as h5:
        assert sum(map(len, h5["splits"][:])) == 300 * 100_000  # HDF5 reads it


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (chunk_bomb, r"has chunks of 536\.9 MB for 320 bytes"),
        (many_texts_of_one, r"declares \d+\.\d MB of text in a file of"),
        (many_texts_in_more_room_than_they_need, "splits has entries that are no texts"),
        (many_texts_of_one_in_chunks, "holds more text than fits"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bombs_are_refused_before_they_go_off(written, change, words):
    path, _, _ = written(n=10 if change is chunk_bomb else 300)
    with h5py.File(path, "r+") as h5:
        change(h5)
    with pytest.raises(CacheError, match=words):
        bp.open(path)
    if change is not many_texts_of_one_in_chunks:  # the texts of these have to be unpacked
        with pytest.raises(CacheError, match=words), checks.opened(path, vouched=True):
            pass


def test_columns_that_exceed_the_memory_are_refused(written, monkeypatch):
    path, _, _ = written(n=1000)
    with h5py.File(path, "r+") as h5:
        replace(h5, "keys", np.zeros((1000, 32), np.uint8), compression="gzip")
    monkeypatch.setattr(structure, "physical_memory", lambda: 40_000)
    with pytest.raises(CacheError, match=r"declare \d+\.\d kB, more than this machine's memory"):
        bp.open(path)


def test_bombs_fit_into_512_mb(written, tmp_path):
    """The whole reader under the limit of FAULTS: refused with a message, and not by the system."""
    pytest.importorskip("resource")
    paths = []
    for change in (chunk_bomb, many_texts_of_one):
        path, _, _ = written(n=300, name=f"{change.__name__}.h5")
        with h5py.File(path, "r+") as h5:
            change(h5)
        paths.append(str(path))
    code = """
import resource, sys
import h5py, numpy
import bottleneck_probe as bp
pages = int(open("/proc/self/statm").read().split()[0]) * 4096 if sys.platform == "linux" else 0
resource.setrlimit(resource.RLIMIT_AS, (pages + (512 << 20),) * 2)
for path in sys.argv[1:]:
    try:
        bp.open(path)
    except bp.CacheError as error:
        print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["refused"] * 2, done.stderr


def test_a_pipe_does_not_block(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes with names there")
    os.mkfifo(tmp_path / "x.h5")
    with pytest.raises(CacheError, match="is a pipe"):
        bp.open(tmp_path / "x.h5")
    os.mkfifo(tmp_path / "x.probe")
    with pytest.raises(bp.ProbeError, match="is a pipe"):
        bp.load(tmp_path / "x.probe")
    with pytest.raises(CacheError, match="is a device"):
        bp.open(os.devnull)


def test_the_name_of_the_checksums_is_no_way_around_them():
    """One flipped bit made `checksums` a group that nobody knows; then anything may be flipped."""
    with pytest.raises(CacheError, match="its checksums are gone"):
        bp.open(KEPT / "renamed-checksums.h5")


def test_a_type_that_h5py_does_not_have_is_damage():
    with pytest.raises(CacheError, match="No NumPy equivalent"):
        bp.open(KEPT / "odd-attribute-type.h5")


def test_a_mistake_of_ours_is_not_called_damage(written):
    path, _, _ = written()
    with pytest.raises(TypeError, match="mine"), checks.opened(path):
        raise TypeError("mine")
    with pytest.raises(CacheError, match="damaged"), checks.opened(path) as h5:
        h5["keys"].attrs["missing"]


def test_a_dataset_that_lost_its_name_is_missed(written):
    """In a file without a trailer, where HDF5 itself has no reason to doubt a name."""
    path, _, _ = written()
    for name, other in (("meta/folder", "meta/foldes"), ("quarantine", "quarantinf")):
        with h5py.File(path, "r+") as h5:
            h5.move(name, other)
        with pytest.raises(CacheError, match=f"it has a checksum of {name}.*, and no"):
            bp.open(path)
        with h5py.File(path, "r+") as h5:
            h5.move(other, name)
    bp.open(path)


def test_what_somebody_has_added_is_no_damage(written):
    path, X, _ = written()
    with h5py.File(path, "r+") as h5:
        h5["mine/clusters"] = np.arange(10)
        h5["mine/kind"] = np.dtype("i4")  # a type with a name: neither a group nor values
        h5["meta/site"] = np.arange(10.0)
    found = bp.open(path)
    np.testing.assert_array_equal(found.features, X)
    assert found.meta["site"].tolist() == list(range(10))


def soft(h5, secret):
    h5["keys2"] = h5py.SoftLink("/labels")


def outside(h5, secret):
    h5["later"] = h5py.ExternalLink(str(secret), "keys")


def external_storage(h5, secret):
    replace(h5, "keys", shape=(10, 32), dtype="u1", external=[(str(secret), 0, 320)])


def virtual(h5, secret):
    layout = h5py.VirtualLayout((10, 32), np.uint8)
    layout[:] = h5py.VirtualSource(str(secret), "keys", (10, 32))
    del h5["keys"]
    h5.create_virtual_dataset("keys", layout)


class Watch:
    """Counts how often a file is opened, by anybody, also from C: Linux's inotify."""

    OPEN, NONBLOCK = 0x20, 0x800

    def __init__(self, path):
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "inotify_init1"):
            pytest.skip("no inotify there")
        self.descriptor = library.inotify_init1(self.NONBLOCK)
        watch = library.inotify_add_watch(self.descriptor, os.fsencode(path), self.OPEN)
        if self.descriptor < 0 or watch < 0:
            pytest.skip("inotify is not allowed here")

    def opens(self):
        try:
            data = os.read(self.descriptor, 65536)
        except BlockingIOError:
            return 0
        count = 0
        while data:
            length = struct.unpack("iIII", data[:16])[3]
            data, count = data[16 + length :], count + 1
        return count

    def close(self):
        os.close(self.descriptor)


@pytest.mark.parametrize("change", [soft, outside, external_storage, virtual])
@pytest.mark.parametrize("old", [True, False], ids=["opened", "tried"])
def test_no_other_file_is_opened(written, tmp_path, change, old):
    path, _, _ = written()
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as h5:
        h5["keys"] = np.full((10, 32), 115, np.uint8)
    with h5py.File(path, "r+") as h5:
        change(h5, secret)
    opened: list[str] = []
    watch = Watch(secret)
    try:
        secret.read_bytes()
        assert watch.opens() == 1  # it sees what it is to see
        _listen(opened)
        with pytest.raises(CacheError) as caught:
            bp.open(path) if old else checks.try_out(path)
        assert not watch.opens()
    finally:
        _listen(None)
        watch.close()
    assert set(opened) <= {str(path)}
    assert "sssss" not in str(caught.value)


_heard: list = []


def _listen(into):
    """Let an audit hook, which Python cannot take away again, write to a list or to none."""
    if not _heard:
        sys.addaudithook(_hook)
        _heard.append(None)
    _heard[0] = into


def _hook(event, args):
    if event == "open" and _heard[0] is not None:
        name = str(args[0])
        # Modules are imported meanwhile, and the child is started through pipes and /dev/null.
        if name.startswith(("/tmp", os.path.realpath("/tmp"))) or "pytest" in name:
            _heard[0].append(name)


def test_a_plugin_is_never_loaded(written, tmp_path):
    """A filter that HDF5 has not got is code it would look for; a folder of these is at hand."""
    path, _, _ = written()
    with h5py.File(path, "r+") as h5:
        del h5["keys"]
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_chunk((10, 32))
        creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
        space = h5py.h5s.create_simple((10, 32))
        h5py.h5d.create(h5.id, b"keys", h5py.h5t.STD_U8LE, space, creation)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "libzstd.so").write_bytes(b"\x7fELF")
    code = """
import sys, bottleneck_probe as bp
try:
    bp.open(sys.argv[1])
except bp.CacheError as error:
    print(error.what)
"""
    watch = Watch(plugins / "libzstd.so")
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "HDF5_PLUGIN_PATH": str(plugins)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not watch.opens()
    finally:
        watch.close()
    assert "needs HDF5 filter 32015" in done.stdout, done.stderr


@pytest.fixture
def full(calls, stub, tmp_path):
    """A file of an extraction with all that a file may hold: views, targets, a layer, a quarantine."""
    lines = ["path,sun,rain,age,site"]
    for number in range(6):
        image = stub.paint(tmp_path / "photos" / f"{number}.png", number)
        lines.append(f"{image},{number % 2},{number % 3 % 2},{number}.5,s{number}")
    (tmp_path / "photos" / "torn.png").write_bytes(b"")
    lines.append(f"{tmp_path / 'photos' / 'torn.png'},1,0,9.5,s9")
    (tmp_path / "t.csv").write_text("\n".join(lines))
    options = {"layer": ("penultimate", "double"), "framing": "tiles:1x2", "quiet": True}
    bp.extract(
        tmp_path / "t.csv",
        label_column=["sun", "rain"],
        output=tmp_path / "x.h5",
        backbone="stub",
        **options,
    )
    return tmp_path / "x.h5"


@pytest.mark.parametrize("vouched", [True, False], ids=["with checksums", "without"])
@pytest.mark.parametrize("more", [-1, 1])
def test_a_row_more_or_less_in_any_dataset_is_refused(full, vouched, more, monkeypatch):
    monkeypatch.setattr(checks.child, "require_survived", lambda *arguments: None)
    if not vouched:
        with h5py.File(full, "r+") as h5:
            del h5["checksums"], h5.attrs["created_by"]
    whole, names = full.read_bytes(), []
    with h5py.File(full) as h5:
        h5.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        # An index that makes no sense is as good as none (`test_index`), and an empty column stays.
        besides = ("checksums/", "stat/")
        names = [name for name in names if not name.startswith(besides) and len(h5[name])]
    assert {"features", "keys", "view", "targets", "phash", "layers/double:none"} <= set(names)
    assert {"meta/age", "meta/site", "quarantine/paths", "quarantine/reasons"} <= set(names)
    for name in names:
        full.write_bytes(whole)
        with h5py.File(full, "r+") as h5:
            values, attributes, dtype = h5[name][()], dict(h5[name].attrs), h5[name].dtype
            values = values[:-1] if more < 0 else np.concatenate([values, values[-1:]])
            if h5py.check_string_dtype(dtype):
                values = values.tolist()
            replace(h5, name, values, dtype=dtype).attrs.update(attributes)
        print(name)  # which one it was, where none is raised
        with pytest.raises(CacheError, match=r"differ|checksums|targets are|byte order"):
            bp.open(full)
    full.write_bytes(whole)
    bp.open(full)
