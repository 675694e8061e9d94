import io
import os
import random
import tarfile
from pathlib import Path

import pytest
from bottleneck_probe.images.tars import headers
from bottleneck_probe.images.tars.headers import BLOCK, TarEnds, members
from bottleneck_probe.images.tars.names import key_and_suffix, stored_name
from bottleneck_probe.images.tars.readers import Windowed
from hypothesis import given, settings
from hypothesis import strategies as st


class Bytes:
    """A tar in memory that counts how often it is asked."""

    status = None

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.size = len(data)
        self.asked = 0

    def read(self, offset: int, size: int) -> bytes:
        self.asked += 1
        assert offset >= 0
        assert size >= 0
        return self.data[offset : offset + size]

    def look(self):
        return None


def make(entries, *, format=tarfile.PAX_FORMAT, **options) -> bytes:
    """A tar of (name, bytes) or TarInfo, as the standard library writes it."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format, **options) as tar:
        for name, data in entries:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def everything(data: bytes):
    """All members, and why the list ends."""
    found = []
    try:
        for member in members(Bytes(data)):
            found.append(member)
    except TarEnds as end:
        return found, end
    return found, None


def of_tarfile(data: bytes):
    """What the standard library finds: the independent reference."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(m.name, m.offset_data, m.size) for m in tar.getmembers() if m.isreg()]


def special(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


NAMES = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=150
)


@settings(max_examples=60, deadline=None)
@given(
    entries=st.lists(
        st.tuples(st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=1500)),
        max_size=8,
    ),
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    window=st.sampled_from([512, 1024, 1 << 20]),
)
def test_members_are_those_of_the_standard_library(entries, kind, window):
    entries = [(name, data) for name, data in entries if not name.endswith("/")]
    data = make(entries, format=kind)
    found = list(members(Windowed(Bytes(data), window)))
    assert [(m.name, m.offset, m.size) for m in found] == of_tarfile(data)
    assert [data[m.offset : m.offset + m.size] for m in found] == [each for _, each in entries]
    assert all(m.header == data[m.offset - BLOCK : m.offset] for m in found)


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_of_many_bytes(format):
    name = "ants/" + "/".join(["x" * 60] * 3) + ".jpg"
    ((found,), end) = everything(make([(name, b"1")], format=format))
    assert (found.name, end) == (name, None)


def test_a_name_that_is_not_utf8_comes_back_as_it_was():
    name = os.fsdecode(b"ants/caf\xe9.jpg")
    data = make([(name, b"1")], format=tarfile.GNU_FORMAT, errors="surrogateescape")
    assert everything(data)[0][0].name == name


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a FIFO"),
    ],
)
def test_what_is_no_file_has_a_reason_and_no_bytes(kind, said):
    data = make([(special("1.jpg", kind, "/etc/passwd"), b""), ("2.jpg", b"two")])
    (first, second), end = everything(data)
    assert first.fault == f"not a regular file: {said} in a tar"
    assert (first.size, second.name, second.fault, end) == (0, "2.jpg", None, None)


def test_folders_are_no_members():
    data = make([(special("ants", tarfile.DIRTYPE), b""), ("ants/1.jpg", b"1")])
    assert [m.name for m in everything(data)[0]] == ["ants/1.jpg"]


def test_the_smallest_and_the_largest_numbers_of_bytes():
    """Sizes from 8 GiB on are written in base 256; they are compared with the file, not read."""
    info = tarfile.TarInfo("big.jpg")
    info.size = 1 << 40
    data = info.tobuf(tarfile.GNU_FORMAT) + b"few bytes"
    (found,), end = everything(data)
    assert (found.size, found.fault) == (0, "the tar is cut within it")
    assert end.offset == 0
    assert f"of the {1 << 40} bytes of a member are missing" in end.reason


def test_a_negative_size_is_damage():
    info = tarfile.TarInfo("1.jpg")
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[124:136] = b"\xff" * 12
    _set_checksum(block)
    found, end = everything(bytes(block) + bytes(2048))
    assert found == []
    assert "a size of -1 bytes" in end.reason


def _set_checksum(block: bytearray) -> None:
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)


def _pax(records: bytes, size: int | None = None) -> bytes:
    info = special("x", tarfile.XHDTYPE)
    info.size = len(records) if size is None else size
    return info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % BLOCK)


FILE = make([("1.jpg", b"one")])


@pytest.mark.parametrize(
    ("records", "fault"),
    [
        (b"999999999 path=a\n", "damaged"),
        (b"12 path=a.jpg", "damaged"),
        (b"-5 path=a\n", "damaged"),
        (b"path=a\n", "damaged"),
        (b"9 path a\n", "damaged"),
        (b"22 GNU.sparse.major=1\n", "sparse"),
        (b"99999999999999999999999 x=1\n", "damaged"),
    ],
)
def test_a_damaged_pax_header_is_the_fault_of_its_member(records, fault):
    (found,), end = everything(_pax(records) + FILE)
    assert fault in found.fault
    assert end is None


def test_a_pax_bomb_is_not_read():
    """A header of headers of a gigabyte: neither its bytes nor its name get into memory."""
    size = 1 << 30
    reader = Bytes(_pax(b"", size))
    reader.size = size + 4096  # as if the file were that large
    reader.data += bytes(512)
    sizes = []
    real = reader.read

    def read(offset, count):
        sizes.append(count)
        if offset >= size:
            return FILE[offset - size - BLOCK :][:count]
        return real(offset, count)

    reader.read = read
    (found,) = members(reader)
    assert f"a header of {size} bytes" in found.fault
    assert max(sizes) <= 1 << 16


