"""The contact sheet: every pixel where it belongs, and no file lost."""

import os

import numpy as np
import pytest
from bottleneck_probe.cache import atomic
from bottleneck_probe.errors import CacheError, InputError
from bottleneck_probe.report.preview import contact_sheet, preview, preview_path
from PIL import Image

RNG = np.random.default_rng(0)


def views(n: int, h: int = 128, w: int = 112) -> list[tuple[str, np.ndarray]]:
    pixels = RNG.integers(0, 256, (n, h, w, 3), dtype=np.uint8)
    return [(f"ants/{i}.jpg", view) for i, view in enumerate(pixels)]


def found(sheet: np.ndarray, view: np.ndarray) -> list[tuple[int, int]]:
    """Where a view stands in a sheet, pixel by pixel, found by looking everywhere."""
    first = np.argwhere((sheet == view[0, 0]).all(axis=2))
    h, w = view.shape[:2]
    return [(y, x) for y, x in first.tolist() if np.array_equal(sheet[y : y + h, x : x + w], view)]


@pytest.mark.parametrize("n", [1, 3, 4, 5, 16])
def test_every_view_is_there_unchanged_four_a_row(tmp_path, n: int):
    images = views(n)
    path = preview(images, tmp_path / "sheet.png")
    with Image.open(path) as file:
        assert file.format == "PNG"
        sheet = np.asarray(file)
    places = [found(sheet, view) for _, view in images]
    assert [len(place) for place in places] == [1] * n
    corners = [place[0] for place in places]
    assert corners == sorted(corners), "row by row"
    assert len({y for y, _ in corners}) == -(-n // 4)
    assert len({x for _, x in corners}) == min(n, 4)


def test_of_more_than_sixteen_the_first():
    images = views(18)
    sheet = np.asarray(contact_sheet(images))
    assert found(sheet, images[15][1])
    assert not found(sheet, images[16][1])
    assert sheet.shape == np.asarray(contact_sheet(images[:16])).shape


def test_small_views_are_enlarged_pixel_by_pixel_and_large_ones_reduced():
    small = views(1, 32, 30)[0][1]
    assert found(np.asarray(contact_sheet([("a", small)])), np.kron(small, np.ones((3, 3, 1))))
    large = contact_sheet(views(1, 1000, 1500))
    assert large.size[0] < 420
    assert large.size[1] < 320
    mixed = contact_sheet([*views(1, 100, 200), *views(1, 200, 100)])
    assert mixed.size[0] > 2 * 200


def ink(sheet: Image.Image) -> np.ndarray:
    """Columns with dark pixels below the white images of a sheet of one row."""
    strip = np.asarray(sheet.convert("L"))[8 + 128 :]
    return np.flatnonzero((strip < 128).any(axis=0))


WHITE = np.full((128, 128, 3), 255, dtype=np.uint8)


@pytest.mark.parametrize("title", ["x" * 100_000, "W" * 60, "ants/" + "a b" * 40, "日" * 90])
def test_long_titles_stay_below_their_image(title: str):
    sheet = contact_sheet([(title, WHITE), ("", WHITE)])
    columns = ink(sheet)
    assert columns.size, "something is written"
    assert columns.max() < 8 + 128
    assert columns.min() >= 8 - 1


def test_the_ends_of_a_long_title_stay_readable():
    title = "train/ants/" + "0123456789" * 9 + "-front.jpg"
    one, other = (contact_sheet([(t, WHITE)]) for t in (title, title.replace("front", "side0")))
    assert np.any(np.asarray(one) != np.asarray(other))
    start = contact_sheet([(title.replace("train", "tests"), WHITE)])
    assert np.any(np.asarray(one) != np.asarray(start))


@pytest.mark.parametrize("title", ["a\nb", "a\x1b[31m", "a\udc80.jpg", "a\0b", "a\tb", "\u202eabc"])
def test_titles_that_would_break_the_line_are_escaped(title: str):
    sheet = contact_sheet([(title, WHITE)])
    assert sheet.size == contact_sheet([("plain", WHITE)]).size
    escaped = title.encode("unicode_escape").decode()
    same = contact_sheet([(escaped, WHITE)])
    np.testing.assert_array_equal(np.asarray(sheet), np.asarray(same))


def test_without_freetype_there_is_a_font_too(monkeypatch: pytest.MonkeyPatch):
    from PIL import ImageFont, features

    monkeypatch.setattr(features, "check", lambda name: False)
    drawn = ImageFont.load_default_imagefont()
    monkeypatch.setattr(ImageFont, "load_default", lambda size=None: drawn)
    assert ink(contact_sheet([("é日" * 40, WHITE)])).size


def test_a_png_is_replaced_and_nothing_else(tmp_path):
    target = tmp_path / "sheet.PNG"
    preview(views(1), target)
    before = target.read_bytes()
    preview(views(2), target)
    assert target.read_bytes() != before
    target.write_bytes(b"")  # as tempfile leaves it
    preview(views(1), target)
    assert os.listdir(tmp_path) == ["sheet.PNG"]


@pytest.mark.parametrize("name", ["features.h5", "photo.jpg", "sheet", "sheet.png.txt", ".png"])
def test_a_name_that_is_no_png_is_refused(tmp_path, name: str):
    with pytest.raises(InputError, match=r"does not end in \.png"):
        preview(views(1), tmp_path / name)
    assert not os.listdir(tmp_path)


def test_what_is_no_png_is_never_overwritten(tmp_path):
    precious = tmp_path / "data.h5"
    precious.write_bytes(b"\x89HDF\r\n\x1a\n")
    link, named, folder = tmp_path / "link.png", tmp_path / "named.png", tmp_path / "folder.png"
    link.symlink_to(precious)
    named.write_bytes(b"\xff\xd8\xff\xe0 a photograph under a wrong name")
    folder.mkdir()
    kept = named.read_bytes()
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    for path in (link, named, folder, fifo):
        with pytest.raises(InputError) as caught:
            preview(views(1), path)
        error = caught.value
        assert (str(path) in error.what, error.where) == (True, "--preview")
        assert error.expected
        assert error.next
        with pytest.raises(InputError):
            preview_path(path)
    assert (precious.read_bytes(), named.read_bytes()) == (b"\x89HDF\r\n\x1a\n", kept)


def test_a_failed_write_leaves_the_old_sheet(tmp_path, monkeypatch: pytest.MonkeyPatch):
    target = preview(views(1), tmp_path / "sheet.png")
    before = target.read_bytes()

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(atomic.os, "write", full)
        with pytest.raises(CacheError, match="disk full"):
            preview(views(2), target)
    assert target.read_bytes() == before
    assert os.listdir(tmp_path) == ["sheet.png"]


def test_nothing_to_show(tmp_path):
    with pytest.raises(InputError, match="no image to preview"):
        preview([], tmp_path / "sheet.png")
