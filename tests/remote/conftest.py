"""Servers on this computer, without a network: a web server with faults, and a store of objects."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test."""
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "users-cache"))
    return tmp_path / "users-cache"


class Web:
    """What a web server answers, and how it misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.statuses: dict[str, list[int]] = {}  # for the next requests, then the file
        self.cut: set[str] = set()
        self.delay_s = 0.0
        self.go_on = threading.Event()  # set: no delays any more
        self.hold = 0  # nobody is answered before so many have asked at once
        self.held = threading.Event()
        self.ranges = True
        self.asked: list[tuple[str, str]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.address = ""


@pytest.fixture
def web():
    """A web server on loopback."""
    state = Web()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, send):
            path = self.path.partition("?")[0]
            with state.lock:
                state.asked.append((self.command, self.path))
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
                if state.at_once >= state.hold:
                    state.held.set()
                statuses = state.statuses.get(path)
                status = statuses.pop(0) if statuses else 200
            try:
                state.held.wait(60)
                state.go_on.wait(state.delay_s)
                body = state.files.get(path)
                if status == 200 and body is None:
                    status = 404
                if status != 200:
                    self.send_error(status)
                    return
                start, stop = 0, len(body)
                asked = self.headers.get("Range")
                if state.ranges and asked:
                    first, _, last = asked.removeprefix("bytes=").partition("-")
                    start, stop = int(first), min(stop, int(last) + 1)
                    self.send_response(206)
                else:
                    self.send_response(200)
                self.send_header("Content-Length", str(stop - start))
                self.send_header("Accept-Ranges", "bytes" if state.ranges else "none")
                self.end_headers()
                if send:
                    end = start + (stop - start) // 2 if path in state.cut else stop
                    self.wfile.write(body[start:end])
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with state.lock:
                    state.at_once -= 1

        def do_GET(self):
            self._answer(True)

        def do_HEAD(self):
            self._answer(False)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        state.address = f"http://127.0.0.1:{running.server_port}"
        yield state
        running.shutdown()


@pytest.fixture(scope="session")
def object_store():
    """A store that speaks S3, on loopback; the environment leads to it."""
    pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs")
    moto = pytest.importorskip(
        "moto.server", reason="moto is not installed: pip install 'moto[server]'"
    )
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(object_store, monkeypatch: pytest.MonkeyPatch):
    """A new bucket, as its URL; `bucket.fs` is fsspec's own way in, for the tests to look."""
    import fsspec
    from bottleneck_probe.remote import door

    for name, value in (
        ("AWS_ENDPOINT_URL", object_store),
        ("AWS_ACCESS_KEY_ID", "testing"),
        ("AWS_SECRET_ACCESS_KEY", "testing"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    door.filesystem.cache_clear()
    system = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    name = f"bucket-{os.urandom(4).hex()}"
    system.mkdir(name)
    yield Bucket(f"s3://{name}", system)
    door.filesystem.cache_clear()


class Bucket(str):
    """The URL of a bucket."""

    def __new__(cls, url, fs):
        made = super().__new__(cls, url)
        made.fs = fs
        return made


@pytest.fixture
def memory():
    """fsspec's store in memory, empty."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()
