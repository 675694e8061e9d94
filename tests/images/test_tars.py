import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.errors import InputError
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.find import find
from bottleneck_probe.images.payload import fetch
from bottleneck_probe.images.sample import Samples
from bottleneck_probe.images.tars import contents, locations
from bottleneck_probe.images.tars.locations import expand_braces, split_from

JPEG = b"\xff\xd8\xff\xe0"


@pytest.fixture
def tar(tmp_path: Path):
    """Writes a tar of names and bytes (text as UTF-8, a dict as JSON)."""

    def make(name: str, **members) -> Path:
        return write(tmp_path / "shards" / name, members.pop("members", members))

    return make


def write(path: Path, members) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs = members.items() if isinstance(members, dict) else members
    with tarfile.open(path, "w") as file:
        for each, data in pairs:
            if isinstance(data, dict):
                data = json.dumps(data)
            if isinstance(data, str):
                data = data.encode()
            info = each if isinstance(each, tarfile.TarInfo) else tarfile.TarInfo(each)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def said(found) -> dict:
    """Label and split by path."""
    return {s.path: (s.label, s.split) for s in found.samples}


def faults(found) -> dict:
    return {s.path: s.fault for s in found.samples if s.fault}


def test_labels_of_cls_members(tar):
    path = tar(
        "a.tar",
        members={
            "000.jpg": JPEG + b"0",
            "000.cls": "3",
            "001.cls": "007\n",
            "001.jpg": JPEG + b"1",
            "002.png": b"2",
            "003.jpg": b"3",
            "003.cls": " ants ",
            "003.txt": "a caption",
        },
    )
    found = find(str(path))
    assert found.root == str(path.parent)
    assert found.name == "a"
    assert said(found) == {
        "a.tar/000.jpg": ("3", ""),
        "a.tar/001.jpg": ("007", ""),
        "a.tar/002.png": (None, ""),
        "a.tar/003.jpg": (" ants ", ""),
    }
    assert found.ignored == 1
    assert found.notes == ["a: labels are those of .cls members."]
    assert fetch(found.samples[1].source).content == JPEG + b"1"


def test_labels_of_json_members_are_the_text_that_was_written(tar):
    path = tar(
        "a.tar",
        members={
            "0.jpg": b"0",
            "0.json": '{"label": 007.50, "split": "train"}'.replace("007.50", "7.50"),
            "1.jpg": b"1",
            "1.json": {"label": "bee", "split": "Validation", "caption": "x"},
            "2.jpg": b"2",
            "2.json": {"class": True},
            "3.jpg": b"3",
            "3.json": {"label": None, "cls": "x"},
        },
    )
    assert said(find(str(path), task="classification")) == {
        "a.tar/0.jpg": ("7.50", "train"),
        "a.tar/1.jpg": ("bee", "val"),
        "a.tar/2.jpg": ("true", ""),
        "a.tar/3.jpg": ("x", ""),
    }


def test_lists_in_json_are_several_labels(tar):
    path = tar(
        "a.tar",
        members={
            "0.jpg": b"0",
            "0.json": {"label": ["car", "person"]},
            "1.jpg": b"1",
            "1.json": {"label": ["car"]},
        },
    )
    targets = find(str(path)).columns.targets
    assert (targets.task, list(targets.names)) == ("multilabel", ["car", "person"])
    assert targets.values.tolist() == [[1, 1], [1, 0]]


def test_named_columns_are_members_or_keys(tar):
    path = tar(
        "a.tar",
        members={
            "0.jpg": b"0",
            "0.txt": "a caption",
            "0.json": {"who": "me", "when": "test"},
            "1.jpg": b"1",
            "1.txt": "another",
            "1.json": {"who": "you", "when": ""},
        },
    )
    plain = find(str(path))
    assert {label for label, _ in said(plain).values()} == {None}
    assert "--label-column takes labels from who, when" in plain.notes[-1]
    texts = find(str(path), label_columns=["txt"])
    assert said(texts) == {"a.tar/0.jpg": ("a caption", ""), "a.tar/1.jpg": ("another", "")}
    keys = find(str(path), label_columns=["who"], split_column="when")
    assert said(keys) == {"a.tar/0.jpg": ("me", "test"), "a.tar/1.jpg": ("you", "")}
    with pytest.raises(InputError, match="no member says wo") as caught:
        find(str(path), label_columns=["wo"])
    assert "name one of who, when" in caught.value.next
    with pytest.raises(InputError, match="unknown split: me, you"):
        find(str(path), split_column="who")
    with pytest.raises(InputError, match="--path-column"):
        find(str(path), path_column="who")


