"""``--decode scaled``: its gap is measured on some of the images, and told in a sentence."""

import io
from dataclasses import replace

import numpy as np
import pytest
from bottleneck_probe.engines.base import Engine
from bottleneck_probe.extraction.scaled import COUNT, tell_gap
from bottleneck_probe.images.preprocess import Preprocessing
from bottleneck_probe.images.sample import Sample
from PIL import Image

HALF = (0.5, 0.5, 0.5)
FULL = Preprocessing(40, (32, 32), "bicubic", HALF, HALF)
SCALED = replace(FULL, decode="scaled")


class MeanOfRows(Engine):
    """The mean colour of each row: a feature that says where in the image something is."""

    name = "rows"

    def __init__(self) -> None:
        super().__init__(batch_size=4, size=(32, 32), feature_sizes=[96], device="cpu")

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        return [images.mean(axis=2, dtype=np.float32).reshape(len(images), -1)]


class Told:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def sample(seed: int, side: int, grain: float = 0) -> Sample:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side))
    noisy = np.asarray(coarse) + rng.normal(0, grain, (side, side, 3))
    file = io.BytesIO()
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG")
    return Sample(f"{seed}.jpg", file.getvalue())


def test_the_gap_is_told():
    told = Told()
    gap = tell_gap(MeanOfRows(), [sample(i, 400, grain=40) for i in range(5)], SCALED, told)
    assert gap is not None
    assert gap["images"] == 5
    assert 0.99 < gap["minimum"] <= gap["median"] < 1
    assert told.notes == [
        f"--decode scaled: cosine to the features of the whole images {gap['median']:.5f} (median), "
        f"{gap['minimum']:.5f} (minimum), on 5 of them"
    ]


def test_only_images_that_are_decoded_smaller_count():
    """Those that are too small are equal both ways, and would only make the gap look smaller."""
    told, broken = Told(), Sample("broken.jpg", b"\xff\xd8\xff\xe0 broken")
    images = [sample(0, 90), sample(1, 400), broken, Sample("none.jpg", "", fault="no such file")]
    gap = tell_gap(MeanOfRows(), images, SCALED, told)
    assert gap is not None
    assert gap["images"] == 1


def test_a_few_suffice():
    gap = tell_gap(MeanOfRows(), [sample(i, 170) for i in range(3 * COUNT)], SCALED, Told())
    assert gap is not None
    assert gap["images"] == COUNT


@pytest.mark.parametrize("samples", [[], [sample(0, 90)]], ids=["none", "small"])
def test_where_nothing_is_decoded_smaller(samples: list[Sample]):
    told = Told()
    assert tell_gap(MeanOfRows(), samples, SCALED, told) is None
    assert told.notes == [
        "none of the images that were tried is a JPEG large enough for --decode scaled"
    ]


def test_nothing_is_read_or_told_of_full_images():
    told = Told()
    assert tell_gap(MeanOfRows(), [sample(0, 400)], FULL, told) is None
    assert not told.notes
