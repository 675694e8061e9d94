"""A contact sheet: images as the network sees them and their titles in, one PNG file out."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..cache.atomic import replace_atomically
from ..errors import InputError
from .terminal import printable

if TYPE_CHECKING:
    from PIL import Image

SHOWN = 16
COLUMNS = 4
# Larger views are reduced and smaller ones enlarged, so that a sheet fits a screen.
LARGEST_PX = 384
SMALLEST_PX = 96
_GAP_PX = 8
_TITLE_PX = 20
_FONT_PX = 13
_BACKGROUND, _INK = (245, 245, 245), (20, 20, 20)
_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def preview(images: Sequence[tuple[str, np.ndarray]], path: str | os.PathLike[str]) -> Path:
    """Write a contact sheet, 4 images a row.

    Parameters
    ----------
    images : sequence of (title, ndarray of shape (h, w, 3), uint8)
        Views as `frames` gives them; of more than 16 the first 16. A title is shortened to the
        width of its image, and control characters in it are escaped.
    path : str or path-like
        Ends in ``.png``. Written whole or not at all; a PNG file that is there is replaced.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    InputError
        As `preview_path` does, or if there is no image.
    CacheError
        If the file cannot be written.
    """
    target = preview_path(path)
    if not images:
        raise InputError(
            "there is no image to preview",
            expected=f"1 to {SHOWN} images",
            where=str(path),
            next="check the list of images that could not be used",
        )
    encoded = io.BytesIO()
    contact_sheet(images).save(encoded, "PNG")
    with replace_atomically(target) as file:
        file.write(encoded.getvalue())
    return target


def preview_path(path: str | os.PathLike[str]) -> Path:
    """Check where a preview is to be written, before any work is done.

    Raises
    ------
    InputError
        If its name does not end in ``.png``, or something is there that is no PNG file.
    """
    target = Path(path)
    fault = ""
    if target.suffix.lower() != ".png":
        fault = f"{target} does not end in .png"
    elif target.is_dir():
        fault = f"{target} is a folder"
    elif target.exists() and not _is_png_or_empty(target):
        fault = f"{target} is there and is no PNG file, whatever its name says"
    if fault:
        raise InputError(
            fault,
            expected="a new .png file, or one to replace",
            where="--preview",
            next="choose another name, such as preview.png",
        )
    return target


def _is_png_or_empty(path: Path) -> bool:
    if not path.is_file():  # a FIFO would wait for a writer for ever
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(_SIGNATURE)) in (_SIGNATURE, b"")
    except OSError:  # it cannot be read, so nobody knows what would be lost
        return False


def contact_sheet(images: Sequence[tuple[str, np.ndarray]]) -> Image.Image:
    """Draw the sheet.

    Parameters
    ----------
    images : sequence of (title, ndarray of shape (h, w, 3), uint8)
        At least one.

    Returns
    -------
    PIL.Image.Image of mode RGB
        Each image centred in its cell; pixel by pixel where it has 96 to 384 pixels a side.

    Examples
    --------
    >>> grey = np.full((224, 224, 3), 128, dtype=np.uint8)
    >>> contact_sheet([("ants/1.jpg", grey), ("ants/2.jpg", grey)]).size
    (472, 260)
    """
    from PIL import Image, ImageDraw

    shown = [(title, _scaled(Image.fromarray(view))) for title, view in images[:SHOWN]]
    width = max(view.width for _, view in shown) + _GAP_PX
    height = max(view.height for _, view in shown) + _TITLE_PX + _GAP_PX
    columns = min(COLUMNS, len(shown))
    rows = -(-len(shown) // columns)
    sheet = Image.new("RGB", (columns * width + _GAP_PX, rows * height + _GAP_PX), _BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), _font()
    for place, (title, view) in enumerate(shown):
        left = _GAP_PX + place % columns * width
        top = _GAP_PX + place // columns * height
        room = width - _GAP_PX
        sheet.paste(view, (left + (room - view.width) // 2, top))
        text = _shortened(title, room, font)
        draw.text((left, top + height - _GAP_PX - _TITLE_PX + 2), text, fill=_INK, font=font)
    return sheet


def _scaled(view: Image.Image) -> Image.Image:
    from PIL import Image

    longest = max(view.size)
    if longest > LARGEST_PX:
        size = [max(1, round(side * LARGEST_PX / longest)) for side in view.size]
        return view.resize((size[0], size[1]), Image.Resampling.LANCZOS)
    # By a whole number and without a filter: the pixels that a small network gets stay visible.
    times = -(-SMALLEST_PX // longest)
    return view.resize((view.width * times, view.height * times), Image.Resampling.NEAREST)


def _font() -> Any:
    from PIL import ImageFont, features

    # Pillow's own font; without FreeType the drawn one, which knows Latin-1 alone.
    return ImageFont.load_default(_FONT_PX if features.check("freetype2") else None)


def _shortened(title: str, room: int, font: Any) -> str:
    """`title` in one line that fits, its middle left out: folder and number stay readable."""
    from PIL import ImageFont

    text = printable(title)
    if not isinstance(font, ImageFont.FreeTypeFont):
        text = text.encode("latin-1", "backslashreplace").decode("latin-1")
    text = text if len(text) <= 400 else f"{text[:200]}{text[-200:]}"  # measuring takes its time
    short, kept = text, len(text)
    while kept and font.getlength(short) > room:
        kept -= 1
        short = f"{text[: kept // 2]}...{text[len(text) - (kept + 1) // 2 :]}"
    return short
