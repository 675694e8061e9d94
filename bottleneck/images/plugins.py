"""Which decoder reads which format: the name of a format in, an opened image or a way out."""

from __future__ import annotations

import importlib
import io
from typing import Any

from .color import BadImage
from .guard import silence_libtiff

# The plugin's own class, not `Image.open`: that would also try formats with a worse record of holes
# (EPS runs Ghostscript), and applies the host's `Image.MAX_IMAGE_PIXELS` instead of our limit.
_PLUGINS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PngImagePlugin", "PngImageFile"),
    "GIF": ("GifImagePlugin", "GifImageFile"),
    "BMP": ("BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile"),
    "WebP": ("WebPImagePlugin", "WebPImageFile"),
    "PPM": ("PpmImagePlugin", "PpmImageFile"),
    "JPEG 2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile"),
}
# A part of Pillow that may be missing from a build, and the line that gets it.
_FEATURES = {
    "AVIF": ("avif", "pip install --upgrade pillow (its wheels read AVIF), or convert it to PNG"),
    "WebP": ("webp", "pip install --upgrade pillow (its wheels read WebP), or convert it to PNG"),
    "JPEG 2000": ("jpg_2000", "pip install --upgrade pillow, or convert it to PNG"),
}
_NO_DECODER = {
    "HEIC": "pip install 'bottleneck-probe[heif]'",
    "DICOM": (
        "pip install pydicom, then in Python bp.extract([pydicom.dcmread(p).pixel_array for p in"
        " paths])"
    ),
    "CZI": (
        "pip install czifile, then in Python bp.extract([czifile.imread(p).squeeze() for p in"
        " paths]), or export it as TIFF"
    ),
    "JPEG XL": (
        "pip install pillow-jxl-plugin, then in Python import pillow_jxl and"
        " bp.extract([PIL.Image.open(p) for p in paths])"
    ),
}


def open_header(data: bytes, kind: str) -> Any:
    """Read an image's header with the decoder of its format; pixels wait for ``load``.

    Parameters
    ----------
    data : bytes
        The whole file.
    kind : str
        What `formats.sniff` said.

    Returns
    -------
    PIL.ImageFile.ImageFile

    Raises
    ------
    BadImage
        If the format has no decoder here, with the line that gets one.
    """
    from PIL import features

    if kind == "HEIC":
        try:
            heif = importlib.import_module("pillow_heif")
        except ImportError:
            raise BadImage(f"HEIC has no decoder here: {_NO_DECODER[kind]}") from None
        return heif.HeifImagePlugin.HeifImageFile(io.BytesIO(data))
    if kind in _NO_DECODER:
        raise BadImage(f"{kind} is not decoded here: {_NO_DECODER[kind]}")
    if kind in _FEATURES and not features.check(_FEATURES[kind][0]):
        raise BadImage(f"{kind} has no decoder here: {_FEATURES[kind][1]}")
    if kind == "TIFF":
        silence_libtiff()
    module, name = _PLUGINS[kind]
    return getattr(importlib.import_module(f"PIL.{module}"), name)(io.BytesIO(data))