def test_several_label_columns_hold_yes_and_no(tar):
    path = tar(
        "a.tar",
        members={
            "0.jpg": b"0",
            "0.json": {"car": 1, "person": 0},
            "1.jpg": b"1",
            "1.json": {"car": 0},
        },
    )
    targets = find(str(path), label_columns=["person", "car"]).columns.targets
    assert list(targets.names) == ["car", "person"]
    assert np.array_equal(targets.values, [[1, 0], [0, np.nan]], equal_nan=True)


@pytest.mark.parametrize(
    ("member", "data", "reason"),
    [
        ("0.cls", b"\xff\xfe", "its .cls member is not UTF-8"),
        ("0.cls", b"x" * 5000, "its .cls member has 5000 bytes"),
        ("0.json", b"{", "its .json member is no JSON"),
        ("0.json", b"[" * 100_000, "its .json member is no JSON"),
        ("0.json", b"[1]", "its .json member is no JSON object"),
        ("0.json", b'{"label": {"a": 1}}', "has no text, number or list"),
        ("0.json", b'{"label": "%s"}' % (b"x" * 2000), "has 2000 characters as 'label'"),
        ("0.json", b" " * 2_000_000, "its .json member has 2000000 bytes"),
    ],
)
def test_what_cannot_be_said_is_the_fault_of_its_image(tar, member, data, reason):
    path = tar("a.tar", members={"0.jpg": b"0", member: data, "1.jpg": b"1", "1.cls": "a"})
    found = find(str(path))
    assert list(faults(found)) == ["a.tar/0.jpg"]
    assert reason in faults(found)["a.tar/0.jpg"]


def test_members_of_one_sample_need_not_follow_each_other(tar):
    path = tar(
        "a.tar",
        members=[("0.jpg", b"0"), ("1.jpg", b"1"), ("0.cls", "a"), ("1.cls", "b")]
        + [("0.json", {"split": "test"}), ("x/0.jpg", b"x"), ("x/0.cls", "c")],
    )
    assert said(find(str(path))) == {
        "a.tar/0.jpg": ("a", "test"),
        "a.tar/1.jpg": ("b", ""),
        "a.tar/x/0.jpg": ("c", ""),
    }


def test_tars_of_class_folders_are_read_as_folders_are(tmp_path: Path, tar):
    names = ["train/ants/1.jpg", "train/bees/2.jpg", "val/ants/3.jpg", "val/bees/deep/4.jpg"]
    for name in names:
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(name.encode())
    folder = find(str(tmp_path / "photos"))
    for prefix in ("", "photos/", "./photos/", "home/me/photos/"):
        found = find(str(tar("b.tar", members={prefix + name: name for name in names})))
        inside = "b.tar/" + prefix.removeprefix("./")
        assert [s.path for s in found.samples] == [inside + s.path for s in folder.samples]
        assert [(s.label, s.split, s.meta) for s in found.samples] == [
            (s.label, s.split, s.meta) for s in folder.samples
        ]
        assert [fetch(s.source).content for s in found.samples] == [
            fetch(s.source).content for s in folder.samples
        ]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train/0001.tar", "train"),
        ("data/Validation/x.tar", "val"),
        ("test.tar", "test"),
        ("val-0007.tar", "val"),
        ("dev_3.tar", "val"),
        ("trainee.tar", ""),
        ("imagenet-train-01.tar", ""),
    ],
)
def test_the_place_of_a_tar_says_its_split(name, split):
    assert split_from(name.replace("/", os.sep)) == split


