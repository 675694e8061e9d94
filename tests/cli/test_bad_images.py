"""Images that cannot be used, from the command: each named with its reason, exit code 3, or 1 if all are."""

import io
import json
import os
import struct
import zlib

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner
from PIL import Image


@pytest.fixture
def extract(calls, tmp_path):
    """The command with the stub; its answer and its exit code."""

    def run(*arguments):
        output = str(tmp_path / "x.h5")
        command = ["extract", *map(str, arguments), "-o", output, "--backbone", "stub", "--json"]
        result = CliRunner().invoke(bottleneck, command)
        assert isinstance(result.exception, SystemExit), result.exception
        answer = json.loads(result.stdout)
        assert answer["exit_code"] == result.exit_code
        return answer

    return run


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb():
    """A PNG of 57 bytes that says it is 13,000 pixels wide and high."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 13000, 13000, 8, 2, 0, 0, 0)), (b"IDAT", b"")]
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*parts, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def noise():
    """Rows of a file that is cut have to be counted: noise spreads them evenly over it."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (400, 20, 3), np.uint8))


def test_each_bad_image_has_its_reason_and_the_rest_goes_on(extract, stub, tmp_path):
    root = tmp_path / "photos"
    good = {}
    for number in range(12):
        good[stub.paint(root / f"{number:02d}.png", number).name] = number
    # Right content under a wrong name, and shapes that nobody expects.
    for number, (name, size) in enumerate(
        [("a.jpg", (12, 9)), ("b.tiff", (1, 1)), ("c.webp", (1, 90)), ("d.png", (10000, 1))], 20
    ):
        good[stub.paint(root / name, number, size).name] = number
    whole = saved(noise())
    bad = {
        "bomb.png": (bomb(), "13000x13000 = 169 MP, over the limit of 100 MP (--max-pixels)"),
        "cut.png": (whole[: len(whole) * 3 // 4], "truncated after 7"),
        "empty.jpg": (b"", "empty file"),
        "eps.jpg": (saved(Image.new("RGB", (9, 9)), "EPS"), "PostScript, not an image"),
        "page.jpg": (b"<!doctype html><title>404</title>", "HTML, not an image"),
        "text.png": (b"not there any more", "text, not an image"),
    }
    for name, (content, _) in bad.items():
        (root / name).write_bytes(content)
    expected = {name: reason for name, (_, reason) in bad.items()}
    if os.name == "posix":
        os.mkfifo(root / "pipe.jpg")
        (root / "folder.jpg").mkdir()
        (root / "gone.jpg").symlink_to("nowhere.jpg")
        (root / "loop.jpg").symlink_to("loop.jpg")
        expected |= {
            "pipe.jpg": "not a regular file",
            "folder.jpg": "not a regular file: a folder",
            "gone.jpg": "broken link",
            "loop.jpg": "broken link",
        }
    answer = extract(root)
    assert (answer["exit_code"], answer["error"]) == (3, None)
    assert (answer["computed"], answer["quarantined"]) == (len(good), len(expected))
    assert answer["seen"] == len(good) + len(expected)
    found = bp.open(tmp_path / "x.h5")
    reasons = dict(found.quarantine)
    assert set(reasons) == set(expected)
    for name, reason in expected.items():
        assert reasons[name].startswith(reason), name
    for name, row in zip(found.paths, found.features[:], strict=True):
        np.testing.assert_allclose(row, stub.feature_of(good.pop(name)), atol=1e-4, err_msg=name)
    assert good == {}


@pytest.mark.parametrize("more", [[], ["--allow-bad"], ["--allow-bad-rate", "1"]])
def test_nothing_but_bad_images_is_exit_1_without_a_file(extract, calls, tmp_path, more):
    (tmp_path / "photos").mkdir()
    for name in "abc":
        (tmp_path / "photos" / f"{name}.jpg").write_bytes(b"<html>%s" % name.encode())
    answer = extract(tmp_path / "photos", *more)
    assert answer["exit_code"] == 1
    assert "none of the 3 images" in answer["error"]["what"]
    assert all(answer["error"][part] for part in ("what", "where", "next"))
    assert {path.name for path in tmp_path.iterdir()} <= {"photos", ".x.h5.lock"}
    assert calls.started == 0


@pytest.mark.parametrize("names", [[], ["notes.txt", ".hidden.jpg", "a.xml"]])
def test_no_image_at_all_is_exit_1_without_a_file(extract, calls, tmp_path, names):
    (tmp_path / "photos").mkdir()
    for name in names:
        (tmp_path / "photos" / name).write_bytes(b"x")
    answer = extract(tmp_path / "photos")
    assert answer["exit_code"] == 1
    assert "0 images" in answer["error"]["what"]
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]
    assert calls.started == 0
