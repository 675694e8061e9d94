"""What one image may cost: options of a run, no part of the recipe; a limit that is raised lets images in."""

import bottleneck_probe as bp
import click
import numpy as np
import pytest
from bottleneck_probe.cli.options import Amount
from bottleneck_probe.extraction import record
from bottleneck_probe.extraction.options import RunOptions
from bottleneck_probe.images.limits import Limits, lifted, too_many_bytes, too_many_pixels
from PIL import Image


@pytest.fixture
def extract(calls, tmp_path, monkeypatch):
    # Files count as settled at once: what is in the quarantine is not read again without a reason.
    monkeypatch.setattr(record, "GRAIN_NS", 0)
    monkeypatch.setattr(record, "COARSE_GRAIN_NS", 0)

    def run(images, **options):
        return bp.extract(images, output=tmp_path / "x.h5", backbone="stub", quiet=True, **options)

    return run


def large(root, side=60):
    """A picture that is larger than those of `stub.paint`, and of many bytes."""
    path = root / "ants" / "large.png"
    noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path)
    return path


def test_pixels(photos, extract, calls):
    root = photos(6)
    large(root)
    found = extract(root, max_pixels=1000)
    assert found.quarantine == [
        ("ants/large.png", "60x60 = 0.0036 MP, over the limit of 0.001 MP (--max-pixels)")
    ]
    before = found.recipe
    calls.forwards = 0
    assert len(extract(root, max_pixels=3599).quarantine) == 1
    assert calls.forwards == 0
    found = extract(root, max_pixels=3600)
    assert found.quarantine == []
    assert len(found) == 7
    assert found.recipe == before
    # A limit is about what is read: what is known already stays.
    assert len(extract(root, max_pixels=1000)) == 7


def test_bytes(photos, extract):
    root = photos(6)
    path = large(root)
    size = path.stat().st_size
    found = extract(root, max_bytes=5000)
    assert [name for name, _ in found.quarantine] == ["ants/large.png"]
    assert found.quarantine[0][1].endswith("over the limit of 4.883 KiB (--max-bytes)")
    assert len(extract(root, max_bytes=size)) == 7


def test_time(photos, extract, hung):
    root = photos(4)
    hung(large(root).read_bytes())
    found = extract(root, decode_timeout=0.3)
    assert found.quarantine == [("ants/large.png", "decoding took over 0.3 s")]
    assert not hung.ended


@pytest.mark.parametrize(
    ("name", "value"), [("max_pixels", 0), ("max_bytes", -1), ("decode_timeout", float("inf"))]
)
def test_what_is_no_limit_is_refused(name, value):
    with pytest.raises(bp.InputError, match=name):
        RunOptions(**{name: value})


def test_a_limit_that_was_raised_is_told_from_its_reason():
    gib = 1024**3
    assert not lifted("truncated after 75 % of its rows", Limits(10**12, 10**15))
    reason = too_many_pixels(20000, 10000, 10**8)
    assert [lifted(reason, Limits(max_pixels=n)) for n in (10**8, 199_999_999, 2 * 10**8)] == [
        False,
        False,
        True,
    ]
    for limit in (1, 999, 1023, 5000, 2 * gib, 3 * gib + 12345):
        reason = too_many_bytes(4 * gib, limit)
        assert not lifted(reason, Limits(max_bytes=limit))
        assert lifted(reason, Limits(max_bytes=2 * limit))


@pytest.mark.parametrize(
    ("text", "kilo", "number"),
    [("7", 1000, 7), ("200M", 1000, 2 * 10**8), ("1.5k", 1000, 1500), ("4g", 1024, 4 * 2**30)],
)
def test_amounts_on_the_command_line(text, kilo, number):
    assert Amount(kilo).convert(text, None, None) == number


@pytest.mark.parametrize("text", ["", "M", "0", "-1", "nan", "inf", "1T", "1e30", "2 GiB", "0.5"])
def test_what_is_no_amount(text):
    with pytest.raises(click.BadParameter, match="200M"):
        Amount(1000).convert(text, None, None)