def test_splits_of_tars_go_with_the_folders_in_them(tar):
    tar("train/0.tar", members={"train/ants/1.jpg": b"1", "train/bees/2.jpg": b"2"})
    folder = tar("val.tar", members={"ants/3.jpg": b"3", "bees/4.jpg": b"4"}).parent
    found = find(str(folder))
    assert said(found) == {
        "train/0.tar/train/ants/1.jpg": ("ants", "train"),
        "train/0.tar/train/bees/2.jpg": ("bees", "train"),
        "val.tar/ants/3.jpg": ("ants", "val"),
        "val.tar/bees/4.jpg": ("bees", "val"),
    }
    assert (found.name, found.root) == ("shards", str(folder))


def test_what_members_say_goes_before_the_place_of_the_tar(tar):
    path = tar("train/0.tar", members={"0.jpg": b"0", "0.json": {"split": "test", "label": "a"}})
    other = tar("val/0.tar", members={"0.jpg": b"1", "0.json": {"label": "a"}})
    found = find([str(path), str(other)])
    assert said(found) == {"train/0.tar/0.jpg": ("a", "test"), "val/0.tar/0.jpg": ("a", "val")}


def test_braces_globs_lists_and_folders_name_the_same_tars(tar, monkeypatch):
    for i in range(8, 12):
        folder = tar(f"{i:03d}.tar", members={"0.jpg": str(i), "0.cls": str(i)}).parent
    expected = {f"{i:03d}.tar/0.jpg": (str(i), "") for i in range(8, 12)}
    assert said(find(str(folder / "{008..011}.tar"))) == expected
    assert said(find(str(folder / "*.tar"))) == expected
    assert said(find(str(folder))) == expected
    assert said(find([str(folder / f"{i:03d}.tar") for i in (11, 8, 9, 10, 8)])) == expected
    monkeypatch.chdir(folder)
    assert said(find("0{08..10}.tar")) == {k: v for k, v in expected.items() if "011" not in k}
    one = find("008.tar", root=str(folder.parent))
    assert said(one) == {"shards/008.tar/0.jpg": ("8", "")}
    with pytest.raises(InputError, match=r"there is no|cannot be read: no such file"):
        find("{008..012}.tar")
    with pytest.raises(InputError, match="no file matches"):
        find("x*.tar")


def test_braces():
    assert expand_braces("{000..002}.tar") == ["000.tar", "001.tar", "002.tar"]
    assert expand_braces("{9..11}.tar") == ["9.tar", "10.tar", "11.tar"]
    assert expand_braces("{3..1}") == ["3", "2", "1"]
    assert list(dict.fromkeys(expand_braces("{a,b{1..2}}"))) == ["a", "b1", "b2"]
    assert expand_braces("{}{,}") == ["{}", "{}"]
    with pytest.raises(InputError, match="stands for 10000000000 names"):
        expand_braces("{0000000000..9999999999}.tar")


def test_tars_and_other_things_are_not_mixed(tar, tmp_path):
    path = tar("a.tar", members={"0.jpg": b"0"})
    (tmp_path / "1.jpg").write_bytes(JPEG)
    with pytest.raises(InputError, match="is a tar among other inputs"):
        find([str(path), str(tmp_path / "1.jpg")])
    # A folder of images with a tar beside them is a folder of images.
    (tmp_path / "shards" / "1.jpg").write_bytes(JPEG)
    assert [s.path for s in find(str(tmp_path / "shards")).samples] == ["1.jpg"]


@pytest.mark.parametrize(
    ("suffix", "data", "command"),
    [
        (".tar.gz", b"\x1f\x8b\x08", "gunzip -k"),
        (".tgz", b"\x1f\x8b\x08", "gunzip -k"),
        (".tar", b"BZh9", "bunzip2 -k"),
        (".tar.xz", b"\xfd7zXZ\x00", "unxz -k"),
        (".tar.zst", b"\x28\xb5\x2f\xfd", "unzstd -k"),
    ],
)
def test_compressed_tars_are_refused_with_the_way_out(tmp_path, suffix, data, command):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data + bytes(1000))
    with pytest.raises(InputError, match="cannot be read at their places") as caught:
        find(str(path))
    assert caught.value.next.startswith(command)


