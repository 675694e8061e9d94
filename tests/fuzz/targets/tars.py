"""Any bytes as a tar: its members lie within it, and each comes back or says why not."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import tarfile
import tempfile

from bottleneck_probe.errors import InputError
from bottleneck_probe.images.color import BadImage
from bottleneck_probe.images.tars.finding import find_tars
from bottleneck_probe.paths import unescape

_folder = tempfile.mkdtemp()
atexit.register(shutil.rmtree, _folder, ignore_errors=True)


def target(data: bytes) -> None:
    """List a tar of these bytes and read its members; only the errors a user sees may come."""
    path = os.path.join(_folder, "any.tar")
    with open(path, "wb") as file:
        file.write(data)
    try:
        found, _ = find_tars([path])
    except InputError:
        return
    inside = os.path.join(path, "")
    for sample in found.samples:
        place = os.path.normpath(os.path.join(found.root, sample.path))
        assert place.startswith(inside), f"{sample.path} leads out"
        sample.path.encode("utf-8")
        assert "\0" not in sample.path
        unescape(sample.path)
        if sample.fault is not None:
            continue
        try:
            content, _ = sample.source.read(1 << 20)
        except BadImage:
            continue
        assert content == data[sample.source.offset :][: sample.source.size]
    assert os.listdir(_folder) == ["any.tar"]


def seeds() -> list[bytes]:
    """Tars to begin with, of each kind and with what stands beside images."""
    entries = [
        ("ants/1.jpg", b"\xff\xd8\xff\xe0"),
        ("ants/1.cls", b"3"),
        (f"{'n' * 60}/{'n' * 60}", b"\x89PNG\r\n"),
    ]
    entries += [("2.png", b"x" * 600), ("2.json", b'{"label": "bee", "split": "test"}')]
    found = []
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for name, data in entries:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            for kind_of, link in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.FIFOTYPE, "")):
                info = tarfile.TarInfo("../3.jpg")
                info.type, info.linkname = kind_of, link
                tar.addfile(info)
        found.append(file.getvalue())
    return found
