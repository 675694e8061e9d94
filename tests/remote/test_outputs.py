"""Features in a bucket: written as a directory, read by everything that reads features."""

import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import elsewhere, features
from bottleneck_probe.cache.checks import is_hdf5
from bottleneck_probe.cache.remote_storage import RemoteStorage
from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.errors import CacheError, InputError
from bottleneck_probe.images.tars.members import digest
from bottleneck_probe.remote import door
from click.testing import CliRunner
from common import extractor, offset


@pytest.fixture
def extract(calls):
    return extractor(calls)


@pytest.fixture
def photos(stub, tmp_path):
    def make(n, first=0):
        for number in range(first, first + n):
            name = f"{number:05d}.png"
            stub.paint(tmp_path / "photos" / ("ants", "bees")[number % 2] / name, number)
        return tmp_path / "photos"

    return make


@pytest.fixture(params=["memory", "bucket"])
def store(request):
    """fsspec's file system, and the URL of a folder in it."""
    found = request.getfixturevalue(request.param)
    if request.param == "memory":
        return found, "memory://features/photos/"
    return found.fs, f"{found}/features/photos/"


def names(store):
    system, url = store
    return {path.rpartition("/")[2]: system.cat_file(path) for path in system.find(url)}


def test_a_directory_in_a_bucket_holds_what_a_file_does(store, photos, extract, tmp_path):
    root = photos(20)
    file = extract(root, tmp_path / "f.h5").features
    result = extract(root, store[1])
    assert (result.computed, str(result.output)) == (20, store[1])
    found = features.open(store[1])
    assert list(found.paths) == list(file.paths)
    assert np.array_equal(found.features[:], file.features[:])
    assert np.array_equal(found.features[3:7], file.features[3:7])
    assert list(found.labels) == list(file.labels)
    assert str(found.file) == store[1]


def test_an_unchanged_run_writes_nothing_and_ten_more_images_write_ten_rows(store, photos, extract):
    root = photos(12)
    extract(root, store[1])
    before = names(store)
    again = extract(root, store[1])
    assert (again.computed, again.reused, again.written) == (0, 12, False)
    assert names(store) == before
    photos(10, first=12)
    more = extract(root, store[1])
    assert (more.computed, more.reused) == (10, 12)
    after = names(store)
    assert {name for name in before if name.endswith(".h5")} <= set(after)
    assert all(after[name] == before[name] for name in before if name.endswith(".h5"))
    assert len(features.open(store[1])) == 22


def test_another_computer_fetches_each_shard_once(store, photos, extract, tmp_path, monkeypatch):
    extract(photos(8), store[1])
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "another"))
    fetched = []
    real = door.download
    monkeypatch.setattr(door, "download", lambda *a: (fetched.append(a[0]), real(*a)))
    first = features.open(store[1])
    n = len(fetched)
    assert n >= 1
    assert len(first.features[:]) == 8
    features.open(store[1])
    assert len(fetched) == n


