"""Images on other machines: found, read, accounted for; nothing secret comes back."""

import io
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.errors import BottleneckError, InputError
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.find import find
from bottleneck_probe.images.payload import fetch
from bottleneck_probe.remote import door
from bottleneck_probe.remote.objects import RemoteObject
from common import extractor, tar_of


def png(stub, tmp_path, number) -> bytes:
    return stub.paint(tmp_path / "one" / f"{number}.png", number).read_bytes()


@pytest.fixture
def extract(calls, tmp_path):
    return extractor(calls, tmp_path / "out.h5")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(door, "PAUSE_S", 0.01)


def numbers_of(features, stub):
    """Each row is that of the number in its path."""
    for path, row in zip(features.paths, features.features[:], strict=True):
        np.testing.assert_allclose(row, stub.feature_of(int(Path(path).stem)), atol=1e-4)


def upload(system, root, stub, tmp_path, n):
    for number in range(n):
        split = "val" if number % 3 == 0 else "train"
        name = f"{root}/{split}/{('ants', 'bees')[number % 2]}/{number}.png"
        system.pipe_file(name, png(stub, tmp_path, number))
    system.pipe_file(f"{root}/notes.txt", b"x")
    system.pipe_file(f"{root}/.hidden.png", b"x")


@pytest.mark.parametrize("store", ["memory", "bucket"])
def test_a_folder_of_objects_is_read_as_folders_are(store, request, stub, tmp_path, extract):
    found = request.getfixturevalue(store)
    system, url = (found, "memory://photos") if store == "memory" else (found.fs, f"{found}/photos")
    upload(system, url, stub, tmp_path, 12)
    for number in range(12):
        split = "val" if number % 3 == 0 else "train"
        stub.paint(
            tmp_path / "photos" / split / ("ants", "bees")[number % 2] / f"{number}.png", number
        )
    here, there = find(str(tmp_path / "photos")), find(url)
    assert there.root == url
    assert there.name == "photos"
    assert there.ignored == 2
    assert [(s.path, s.label, s.split) for s in there.samples] == [
        (s.path, s.label, s.split) for s in here.samples
    ]
    for spelling in (url, url + "/"):
        result = extract(spelling)
        numbers_of(result.features, stub)
    assert result.features.root == url
    assert (result.computed, result.reused) == (0, 12)
    # The same bytes as a folder of this computer, in the same file.
    assert extract(str(tmp_path / "photos")).computed == 0


def test_unchanged_objects_with_an_md5_are_not_read(bucket, stub, tmp_path, extract, monkeypatch):
    upload(bucket.fs, f"{bucket}/photos", stub, tmp_path, 6)
    first = extract(f"{bucket}/photos")
    assert first.read == 6
    real = RemoteObject.read
    monkeypatch.setattr(RemoteObject, "read", None)
    again = extract(f"{bucket}/photos")
    assert (again.read, again.reused, again.written) == (0, 6, False)
    monkeypatch.setattr(RemoteObject, "read", real)
    # Other bytes of the same size under the same name.
    name = f"{bucket}/photos/train/bees/1.png"
    bucket.fs.pipe_file(name, png(stub, tmp_path, 4))
    changed = extract(f"{bucket}/photos")
    assert (changed.read, changed.computed) == (1, 0)
    place = list(changed.features.paths).index("train/bees/1.png")
    np.testing.assert_allclose(changed.features.features[place], stub.feature_of(4), atol=1e-4)


def test_an_md5_that_is_not_that_of_the_bytes_is_not_trusted(memory, monkeypatch):
    """Uploads in parts and encrypted ones have other ETags; and an object may be replaced."""
    memory.pipe_file("/a.png", b"bytes")
    good = RemoteObject("memory://a.png", 5, bytes.fromhex("4b3a6218bb3e3a7303e8a171a60fcf92"))
    data, status = good.read(100)
    assert (data, status) == (b"bytes", good.status)
    other = RemoteObject("memory://a.png", 5, bytes(15) + b"1")
    assert other.read(100)[1] == (5, -1, -1, 0)
    assert other.status != good.status
    assert RemoteObject("memory://a.png").status is None


def test_objects_without_an_md5_are_read_every_time(memory, stub, tmp_path, extract):
    upload(memory, "memory://photos", stub, tmp_path, 4)
    assert extract("memory://photos").read == 4
    again = extract("memory://photos")
    assert (again.read, again.computed) == (4, 0)


