"""The images of a bench: the same work for every contestant."""

import numpy as np
import pytest
from bottleneck_probe.bench.contestant import files_of
from bottleneck_probe.bench.material import of_files, of_images
from bottleneck_probe.bench.photographs import jpeg
from bottleneck_probe.errors import InputError
from bottleneck_probe.extraction.api import find_images
from bottleneck_probe.reporter import Silent
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    """Twelve JPEGs in two classes, and what not every contestant can read."""
    for i in range(12):
        path = tmp_path / "photos" / ("ants" if i % 2 else "bees") / f"{i:02d}.JPG"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(i, (64, 48)))
    folder = tmp_path / "photos" / "ants"
    (folder / "again.jpg").write_bytes(jpeg(3, (64, 48)))  # equal bytes: computed once here
    (folder / "broken.jpg").write_bytes(jpeg(3, (64, 48))[:200])
    Image.new("RGB", (64, 48)).save(folder / "other.webp")  # not ImageFolder's everywhere
    Image.fromarray(np.zeros((48, 64), np.uint16)).save(folder / "deep.png")  # 16 bits
    return tmp_path / "photos"


def _lay_out(photos, tmp_path, n):
    folder = tmp_path / f"laid-{n}"
    folder.mkdir()
    return of_images(find_images([str(photos)]), n, folder, Silent())


def test_only_images_that_all_can_read_take_part_and_each_once(photos, tmp_path):
    material = _lay_out(photos, tmp_path, 100)
    assert len(material) == 12
    described = material.to_json()
    assert (described["count"], described["left_out"]) == (12, 4)
    assert sorted([described["width"], described["height"]]) == [48, 64]
    assert 0.5 < described["kilobytes"] < 6
    files = files_of(str(material.folder(12)))
    wanted = {jpeg(i, (64, 48)) for i in range(12)}
    contents = set()
    for file in files:
        with open(file, "rb") as opened:
            contents.add(opened.read())
    assert contents == wanted
    assert [file[-10:] for file in files] == [f"{i:06d}.jpg" for i in range(12)]


def test_a_smaller_folder_is_the_beginning_of_a_larger_one(photos, tmp_path):
    material = _lay_out(photos, tmp_path, 100)
    names = {}
    for k in (3, 9):
        names[k] = []
        for file in files_of(str(material.folder(k))):
            with open(file, "rb") as opened:
                names[k].append(opened.read())
    assert names[9][:3] == names[3]
    assert len(names[9]) == 9


def test_as_many_as_are_asked_for_are_drawn_by_chance_but_always_the_same(photos, tmp_path):
    first, again = _lay_out(photos, tmp_path, 9), _lay_out(photos, tmp_path / "photos", 9)
    assert len(first) == len(again) == 9
    assert [p.source for p in first._pictures] == [p.source for p in again._pictures]
    assert [p.source for p in first._pictures] != sorted(p.source for p in first._pictures)


def test_too_few_images_are_an_error_before_anything_starts(photos, tmp_path):
    for file in sorted(photos.rglob("*.JPG"))[5:]:
        file.unlink()
    with pytest.raises(InputError, match=r"can be read by every contestant") as caught:
        _lay_out(photos, tmp_path, 100)
    assert "at least 8" in str(caught.value)


def test_made_photographs_are_described_without_decoding_them(tmp_path):
    paths = []
    for i in range(3):
        paths.append(tmp_path / f"{i}.jpg")
        paths[-1].write_bytes(jpeg(i, (100, 80)))
    described = of_files(paths, tmp_path / "laid", "made").to_json()
    assert (described["width"], described["height"], described["count"]) == (100, 80, 3)
