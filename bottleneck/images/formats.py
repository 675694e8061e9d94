"""Which files are images: the first bytes of a file, or its name, in; the name of a format out."""

from __future__ import annotations

import re
import struct

# Enough to see every signature below: DICOM's is the last, behind a preamble of 128 bytes.
HEAD_BYTES = 144

SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WebP": (".webp",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "JPEG 2000": (".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"),
    "AVIF": (".avif", ".avifs"),
    "HEIC": (".heic", ".heif", ".hif"),
    "JPEG XL": (".jxl",),
    "DICOM": (".dcm", ".dicom"),
    "CZI": (".czi",),
}
IMAGE_SUFFIXES = frozenset(suffix for group in SUFFIXES.values() for suffix in group)

# Beside photographs these are so common that opening each to look for an image costs time for
# nothing: annotations, tables, archives, models, code.
_COMMON = (
    ".txt .xml .json .jsonl .csv .tsv .parquet .yaml .yml .toml .ini .cfg .log .md .rst .html .htm "
    ".py .ipynb .sh .bat .c .cpp .h .js .css .m .r .mat .npy .npz .h5 .hdf5 .pkl .pt .pth .onnx "
    ".safetensors .probe .db .sqlite .zip .tar .gz .tgz .bz2 .xz .7z .rar .pdf .doc .docx .xls "
    ".xlsx .ppt .pptx .mp3 .wav .mp4 .mov .avi .mkv .exe .dll .so .tmp .part"
)
NOT_IMAGES = frozenset(_COMMON.split())

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II\x2a\x00", "TIFF"),
    (b"MM\x00\x2a", "TIFF"),
    (b"II\x2b\x00", "TIFF"),  # BigTIFF
    (b"MM\x00\x2b", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"ZISRAWFILE", "CZI"),
)
# The header sizes that BMP's versions have; "BM" alone also begins ordinary text.
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}
_HEIF_BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}
_PPM = re.compile(rb"P([1-6]|[fF])[ \t\r\n]+(#|[0-9])")


def sniff(head: bytes) -> str | None:
    r"""Name the image format that some bytes begin with.

    Parameters
    ----------
    head : bytes
        The first `HEAD_BYTES` bytes of a file, or all of a shorter one.

    Returns
    -------
    str or None
        A key of `SUFFIXES`; None is no image format known here.

    Examples
    --------
    >>> sniff(b"\xff\xd8\xff\xe0"), sniff(b"<!DOCTYPE html>")
    ('JPEG', None)
    """
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if (
        head[:2] == b"BM"
        and len(head) >= 18
        and struct.unpack_from("<I", head, 14)[0] in _BMP_HEADERS
    ):
        return "BMP"
    if _PPM.match(head):
        return "PPM"
    if head[4:8] == b"ftyp":
        return _iso_media(head)
    if head[128:132] == b"DICM":
        return "DICOM"
    return None


def _iso_media(head: bytes) -> str | None:
    """AVIF or HEIC by the brands of the file type box; None for films and other ISO media."""
    size = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12]} | {head[i : i + 4] for i in range(16, size - 3, 4)}
    # mif1 says "HEIF container" only: an AVIF carries it too, so AVIF's own brand decides first.
    if brands & _AVIF_BRANDS:
        return "AVIF"
    return "HEIC" if brands & _HEIF_BRANDS else None


def suffix(name: str) -> str:
    """The last suffix of a file name in lower case with its dot, or an empty string.

    Examples
    --------
    >>> suffix("Photo.JPG"), suffix("README")
    ('.jpg', '')
    """
    stem, dot, last = name.rpartition(".")
    return f".{last}".lower() if dot and stem.strip(".") else ""


def is_image_name(name: str) -> bool:
    """Whether a file name has the suffix of an image format.

    Examples
    --------
    >>> is_image_name("ant.JPEG"), is_image_name("ant.xml")
    (True, False)
    """
    return suffix(name) in IMAGE_SUFFIXES


def describe(head: bytes) -> str:
    """Say what bytes that are no known image are instead, for a reason a person understands."""
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not head:
        return "empty file"
    if not head.strip(b"\x00"):
        return "only zero bytes, not an image"
    for start, name in (
        (b"<!doctype html", "HTML"),
        (b"<html", "HTML"),
        (b"<head", "HTML"),
        (b"<svg", "SVG (a drawing)"),
        (b"<?xml", "SVG (a drawing)" if b"<svg" in text else "XML"),
        (b"%pdf", "PDF"),
        (b"%!ps", "PostScript"),
        (b"8bps", "Photoshop PSD"),
        (b"simple  =", "FITS"),
        (b"pk\x03\x04", "a ZIP archive"),
        (b"\x1f\x8b", "gzip data"),
        (b"\x89hdf", "HDF5"),
        (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
    ):
        if text.startswith(start):
            return f"{name}, not an image"
    if head[4:8] == b"ftyp":
        return "a film (MP4 or the like), not an image"
    if head[:4] == b"RIFF":
        return "RIFF that is no WebP: a film or sound, or damaged at its start"
    if len(head) < 8:
        return f"{len(head)} byte{'s' * (len(head) > 1)}, too short for an image"
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    if printable >= 0.95 * len(head):
        return "text, not an image"
    for start, name in ((b"\xff\xd8", "JPEG"), (b"BM", "BMP"), (b"GI", "GIF"), (b"PNG", "PNG")):
        if head.startswith(start):
            return f"begins like a {name}, and does not go on like one: damaged at its start"
    return f"no image format known here, or damaged at its start ({head[:8].hex(' ')})"