def test_one_image_and_a_list(web, stub, tmp_path, extract, monkeypatch):
    for number in range(3):
        web.files[f"/x/{number}.png"] = png(stub, tmp_path, number)
    one = extract(f"{web.address}/x/0.png")
    assert list(one.features.paths) == [f"{web.address}/x/0.png"]
    several = extract([f"{web.address}/x/{i}.png" for i in (2, 0, 1)], tmp_path / "b.h5")
    numbers_of(several.features, stub)
    monkeypatch.chdir(tmp_path)
    lines = f"{web.address}/x/1.png\n{stub.paint(tmp_path / '7.png', 7)}\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    listed = extract("-", tmp_path / "c.h5")
    numbers_of(listed.features, stub)


def test_a_table_with_urls(web, stub, tmp_path, extract):
    for number in range(4):
        web.files[f"/x/{number}.png"] = png(stub, tmp_path, number)
    stub.paint(tmp_path / "9.png", 9)
    rows = [f"{web.address}/x/{n}.png?sig=hunter22{n},{'ab'[n % 2]},test" for n in range(4)]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(["url,label,split", *rows, "9.png,a,"]))
    found = extract(str(table)).features
    numbers_of(found, stub)
    assert list(found.paths) == ["9.png", *(f"{web.address}/x/{n}.png" for n in range(4))]
    assert found.splits[1] == "test"
    assert "hunter22" not in str(list(found.paths))
    assert any("sig=hunter220" in path for _, path in web.asked)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_on_another_machine_names_what_lies_beside_it(web, stub, tmp_path, extract, kind):
    for number in range(3):
        web.files[f"/x/{number}.png"] = png(stub, tmp_path, number)
    lines = "path,label\n0.png,a\n1.png,b\n2.png,a\n"
    if kind == "csv":
        web.files["/x/t.csv"] = lines.encode()
    else:
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        pandas.read_csv(io.StringIO(lines)).to_parquet(tmp_path / "t.parquet")
        web.files["/x/t.parquet"] = (tmp_path / "t.parquet").read_bytes()
    result = extract(f"{web.address}/x/t.{kind}?token=hunter22")
    assert list(result.features.paths) == ["0.png", "1.png", "2.png"]
    assert result.features.root == f"{web.address}/x"
    numbers_of(result.features, stub)


def test_a_table_from_elsewhere_names_no_file_of_this_computer(web, tmp_path, stub):
    secret = stub.paint(tmp_path / "secret.png", 1)
    web.files["/t.csv"] = f"path\n{secret.as_uri()}\n{secret}\n".encode()
    samples = find(f"{web.address}/t.csv").samples
    assert {s.fault for s in samples} == {
        None,
        "a file of this computer, in a table that is not from here",
    }
    for sample in samples:
        assert sample.fault or sample.source.name.startswith(web.address)


@pytest.mark.parametrize("store", ["memory", "bucket", "web"])
def test_tars_on_another_machine_are_read_in_ranges(store, request, stub, tmp_path, extract):
    place = request.getfixturevalue(store)
    base = {"memory": "memory://shards", "bucket": f"{place}/shards"}.get(store)
    base = base or f"{place.address}/shards"
    for shard in range(3):
        data = tar_of(
            pair
            for i in range(4)
            for pair in (
                (f"{4 * shard + i}.png", png(stub, tmp_path, 4 * shard + i)),
                (f"{4 * shard + i}.cls", b"ab"[i % 2 : i % 2 + 1]),
            )
        )
        if store == "web":
            place.files[f"/shards/{shard}.tar"] = data
        else:
            getattr(place, "fs", place).pipe_file(f"{base}/{shard}.tar", data)
    result = extract(base + "/{0..2}.tar")
    assert result.computed == 12
    assert list(result.features.paths)[:2] == ["0.tar/0.png", "0.tar/1.png"]
    assert list(result.features.labels[:2]) == ["a", "b"]
    assert result.features.root == base
    numbers_of(result.features, stub)


def test_a_tar_of_a_server_without_ranges_is_refused(web):
    web.ranges = False
    web.files["/a.tar"] = tar_of([("1.png", bytes(5000))])
    with pytest.raises(InputError, match="no parts of a file: download the tar first"):
        find(f"{web.address}/a.tar")


def test_a_tar_that_was_replaced_gives_no_other_image(web):
    web.files["/a.tar"] = tar_of([("1.png", b"a" * 600), ("2.png", b"b" * 600)])
    first, _ = find(f"{web.address}/a.tar").samples
    web.files["/a.tar"] = tar_of([("2.png", b"b" * 600), ("1.png", b"a" * 600)])
    with pytest.raises(BadImage, match="its tar changed"):
        fetch(first.source)