def test_a_pax_size_counts_and_its_damage_is_told():
    data = _pax(b"10 size=3\n") + FILE
    (found,), _ = everything(data)
    assert (found.size, found.name) == (3, "1.jpg")
    assert everything(_pax(b"11 size=-3\n") + FILE)[0][0].fault


def test_a_sparse_file_is_told_and_stepped_over():
    """GNU's old kind has its map in further headers, 21 entries each."""
    info = special("hole.jpg", tarfile.GNUTYPE_SPARSE)
    info.size = 512
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    block[482] = 1
    _set_checksum(block)
    more, last = bytearray(BLOCK), bytes(BLOCK)
    more[504] = 1
    (first, second), end = everything(bytes(block) + bytes(more) + last + bytes(512) + FILE)
    assert (first.fault, second.name, end) == (headers._SPARSE, "1.jpg", None)


def test_a_tar_cut_anywhere_keeps_what_precedes():
    data = make([(f"{i}.jpg", bytes([65 + i]) * 700 * i) for i in range(4)])
    whole = everything(data)[0]
    last = whole[-1].offset + whole[-1].size
    for cut in range(1, last + 1, 37):
        found, end = everything(data[:cut])
        good = [m for m in found if m.fault is None]
        assert good == [m for m in whole if m.offset + m.size <= cut][: len(good)]
        assert len(good) >= sum(m.offset + m.size < cut - 511 for m in whole)
        assert end is not None
        assert end.offset <= cut
    end_mark = data.rindex(b"D") + 1
    assert everything(data[: end_mark + 1024 + -end_mark % 512])[1] is None


def test_more_behind_the_end_mark_is_told():
    """`cat a.tar b.tar`: what follows the first end mark would be lost without a word."""
    found, end = everything(FILE + FILE)
    assert [m.name for m in found] == ["1.jpg"]
    assert "joined tars?" in end.reason


def test_headers_that_are_near_each_other_come_with_one_question():
    reader = Bytes(make([(f"{i}.jpg", bytes(3000)) for i in range(200)]))
    assert len(list(members(Windowed(reader)))) == 200
    assert reader.asked <= 3


def test_large_members_are_not_read_for_their_headers():
    reader = Bytes(make([(f"{i}.jpg", bytes(50_000)) for i in range(20)]))
    windowed = Windowed(reader, 4096)
    assert len(list(members(windowed))) == 20
    assert reader.asked < 25


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_flipped_bytes_give_members_within_the_tar_or_an_end(data):
    whole = bytearray(
        make([(f"ants/{i}.jpg", bytes(range(200)) * i) for i in range(4)] + [("y" * 180, b"z")])
    )
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    found, _ = everything(bytes(whole))
    assert all(m.offset >= 0 and m.offset + m.size <= len(whole) for m in found)


def test_the_fuzz_target_takes_anything():
    target = _fuzz_target()
    drawn = random.Random(1)
    whole = make([("a.jpg", b"\xff\xd8\xff"), ("a.cls", b"1"), ("a.json", b'{"label": 3}')])
    for _ in range(100):
        data = bytearray(whole)
        for _ in range(drawn.randint(0, 6)):
            data[drawn.randrange(1536)] = drawn.randrange(256)
        target(bytes(data[: drawn.randint(0, len(data))]))


def _fuzz_target():
    import importlib.util

    path = Path(__file__).parents[1] / "fuzz" / "targets" / "tars.py"
    spec = importlib.util.spec_from_file_location("bottleneck_fuzz_tars", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.target


@pytest.mark.parametrize(
    ("name", "stored", "fault"),
    [
        ("ants/1.jpg", "ants/1.jpg", None),
        ("./ants//./1.jpg", "ants/1.jpg", None),
        ("/etc/1.jpg", "%2Fetc/1.jpg", "absolute"),
        ("../1.jpg", "%2E%2E/1.jpg", "leads out"),
        ("a/../../1.jpg", "a/%2E%2E/%2E%2E/1.jpg", "leads out"),
        ("100%.jpg", "100%25.jpg", None),
        ("a\0b.jpg", "a%00b.jpg", "NUL"),
        ("new\nline.jpg", "new\nline.jpg", None),
        ("x" * 5000, "x" * 100 + "...@7", "5000 bytes"),
    ],
)
def test_no_name_leads_out_of_its_tar(name, stored, fault):
    path, why = stored_name(name, 7)
    assert path == stored
    assert (why is None) if fault is None else (fault in why)


def test_members_of_a_sample_share_what_precedes_the_first_dot():
    assert key_and_suffix("train/a.b/0001.jpg") == ("train/a.b/0001", "jpg")
    assert key_and_suffix("0001.left.PNG") == ("0001", "left.png")
    assert key_and_suffix("README") == ("README", "")


def test_a_type_that_nobody_knows_is_a_regular_file():
    """As POSIX has it, and the standard library; the rest of a file of another tar is none."""
    data = bytearray(make([("a.jpg", b"1"), ("odd.jpg", b"abc"), ("z.jpg", b"2")]))
    place = data.index(b"odd.jpg")

    def with_type(kind):
        block = data[place : place + BLOCK]
        block[156:157] = kind
        _set_checksum(block)
        return bytes(data[:place] + block + data[place + BLOCK :])

    found, end = everything(with_type(b"Z"))
    assert end is None
    assert [(m.name, m.size, m.fault) for m in found] == [
        ("a.jpg", 1, None),
        ("odd.jpg", 3, None),
        ("z.jpg", 1, None),
    ]
    found, _ = everything(with_type(b"M"))
    assert [(m.name, bool(m.fault)) for m in found] == [
        ("a.jpg", False),
        ("odd.jpg", True),
        ("z.jpg", False),
    ]
