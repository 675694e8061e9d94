"""Files for the tests that look for images; their pixels do not matter there."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (2, 2), (9, 8, 7)).save(file, "PNG")
    return file.getvalue()


PNG = _png()


@pytest.fixture
def tree(tmp_path: Path) -> Callable[..., Path]:
    """Makes files below a folder: those with an image's suffix are images, others hold text."""

    def make(*names: str, folder: str = "photos", **contents: str | bytes) -> Path:
        root = tmp_path / folder
        root.mkdir(exist_ok=True)
        for name in names:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            image = path.suffix.lower() in (".jpg", ".jpeg", ".png")
            path.write_bytes(PNG if image else b"text")
        return root

    return make