@pytest.mark.parametrize(
    ("status", "reason", "requests"),
    [
        (403, "no permission (HTTP 403)", 1),
        (401, "no permission (HTTP 401)", 1),
        (404, "no such object", 1),
        (410, "no such object", 1),
        (418, "the server answered HTTP 418", 1),
        (500, "the server answered HTTP 500", 3),
        (429, "the server answered HTTP 429", 3),
    ],
)
def test_what_a_server_refuses_has_its_reason(web, status, reason, requests):
    web.files["/1.png"] = b"x"
    web.statuses["/1.png"] = [status] * 9
    with pytest.raises(BadImage) as caught:
        fetch(RemoteObject(f"{web.address}/1.png"))
    assert str(caught.value) == reason
    assert len(web.asked) == requests


def test_a_server_that_recovers_is_asked_again(web):
    web.files["/1.png"] = b"x"
    web.statuses["/1.png"] = [500, 503]
    assert fetch(RemoteObject(f"{web.address}/1.png")).content == b"x"


def test_a_connection_that_breaks_is_no_short_image(web):
    web.files["/1.png"] = b"x" * 10_000
    web.cut.add("/1.png")
    with pytest.raises(BadImage, match="the connection broke before the end"):
        fetch(RemoteObject(f"{web.address}/1.png"))
    assert len(web.asked) == 3


def test_no_server(web):
    with pytest.raises(BadImage, match="no connection"):
        fetch(RemoteObject("http://127.0.0.1:9/1.png"))


def test_a_server_that_is_slow_is_given_up(web, monkeypatch):
    monkeypatch.setattr(door, "READ_TIMEOUT_S", 0.1)
    monkeypatch.setattr(door, "TRIES", 1)
    door.filesystem.cache_clear()
    from fsspec.implementations.http import HTTPFileSystem

    HTTPFileSystem.clear_instance_cache()
    web.files["/1.png"], web.delay_s = b"x", 60
    with pytest.raises(BadImage, match=r"no answer within 0.1 s"):
        fetch(RemoteObject(f"{web.address}/1.png"))
    assert web.held.wait(60)
    assert web.at_once == 1  # the server is still at it
    web.go_on.set()
    door.filesystem.cache_clear()
    HTTPFileSystem.clear_instance_cache()


def test_no_more_than_the_limit_is_read(web, memory):
    web.files["/1.png"] = bytes(5 << 20)
    source = RemoteObject(f"{web.address}/1.png")
    with pytest.raises(BadImage, match="over the limit"):
        source.read(1 << 20)
    memory.pipe_file("/big.png", bytes(1000))
    with pytest.raises(BadImage, match="over the limit"):
        RemoteObject("memory://big.png").read(999)
    assert RemoteObject("memory://big.png").read(1000)[0] == bytes(1000)


def test_bad_objects_are_accounted_for(web, stub, tmp_path, extract):
    names = []
    for number in range(8):
        web.files[f"/{number}.png"] = png(stub, tmp_path, number)
        names.append(f"{web.address}/{number}.png?sig=hunter22")
    web.statuses["/1.png"] = [403]
    web.statuses["/2.png"] = [500] * 9
    web.files["/3.png"] = b"<html>"
    result = extract([*names, f"{web.address}/gone.png?token=hunter22"])
    assert (result.computed, result.quarantined) == (5, 4)
    reasons = dict(result.features.quarantine)
    assert reasons[f"{web.address}/1.png"] == "no permission (HTTP 403)"
    assert reasons[f"{web.address}/2.png"] == "the server answered HTTP 500"
    assert reasons[f"{web.address}/3.png"].startswith("HTML")
    assert reasons[f"{web.address}/gone.png"] == "no such object"
    numbers_of(result.features, stub)
    assert b"hunter22" not in (tmp_path / "out.h5").read_bytes()
    mended = extract(names, retry=True)
    assert mended.quarantined == 2  # /2.png and /3.png


def test_secrets_are_in_no_message_and_no_traceback(web):
    web.statuses["/1.png"] = [403] * 9
    web.statuses["/t.csv"] = [403] * 9
    web.statuses["/a.tar"] = [403] * 9
    for name in ("t.csv", "a.tar"):
        url = f"http://user:hunter22@{web.address[7:]}/{name}?sig=hunter22"
        with pytest.raises(BottleneckError) as caught:
            find(url)
        assert "hunter22" not in str(caught.value)
        assert "hunter22" not in "".join(traceback.format_exception(caught.value))
        assert "403" in str(caught.value)
    source = RemoteObject("http://user:hunter22@127.0.0.1:9/1.png?sig=hunter22")
    assert "hunter22" not in repr(source)
    with pytest.raises(BadImage) as caught:
        fetch(source)
    assert "hunter22" not in str(caught.value)


