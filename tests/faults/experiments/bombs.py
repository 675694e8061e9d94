"""Images of a few bytes that ask for gigabytes: each is refused by its header, and costs no memory.

Each is decoded in a process of its own, with the host program's own guard (``Image.MAX_IMAGE_PIXELS``)
switched off. What counts is how far its memory rises over what it had after an ordinary image.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL: dict[str, Any] = {"names": None}
SMALL: dict[str, Any] = {"names": ["png", "gif frame", "tiff tile"]}

SIDE = 13000
MOST_BYTES = 200 << 20


def run(
    folder: Path, tell: Callable[[str], None], *, names: list[str] | None = None
) -> dict[str, Any]:
    """Decode the bombs of these names, by default all."""
    # An honest image of 25 MP takes 75 MB: else it is the measuring that does not work.
    control = _measured(_png(5000))
    sound = control["reason"] is None and control["extra"] > 70e6
    found = []
    for name in names or list(BOMBS):
        data, expected = BOMBS[name]()
        measured = _measured(data)
        reason, extra = measured["reason"], measured["extra"]
        good = reason is not None and expected in reason and extra <= MOST_BYTES
        found.append({"name": name, "bytes": len(data), "good": good, **measured})
        tell(f"{name}: {len(data):,} bytes, {extra / 1e6:.0f} MB over idle: {reason}")
    worst = max(found, key=lambda each: each["extra"])
    refused = sum(each["good"] for each in found)
    return {
        "held": sound and refused == len(found),
        "told": f"{refused} of {len(found)} bombs quarantined with their reason; at most "
        f"{worst['extra'] / 1e6:.0f} MB over idle ({worst['name']})",
        "control": control,
        "bombs": found,
    }


def _measured(data: bytes) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__], input=base64.b64encode(data), capture_output=True, check=True
    )
    return dict(json.loads(done.stdout))


def _decode_alone() -> None:
    """What the child does: an ordinary image of all formats, then the bomb; memory before and at most."""
    import numpy as np
    from bottleneck_probe.images.color import BadImage
    from bottleneck_probe.images.payload import to_pixels
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    data = base64.b64decode(sys.stdin.buffer.read())
    picture = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF"):
        file = io.BytesIO()
        picture.save(file, kind)
        to_pixels(file.getvalue())
    idle = _peak(fresh=True)
    reason = None
    try:
        to_pixels(data)
    except BadImage as bad:
        reason = str(bad)
    print(json.dumps({"reason": reason, "extra": max(0, _peak() - idle)}))


def _peak(*, fresh: bool = False) -> int:
    """The most memory that this process has had, since the last call that asked for a fresh count."""
    try:
        if fresh:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    except OSError:  # not Linux: since the process began
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def _packed(size: int) -> bytes:
    """`size` zeros, compressed."""
    packer = zlib.compressobj(9)
    block = bytes(1 << 20)
    parts = [packer.compress(block) for _ in range(size >> 20)]
    parts.append(packer.compress(bytes(size & (1 << 20) - 1)))
    return b"".join([*parts, packer.flush()])


def _png(side: int = 8, more: bytes = b"", interlaced: int = 0, depth: int = 8) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, 2, 0, 0, interlaced))
    pixels = _packed((side * 3 * depth // 8 + 1) * side)
    return b"\x89PNG\r\n\x1a\n" + head + more + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _gif(screen: int, frame: int, disposal: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", screen, screen, 0x80, 0, 0) + bytes(6)
    control = b"!\xf9\x04" + bytes([disposal << 2, 0, 0, 0, 0])
    return (
        head
        + control
        + b","
        + struct.pack("<HHHHB", 0, 0, frame, frame, 0)
        + b"\x02\x02\x4c\x01\x00;"
    )


def _tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"", big: bool = False) -> bytes:
    """A TIFF whose tags are given as type, count and value; `data` lies at 1024."""
    count = struct.pack("<H", len(tags))
    entries = b"".join(
        struct.pack("<HHII", tag, kind, n, value) for tag, (kind, n, value) in sorted(tags.items())
    )
    return (b"II*\0" + struct.pack("<I", 8) + count + entries + bytes(4)).ljust(1024, b"\0") + data


def _tags(width: int, height: int, **more: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    tags = {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, 8),  # deflate
        262: (3, 1, 1),
        273: (4, 1, 1024),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, 1000),
    }
    return tags | {int(name[1:]): value for name, value in more.items()}


def _tiled() -> dict[int, tuple[int, int, int]]:
    tags = _tags(64, 64, t322=(4, 1, 60000), t323=(4, 1, 60000))
    del tags[273], tags[278], tags[279]
    return tags | {324: (4, 1, 1024), 325: (4, 1, 1000)}


def _saved(kind: str, **options: Any) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, kind, **options)
    return file.getvalue()


def _resized(data: bytes, pattern: str, width: int, height: int) -> bytes:
    """A file whose header says another size, wherever it says one."""
    old, new = struct.pack(pattern, 64, 64), struct.pack(pattern, width, height)
    assert old in data
    return data.replace(old, new)


def _jpeg(side: int, progressive: bool) -> bytes:
    return _resized(_saved("JPEG", progressive=progressive), ">HH", side, side)


def _webp() -> bytes:
    """A canvas of 16383 x 16383, and no frame that fits it."""
    still = _saved("WEBP", lossless=True)
    size = (16382).to_bytes(3, "little") * 2
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + size
    body = b"WEBP" + extended + still[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _bmp() -> bytes:
    """Run lengths: two bytes for 255 pixels, or none at all."""
    head = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 8, 1, 4, 0, 0, 256, 0)
    return (
        b"BM" + struct.pack("<IHHI", 2000, 0, 0, 14 + 40 + 1024) + head + bytes(1024) + b"\0\1\0\0"
    )


_MP = f"{SIDE}x{SIDE} = 169 MP"
_TEXT = b"Comment\0\0" + _packed(100 << 20)
# What each is, and a part of the reason that is expected.
BOMBS: dict[str, Callable[[], tuple[bytes, str]]] = {
    "png": lambda: (_png(SIDE), _MP),
    "png interlaced, 16 bits": lambda: (_png(SIDE, interlaced=1, depth=16), _MP),
    "png header": lambda: (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", struct.pack(">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0))
        + _chunk(b"IDAT", _packed(1000)),
        "over the limit of 100 MP",
    ),
    "png text": lambda: (_png(more=_chunk(b"zTXt", _TEXT)), "unpack"),
    "png texts": lambda: (
        _png(more=_chunk(b"zTXt", b"Comment\0\0" + _packed(1000 << 10)) * 500),
        "unpack",
    ),
    "png colour profile": lambda: (_png(more=_chunk(b"iCCP", _TEXT)), "unpack"),
    "gif": lambda: (_gif(SIDE, SIDE, 0), _MP),
    "gif frame": lambda: (_gif(10, SIDE, 2), _MP),
    "gif frame before": lambda: (_gif(10, 65535, 3), "over the limit of 100 MP"),
    "tiff": lambda: (_tiff(_tags(SIDE, SIDE), _packed(SIDE * SIDE)), _MP),
    "tiff header": lambda: (_tiff(_tags(2**31, 2**31)), "over the limit of 100 MP"),
    "tiff tags": lambda: (_tiff(_tags(64, 64, t270=(2, 2**32 - 1, 8))), "TIFF"),
    "tiff strips": lambda: (_tiff(_tags(64, 64, t273=(4, 2**32 - 1, 8))), "TIFF"),
    "tiff tile": lambda: (_tiff(_tiled(), _packed(1 << 20)), "TIFF"),
    "tiff channels": lambda: (_tiff(_tags(9000, 9000, t277=(3, 1, 60000))), "TIFF"),
    "webp": lambda: (_webp(), "16383x16383 = 268 MP"),
    "jpeg": lambda: (_jpeg(SIDE, False), _MP),
    "jpeg progressive": lambda: (_jpeg(65500, True), "over the limit of 100 MP"),
    "jpeg 2000": lambda: (
        _resized(_saved("JPEG2000"), ">II", SIDE, SIDE),
        _MP,
    ),
    "jpeg 2000 codestream": lambda: (
        _resized(_saved("JPEG2000", no_jp2=True), ">II", SIDE, SIDE),
        _MP,
    ),
    "avif": lambda: (_resized(_saved("AVIF"), ">II", SIDE, SIDE), ""),
    "bmp": lambda: (_bmp(), _MP),
    "ppm": lambda: (b"P6 13000 13000 255\n", _MP),
    "tga": lambda: (
        struct.pack("<BBBHHBHHHHBB", 0, 0, 10, 0, 0, 0, 0, 0, SIDE, SIDE, 24, 0)
        + b"\xff\0\0\0" * 9,
        "no image format known here",
    ),
}


if __name__ == "__main__":
    _decode_alone()
