"""Headers read by hand where opening a file already costs memory: its bytes in, its size out."""

from __future__ import annotations

import struct
from collections.abc import Callable


def webp_size(data: bytes) -> tuple[int, int]:
    """Width and height from a WebP header; (0, 0) where it is too short.

    Pillow's plugin makes room for the whole canvas as soon as it opens a file.

    References
    ----------
    RFC 9649, section 2.
    """
    head = data[:30].ljust(30, b"\0")
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 ":
        width, height = struct.unpack_from("<HH", head, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def gif_size(data: bytes) -> tuple[int, int]:
    """Width and height of a GIF's screen together with its first frame; (0, 0) if too short.

    A frame may be larger than the screen, and where it is to be disposed of, Pillow's plugin makes
    room for it while it opens the file.

    References
    ----------
    CompuServe, Graphics Interchange Format, version 89a, sections 18 and 20.
    """
    if len(data) < 13:
        return 0, 0
    width, height = struct.unpack_from("<HH", data, 6)
    frame = _gif_frame(data, _after_screen(data))
    if frame is None:
        return width, height
    left, top, w, h = struct.unpack_from("<HHHH", data, frame + 1)
    return max(width, left + w), max(height, top + h)


def gif_is_animated(data: bytes) -> bool:
    """Whether a GIF has a second frame; looks at the lengths of its blocks alone."""
    first = _gif_frame(data, _after_screen(data)) if len(data) >= 13 else None
    if first is None:
        return False
    flags = data[first + 9]
    # Behind the descriptor: the frame's own palette, one byte for the size of codes, its blocks.
    pixels = first + 10 + (3 << (flags & 7) + 1 if flags & 128 else 0) + 1
    return _gif_frame(data, _after_blocks(data, pixels)) is not None


# WebP and GIF: where Pillow takes memory before anybody could ask for the size.
SIZES: dict[str, Callable[[bytes], tuple[int, int]]] = {"WebP": webp_size, "GIF": gif_size}


def _after_screen(data: bytes) -> int:
    flags = data[10]
    return 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)


def _gif_frame(data: bytes, at: int) -> int | None:
    """Where the next image descriptor begins, from a block's beginning on; None if there is none."""
    while at + 10 <= len(data):
        if data[at] == 0x2C:
            return at
        if data[at] == 0x3B:  # the trailer
            return None
        # An extension; Pillow skips bytes that are no block, one at a time.
        at = _after_blocks(data, at + 2) if data[at] == 0x21 else at + 1
    return None


def _after_blocks(data: bytes, at: int) -> int:
    """Behind a row of sub-blocks, each with its length in front, which an empty one ends."""
    while at < len(data) and data[at]:
        at += data[at] + 1
    return at + 1