@pytest.mark.parametrize("data", [b"", b"text", bytes(300), JPEG * 500, b"x" * 512])
def test_what_is_no_tar_is_an_error(tmp_path, data):
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"is no tar|is empty"):
        find(str(path))


def test_an_empty_tar(tmp_path):
    with pytest.raises(InputError, match=r"0 images in .*a\.tar"):
        find(str(write(tmp_path / "a.tar", {})))
    with pytest.raises(InputError, match=r"0 images in .*a\.tar") as caught:
        find(str(write(tmp_path / "a.tar", {"notes.txt": "x", "a.xml": "x"})))
    assert "2 other members" in caught.value.where


def test_a_fifo_called_as_a_tar_does_not_block(tmp_path):
    if not hasattr(os, "mkfifo"):
        pytest.skip("no FIFOs on this system")
    os.mkfifo(tmp_path / "a.tar")
    with pytest.raises(InputError, match="not a regular file"):
        find(str(tmp_path / "a.tar"))


def special(name: str, kind: bytes, link: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_hostile_members_have_a_fault_and_nothing_is_written(tar, tmp_path):
    """Absolute, ``..``, links, devices, the same name twice: rows without a feature, no file anywhere."""
    before = sorted(tmp_path.rglob("*"))
    members = [
        ("ok.jpg", JPEG),
        ("/abs.jpg", JPEG),
        ("../out.jpg", JPEG),
        (special("link.jpg", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (special("hard.jpg", tarfile.LNKTYPE, "ok.jpg"), b""),
        (special("dev.jpg", tarfile.CHRTYPE, ""), b""),
        (special("link.cls", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (special("pipe", tarfile.FIFOTYPE, ""), b""),
        ("twice.jpg", JPEG + b"1"),
        ("./twice.jpg", JPEG + b"2"),
        (".hidden.jpg", JPEG),
    ]
    path = tar("a.tar", members=members)
    found = find(str(path))
    reasons = faults(found)
    assert len(found.samples) == 7
    assert found.ignored == 2  # the FIFO and the hidden file
    assert set(reasons) == {
        f"a.tar/{name}"
        for name in ("%2Fabs.jpg", "%2E%2E/out.jpg", "link.jpg", "hard.jpg", "dev.jpg", "twice.jpg")
    }
    assert "absolute" in reasons["a.tar/%2Fabs.jpg"]
    assert "leads out" in reasons["a.tar/%2E%2E/out.jpg"]
    assert "a link in a tar" in reasons["a.tar/link.jpg"] or "link.cls" in reasons["a.tar/link.jpg"]
    assert reasons["a.tar/twice.jpg"] == "two members of this name in the tar"
    assert fetch(found.samples[-2].source).content == JPEG
    after = sorted(tmp_path.rglob("*"))
    assert after == sorted([*before, path.parent, path])


def test_images_without_a_suffix_are_known_by_their_first_bytes(tar):
    path = tar("a.tar", members={"one": JPEG + bytes(200), "two": b"text", "3.img": JPEG})
    found = find(str(path))
    assert [s.path for s in found.samples] == ["a.tar/3.img", "a.tar/one"]
    assert found.ignored == 1


def test_a_cut_tar_keeps_what_precedes_and_says_where(tar):
    path = tar("a.tar", members={f"{i}.jpg": bytes([i]) * 2000 for i in range(5)})
    data = path.read_bytes()
    # Each takes a header and four blocks: the cut is in the fourth.
    path.write_bytes(data[: 3 * 2560 + 512 + 100])
    found = find(str(path))
    assert [s.fault for s in found.samples] == [None, None, None, "the tar is cut within it"]
    (broken,) = found.broken
    assert str(path) in broken
    assert "byte 7680 of 8292" in broken
    assert "1900 of the 2000 bytes" in broken
    path.write_bytes(data[: 3 * 2560])
    (broken,) = find(str(path)).broken
    assert "no end mark" in broken


def test_a_tar_that_changed_since_it_was_listed_gives_no_other_image(tar):
    path = tar("a.tar", members={"0.jpg": b"a" * 700, "1.jpg": b"b" * 700})
    first, second = find(str(path)).samples
    # Rewritten in another order: at the place of one member there is another one of the same size.
    write(path, {"1.jpg": b"b" * 700, "0.jpg": b"a" * 700})
    for sample in (first, second):
        with pytest.raises(BadImage, match="its tar changed while it was read"):
            fetch(sample.source)
    path.unlink()
    with pytest.raises(BadImage, match="no such file"):
        fetch(first.source)


def test_a_fresh_tar_is_not_taken_for_unchanged(tar, monkeypatch):
    """It may change once more and keep its times, and then its members are at other places."""
    path = tar("a.tar", members={"0.jpg": b"a", "1.jpg": b"b"})
    assert find(str(path)).samples[0].source.status is None
    monkeypatch.setattr(contents, "GRAIN_NS", -(10**12))
    zero, one = (sample.source for sample in find(str(path)).samples)
    found = os.stat(path)
    assert zero.status[:3] == (1, found.st_mtime_ns, found.st_ctime_ns)
    assert zero.status[3] != one.status[3]
    assert fetch(zero).status == zero.status


def test_samples_of_tars_are_taken_and_sorted_as_columns(tar):
    path = tar("a.tar", members={f"{i}.jpg": str(i) for i in (3, 1, 2)})
    samples = find(str(path)).columns
    part = samples.take(np.array([2, 0]))
    assert [fetch(s.source).content for s in part] == [b"3", b"1"]
    assert isinstance(part, Samples)
    assert [fetch(s.source).content for s in samples[1:]] == [b"2", b"3"]
    listed = Samples.of(list(samples), samples.root)
    assert [fetch(s.source).content for s in listed] == [b"1", b"2", b"3"]


def test_labels_of_a_table_join_members_by_path_or_name(tar, tmp_path):
    path = tar("a.tar", members={"x/1.jpg": b"1", "x/2.jpg": b"2"})
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.tar/x/1.jpg,a\na.tar/x/2.jpg,b\n")
    assert said(find(str(path), labels=str(table))) == {
        "a.tar/x/1.jpg": ("a", ""),
        "a.tar/x/2.jpg": ("b", ""),
    }
    table.write_text("id,label\n1,a\n2,b\n")
    found = find(str(path), labels=str(table), path_column="id")
    assert [s.label for s in found.samples] == ["a", "b"]


def test_a_tar_holds_no_more_memory_than_a_few_bytes_a_member(tmp_path):
    """A class each."""
    import tracemalloc

    members = ((f"{i:06d}.{kind}", b"7") for i in range(2_000) for kind in ("jpg", "cls"))
    path = write(tmp_path / "a.tar", members)
    find(str(path))  # imports
    tracemalloc.start()
    try:
        found = find(str(path))
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(found.samples) == 2_000
    assert kept / 2_000 < 120
    assert peak / 2_000 < 1500


def test_tars_in_a_list_are_refused(tar, monkeypatch):
    import sys

    path = tar("a.tar", members={"0.jpg": b"0"})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(str(path).encode())))
    with pytest.raises(InputError, match="is a tar in a list of images"):
        find("-")


def test_a_folder_of_other_files_is_no_folder_of_tars(tmp_path):
    write(tmp_path / "a.tar", {"0.jpg": b"0"})
    assert locations.tars_in(str(tmp_path)) == [str(tmp_path / "a.tar")]
    (tmp_path / "labels.csv").write_text("x")
    assert locations.tars_in(str(tmp_path)) == [str(tmp_path / "a.tar")]
    (tmp_path / "unknown").write_text("x")
    assert locations.tars_in(str(tmp_path)) is None