def test_a_damaged_shard_is_an_error(store, photos, extract, tmp_path, monkeypatch):
    extract(photos(8), store[1])
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "another"))
    system, url = store
    (name,) = (each for each in names(store) if each.endswith(".h5"))
    data = bytearray(names(store)[name])
    data[len(data) // 2] ^= 1
    system.pipe_file(url + name, bytes(data))
    with pytest.raises(CacheError, match="its name is not that of its content"):
        features.open(url)
    system.rm_file(url + name)
    with pytest.raises(CacheError, match="missing"):
        features.open(url)


def test_a_run_that_could_not_write_is_taken_up(store, photos, extract, monkeypatch):
    """What was computed lies sealed on this computer."""
    _system, url = store
    root = photos(9)

    def fail(*args):
        raise door.RemoteError("no permission (HTTP 403)")

    with monkeypatch.context() as patch:
        patch.setattr(door, "upload", fail)
        with pytest.raises(CacheError, match="no permission"):
            extract(root, url)
    assert extract(root, url).computed == 0
    assert len(features.open(url)) == 9


def test_what_is_not_there(store):
    with pytest.raises(CacheError, match=r"has no manifest.json"):
        features.open(store[1])
    with pytest.raises(CacheError, match="no such object"):
        features.open(store[1] + "x.h5")


def test_one_file_is_read_from_elsewhere_and_not_written_there(
    store, photos, extract, tmp_path, web
):
    root = photos(5)
    extract(root, tmp_path / "f.h5")
    data = (tmp_path / "f.h5").read_bytes()
    system, url = store
    system.pipe_file(url + "f.h5", data)
    web.files["/f.h5"] = data
    for place in (url + "f.h5", f"{web.address}/f.h5?sig=hunter22"):
        found = features.open(place)
        assert len(found) == 5
        assert "hunter22" not in str(found.file)
    with pytest.raises(InputError, match="one file on another machine") as caught:
        extract(root, url + "g.h5")
    assert caught.value.next == f"-o {url}g/"
    with pytest.raises(InputError, match="takes no files"):
        extract(root, f"{web.address}/photos/")


def test_a_replaced_file_is_fetched_again(store, stub, tmp_path):
    """Of the same size, so that only a version could tell it; without one it is always fetched."""
    system, url = store
    for value in (1.0, 2.0):
        own = features.Features.from_arrays(np.full((3, 4), value), labels=["a", "b", "a"])
        system.pipe_file(url + "f.h5", own.save(tmp_path / "f.h5").read_bytes())
        assert features.open(url + "f.h5").features[0, 0] == value


def test_a_file_of_the_same_version_is_fetched_once(store, tmp_path, monkeypatch):
    """A bucket says which version it has; a store that does not is asked for the bytes each time."""
    system, url = store
    own = features.Features.from_arrays(np.eye(3), labels=["a", "b", "a"])
    system.pipe_file(url + "f.h5", own.save(tmp_path / "f.h5").read_bytes())
    fetched = []
    real = door.download
    monkeypatch.setattr(door, "download", lambda *call: (fetched.append(call[0]), real(*call)))
    for _ in range(3):
        np.testing.assert_array_equal(features.open(url + "f.h5").features[:], np.eye(3))
    assert len(fetched) == (1 if url.startswith("s3://") else 3)


def test_a_feature_file_elsewhere_is_verified_and_a_directory_is_not(memory, tmp_path):
    own = features.Features.from_arrays(np.eye(3), labels=["a", "b", "a"])
    data = own.save(tmp_path / "f.h5").read_bytes()
    memory.pipe_file("memory://o/f.h5", data)
    report = verify("memory://o/f.h5::penultimate:none")
    assert (report.ok, report.rows, report.kind) == (True, 3, "features")
    damaged = bytearray(data)
    damaged[offset(tmp_path / "f.h5", "features") + 3] ^= 1
    memory.pipe_file("memory://o/f.h5", bytes(damaged))
    assert [each.dataset for each in verify("memory://o/f.h5").problems] == ["features"]
    with pytest.raises(InputError, match=r"memory://o/photos/ is on another machine") as caught:
        verify("memory://o/photos/")
    assert "then verify NAME/" in caught.value.next


def test_features_elsewhere_are_told_from_images(memory):
    memory.pipe_file("memory://o/photos/manifest.json", b"{}")
    memory.pipe_file("memory://o/pictures/1.png", b"")
    found = {
        "memory://o/any.H5": True,
        "memory://o/any.hdf5::layer3:avg": True,
        "memory://o/photos/": True,
        "memory://o/photos/::layer3:avg": True,
        "memory://o/pictures/": False,
        "memory://o/none/": False,
        "https://example.org/any.h5?sig=1": True,
        "https://example.org/photos/": False,  # a web server lists nothing: nobody is asked
        "file:///home/any/": False,
    }
    assert {url: is_hdf5(url) for url in found} == found


def test_storage_does_what_the_protocol_says(store):
    storage = RemoteStorage(store[1])
    assert storage.list() == []
    assert storage.read("manifest.json", 10) is None
    assert storage.size("x.h5") is None
    storage.delete("x.h5")
    storage.put("manifest.json", b"one")
    storage.put("manifest.json", b"other")
    assert storage.read("manifest.json", 10) == b"other"
    with pytest.raises(CacheError, match="at most 3"):
        storage.read("manifest.json", 3)
    content = b"shard" * 1000
    name = blake3(content).hexdigest()[:32] + ".h5"
    with storage.scratch() as folder:
        (folder / "built").write_bytes(content)
        storage.adopt(folder / "built", name)
        assert not (folder / "built").exists()
    assert not folder.exists()
    assert storage.list() == sorted(["manifest.json", name])
    assert storage.size(name) == 5000
    assert storage.path(name).read_bytes() == content
    storage.path(name).unlink()
    assert storage.path(name).read_bytes() == content
    storage.require_space(1)
    with storage.writing():
        pass
    storage.delete(name)
    assert storage.list() == ["manifest.json"]


def test_what_a_store_refuses_is_not_taken_for_a_file_that_is_missing(memory, monkeypatch):
    """Or a run would compute anew, and put in its place, what it may only not look at."""
    storage = RemoteStorage("memory://features/photos")
    assert repr(storage) == "RemoteStorage('memory://features/photos/')"

    def refuse(*args):
        raise door.RemoteError("no permission (HTTP 403)")

    for name in ("read", "info"):
        monkeypatch.setattr(door, name, refuse)
    for ask in (lambda: storage.read("manifest.json", 9), lambda: storage.size("manifest.json")):
        with pytest.raises(CacheError, match="no permission") as caught:
            ask()
        assert caught.value.what.startswith("memory://features/photos/manifest.json: ")
        assert "access" in caught.value.next


def test_an_upload_that_arrives_in_part_is_told(memory, monkeypatch):
    """The manifest is not written then, so nobody reads the half."""
    storage = RemoteStorage("memory://features/photos/")
    real = door.upload

    def cut(path, url):
        real(path, url)
        memory.pipe_file("/features/photos/x.h5", b"sha")

    monkeypatch.setattr(door, "upload", cut)
    with storage.scratch() as folder:
        (folder / "built").write_bytes(b"shard")
        with pytest.raises(CacheError, match="has 3 bytes after it was written, not 5"):
            storage.adopt(folder / "built", "x.h5")
        assert (folder / "built").exists()


def test_a_copy_that_is_gone_is_fetched_by_opening_the_url_again(memory, photos, extract):
    """The error names what the user opened, not the folder of copies."""
    url = "memory://features/photos/"
    extract(photos(4), url)
    found = features.open(url)
    (shard,) = found.features.directory.manifest.shards
    RemoteStorage(url).path(shard.name).unlink()
    with pytest.raises(CacheError, match="was replaced after it was opened") as caught:
        found.features[:]
    assert caught.value.where == url
    assert caught.value.next == f"open it again: bp.open({url!r})"
    assert len(features.open(url).features[:]) == 4


def test_ids_of_outputs():
    assert elsewhere.split_output("s3://b/x.h5") == ("s3://b/x.h5", None)
    assert elsewhere.split_output("s3://b/x.h5::a:avg") == ("s3://b/x.h5", "a:avg")
    assert digest(b"") > 0


def test_a_place_that_cannot_be_written_is_told_before_anything_is_computed(
    bucket, photos, extract, calls, monkeypatch
):
    with pytest.raises(CacheError, match="no bucket s3://no-such-bucket-here"):
        extract(photos(3), "s3://no-such-bucket-here/x/")

    def refuse(url, data):
        raise door.RemoteError("no permission (HTTP 403)")

    monkeypatch.setattr(door, "write", refuse)
    with pytest.raises(CacheError, match=f"nothing can be written to {bucket}/x/"):
        extract(photos(3), f"{bucket}/x/")
    assert calls.started == 0


def test_nothing_is_left_of_the_trial(store, photos, extract):
    extract(photos(3), store[1])
    assert not [name for name in names(store) if "writable" in name]


def test_a_file_url_is_a_path_for_info_and_verify_too(photos, extract, tmp_path):
    folder = tmp_path / "my features"
    extract(photos(4), folder.as_uri() + "/")
    for command in ("info", "verify"):
        for url in (folder.as_uri(), folder.as_uri() + "/"):
            said = CliRunner().invoke(bottleneck, [command, url, "--json"])
            assert said.exit_code == 0, said.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["repair", "s3://b/x.h5", "-o", "new.h5"],
        ["repair", "x.h5", "-o", "s3://b/x.h5"],
        ["clear", "s3://b/x.h5"],
    ],
)
def test_what_is_mended_or_removed_is_on_this_computer(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(bottleneck, ["cache", *arguments])
    assert said.exit_code == 1
    assert "s3://b/x.h5 is on another machine" in said.output
    assert "copy it here first" in said.output
    assert not list(tmp_path.glob("s3*"))


def test_the_command_keeps_nothing_in_its_own_memory(photos, memory, calls):
    said = CliRunner().invoke(bottleneck, ["extract", str(photos(2)), "-o", "memory://o/"])
    assert said.exit_code == 1
    assert "gone when it ends" in said.output
    assert not memory.store