def test_latency_is_hidden(web, stub, tmp_path, extract):
    """16 requests are under way at a time, with one decoding thread."""
    for number in range(48):
        web.files[f"/{number}.png"] = png(stub, tmp_path, number)
    web.hold, web.delay_s = 16, 0.05
    result = extract([f"{web.address}/{n}.png" for n in range(48)], workers=1)
    assert result.computed == 48
    numbers_of(result.features, stub)
    assert web.most_at_once == 16
    assert len(web.asked) == 48  # none again after it had waited in vain


@pytest.mark.parametrize("url", ["s3://bucket-that-is-not/photos", "memory://nothing/here"])
def test_a_folder_that_is_not_there(url, bucket, memory):
    with pytest.raises(InputError, match=r"no such object|0 images"):
        find(url)


def test_a_folder_without_images(memory):
    memory.pipe_file("/photos/a.txt", b"x")
    with pytest.raises(InputError, match="0 images in memory://photos") as caught:
        find("memory://photos")
    assert "1 .txt" in caught.value.where


def test_a_web_servers_folder_is_refused_with_the_way_out(web):
    with pytest.raises(InputError, match="lists no folders") as caught:
        find(f"{web.address}/photos/")
    assert ".csv" in caught.value.next


def test_a_missing_package_is_named_with_its_line(monkeypatch, tmp_path):
    def filesystem(protocol, **options):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr("fsspec.filesystem", filesystem)
    door.filesystem.cache_clear()
    with pytest.raises(BottleneckError, match="needs the package gcsfs") as caught:
        find("gs://bucket/photos")
    assert caught.value.next.startswith("pip install gcsfs")
    (tmp_path / "t.csv").write_text("path\ngs://bucket/1.jpg\n")
    (sample,) = find(str(tmp_path / "t.csv")).samples
    assert sample.fault.endswith("pip install gcsfs")


def test_names_of_objects_lead_nowhere(memory):
    memory.store["/photos/../out.png"] = memory.open("/tmp.png", "wb")
    memory.pipe_file("/photos/a/1.png", b"x")
    found = find("memory://photos")
    assert all(".." not in s.path.split("/") for s in found.samples)


def test_a_file_url_is_a_path(tmp_path, stub, extract):
    root = tmp_path / "my photos"
    for number in range(3):
        stub.paint(root / "ants" / f"{number}.png", number)
    result = extract(root.as_uri())
    assert result.features.root == str(root)
    numbers_of(result.features, stub)
    table = tmp_path / "t.csv"
    table.write_text(f"path,label\n{(root / 'ants' / '1.png').as_uri()},x\n")
    assert list(extract(str(table), tmp_path / "t.h5").features.paths) == ["my photos/ants/1.png"]
    assert extract(table.as_uri(), tmp_path / "t.h5").computed == 0


def test_names_with_an_empty_part_are_rows_of_their_own(bucket, stub, tmp_path, extract):
    """s3fs shows such a folder as the one above it."""
    names = ["a/1.png", "b//2.png", "b/2.png", "b/3.png", "/c/4.png", "b///x//5.png"]
    for number, name in enumerate(names):
        bucket.fs.pipe_file(f"{bucket}/p/{name}", png(stub, tmp_path, number))
    features = extract(f"{bucket}/p/").features
    rows = {
        path.replace("%2F", "/"): row
        for path, row in zip(features.paths, features.features[:], strict=True)
    }
    assert sorted(rows) == sorted(
        ["a/1.png", "b//2.png", "b/2.png", "b/3.png", "/c/4.png", "b///x//5.png"]
    )
    for number, name in enumerate(names):
        np.testing.assert_allclose(rows[name], stub.feature_of(number), atol=1e-4)
    assert sorted(features.labels) == ["a", "b", "b", "b", "b", "c"]


def test_a_folder_beside_other_inputs_is_refused(bucket, stub, tmp_path):
    bucket.fs.pipe_file(f"{bucket}/p/1.png", png(stub, tmp_path, 1))
    local = str(tmp_path / "one")
    for folder in (f"{bucket}/p/", f"{bucket}/p"):
        with pytest.raises(InputError, match="a folder on another machine among other inputs"):
            find([folder, local], missing="error")
    assert len(find([f"{bucket}/p/1.png", local], missing="error").samples) == 2


@pytest.mark.parametrize("name", ["t/*.tar", "p/*.png", "p*/", "*.csv"])
def test_a_glob_on_a_url_is_refused_with_the_way_out(memory, name):
    with pytest.raises(InputError, match="globs do not work on URLs") as caught:
        find([f"memory://{name}"], missing="error")
    assert "{000..099}" in caught.value.expected
