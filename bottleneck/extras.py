"""Optional packages: one table of what belongs to which extra, one function that asks for them."""

from __future__ import annotations

import importlib
from types import ModuleType

from .errors import MissingExtraError

# package -> (extra that installs it, what a user can do without it)
_EXTRAS = {
    "pandas": ("pandas", "read .paths, .labels and .features directly"),
    "pyarrow": ("parquet", "use .csv"),
    "pillow_heif": ("heif", "convert the images to JPEG or PNG"),
    "conformal_clip_data": ("demo", "run `bottleneck extract` on photographs of your own"),
    "transformers": ("hf", "use a backbone of timm or torchvision, or give an .onnx file"),
    "matplotlib": ("notebook", "print the tables instead"),
}


def require(package: str, *, purpose: str) -> ModuleType:
    """Import an optional package, or say which line installs it.

    Parameters
    ----------
    package : str
        Import name, one of the table above.
    purpose : str
        What needs it, as the subject of a sentence: ``"Writing .parquet"``.

    Returns
    -------
    module : module

    Raises
    ------
    MissingExtraError
        If the package is not installed.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (
            error.name != package
        ):  # installed, but one of its own imports is broken: not ours to hide
            raise
        extra, otherwise = _EXTRAS[package]
        raise MissingExtraError(
            f"{purpose} needs the package {package.replace('_', '-')}, which is not installed",
            next=f"pip install 'bottleneck-probe[{extra}]', or {otherwise}",
        ) from error
