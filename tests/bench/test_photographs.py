"""Pictures that are made: the same every time, and to a decoder like photographs."""

import io

import numpy as np
import pytest
from bottleneck_probe.bench.photographs import SIZES, jpeg, photographs
from bottleneck_probe.reporter import Silent
from PIL import Image


def test_a_picture_depends_on_its_number_and_size_alone():
    assert jpeg(3, (200, 150)) == jpeg(3, (200, 150))
    assert len({jpeg(i, (200, 150)) for i in range(6)}) == 6


@pytest.mark.parametrize("size", SIZES)
def test_bytes_per_pixel_are_those_of_photographs(size):
    """Ants and bees of ImageNet: 0.61 bytes a pixel on average; noise has 1.9, flat colour 0.02."""
    lengths = [len(jpeg(i, size)) / (size[0] * size[1]) for i in range(8 if size[0] > 1000 else 24)]
    assert 0.61 / 2 < np.mean(lengths) < 0.61 * 2
    assert np.std(lengths) > 0.05  # not one picture many times


def test_bytes_per_pixel_are_within_a_factor_of_two_of_real_ones(test_data):
    files = sorted((test_data / "ants-bees").rglob("*.jpg"))[::10]
    real = []
    for file in files:
        with Image.open(file) as image:
            real.append(file.stat().st_size / (image.width * image.height))
    made = np.mean([len(jpeg(i, (500, 375))) for i in range(24)]) / (500 * 375)
    assert np.mean(real) / 2 < made < np.mean(real) * 2


def test_the_spectrum_falls_as_that_of_photographs_does():
    """About 1/f in amplitude: power at low frequencies far above that at high ones, which noise lacks."""
    slopes = []
    for i in range(8):
        grey = np.asarray(Image.open(io.BytesIO(jpeg(i, (400, 400)))).convert("L"), np.float64)
        power = np.abs(np.fft.fft2(grey - grey.mean()))[:200, :200]
        f = np.hypot(*np.mgrid[:200, :200])
        bands = [(4, 8), (16, 32), (64, 128)]
        mean = [np.log(power[(f >= low) & (f < high)].mean()) for low, high in bands]
        slopes.append((mean[0] - mean[2]) / np.log(16))
    assert 0.6 < np.mean(slopes) < 1.6


def test_they_are_kept_and_what_is_there_is_not_made_again():
    reporter = Silent()
    first = photographs(5, (64, 48), reporter)
    assert len(reporter.notes) == 1
    before = [path.stat().st_mtime_ns for path in first]
    more = photographs(6, (64, 48), reporter)
    assert more[:5] == first
    assert [path.stat().st_mtime_ns for path in first] == before
    assert len(set(more)) == 6
    assert "making 1 " in reporter.notes[-1]
    sizes = []
    for path in more:
        with Image.open(path) as image:
            sizes.append(image.size)
    assert sizes.count((64, 48)) == 5  # the fourth stands upright
    assert sizes[3] == (48, 64)
