"""Many images in tars, and images behind a slow connection: what finding and reading them costs."""

from __future__ import annotations

import resource
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from bottleneck_probe.images.find import find
from bottleneck_probe.remote.ahead import Ahead

FULL = {"images": 1_000_000, "shards": 100, "remote": 1000, "delay_s": 0.05}
SMALL = {"images": 600, "shards": 3, "remote": 24, "delay_s": 0.02}

BLOCK = tarfile.BLOCKSIZE


def run(
    folder: Path,
    tell: Callable[[str], None],
    *,
    images: int,
    shards: int,
    remote: int,
    delay_s: float,
) -> dict[str, Any]:
    """Write tars of small images with labels, find and read all; then fetch some over HTTP."""
    pytest.importorskip("fsspec")
    each = images // shards
    (folder / "shards").mkdir(parents=True, exist_ok=True)
    for shard in range(shards):
        _write(folder / "shards" / f"{shard:05d}.tar", shard * each, each)
    tell(f"{images} images written")
    before = _peak()
    began = time.perf_counter()
    found = find(str(folder / "shards" / f"{{00000..{shards - 1:05d}}}.tar"))
    listed_s = time.perf_counter() - began
    memory = (_peak() - before) / images
    began = time.perf_counter()
    right = 0
    for sample in found.samples:
        number = int(sample.path[-12:-4])
        content, _ = sample.source.read(1 << 20)
        right += content == _image(number) and sample.label == str(number % 1000)
    read_s = time.perf_counter() - began
    fetched_s, arrived = _fetch(remote, delay_s)
    one_by_one_s = remote * delay_s
    return {
        "held": right == len(found.samples) == images and arrived == remote,
        "told": (
            f"{images:,} images in {shards} tars: found in {listed_s:.1f} s "
            f"({images / listed_s:,.0f} a second, labels read), {memory:.0f} bytes of memory an "
            f"image at the peak; all read at their places in {read_s:.1f} s, each with its own bytes "
            f"and label; {remote} objects behind {delay_s * 1000:.0f} ms an answer in "
            f"{fetched_s:.1f} s (one after the other: {one_by_one_s:.1f} s)"
        ),
        "listed_s": listed_s,
        "read_s": read_s,
        "bytes_an_image": memory,
        "fetched_s": fetched_s,
    }


def _image(number: int) -> bytes:
    return b"\xff\xd8\xff" + number.to_bytes(8, "big") * 40


def _write(path: Path, first: int, count: int) -> None:
    with open(path, "wb") as file:
        for number in range(first, first + count):
            for kind, data in (("jpg", _image(number)), ("cls", b"%d" % (number % 1000))):
                info = tarfile.TarInfo(f"{number:08d}.{kind}")
                info.size = len(data)
                file.write(info.tobuf(tarfile.USTAR_FORMAT))
                file.write(data + bytes(-len(data) % BLOCK))
        file.write(bytes(2 * BLOCK))


def _peak() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _fetch(count: int, delay_s: float) -> tuple[float, int]:
    """Seconds for so many objects, read ahead of who takes them in order; how many were right."""
    for address in _server(delay_s):
        samples = find([f"{address}/{number}.jpg" for number in range(count)]).samples
        sources = [sample.source for sample in samples]
        sources[0].read(1 << 20)  # imports and starts what is needed
        ahead = Ahead(partial(_content, sources))
        began = time.perf_counter()
        for i in range(count):
            ahead.begin(i)
        right = sum(
            ahead.take(i) == _image(int(samples[i].path.rpartition("/")[2][:-4]))
            for i in range(count)
        )
        seconds = time.perf_counter() - began
    return seconds, right


def _content(sources: list[Any], i: int) -> bytes:
    return bytes(sources[i].read(1 << 20)[0])


def _server(delay_s: float) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            time.sleep(delay_s)
            data = _image(int(self.path[1:-4]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
