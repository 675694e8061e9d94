"""Images that cannot be used: counted, named, and too many of them are an error."""

import bottleneck_probe as bp
import pytest
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.judge import TooManyBadError
from bottleneck_probe.reporter import Silent


@pytest.fixture
def mixed(photos):
    """A folder of good images and of files that are none, each with bytes of its own."""

    def make(good, bad):
        root = photos(good)
        (root / "ants").mkdir(parents=True, exist_ok=True)
        for i in range(bad):
            (root / "ants" / f"bad{i:03d}.jpg").write_bytes(f"<html>{i} not found</html>".encode())
        return root

    return make


@pytest.fixture
def extract(calls, tmp_path):
    def extract_(root, **options):
        calls.forwards = 0
        stated = {"backbone": "stub", "batch_size": 1, "engine": "eager", **options}
        return run(find_images(root), output=tmp_path / "x.h5", reporter=Silent(), **stated)

    return extract_


@pytest.mark.parametrize(
    ("good", "bad", "published"),
    [
        (2, 10, True),  # ten may always be bad
        (100, 11, True),  # more than ten, but 9.9 %
        (99, 11, True),  # 10 % exactly
        (98, 11, False),  # more than 10 %, and more than ten
        (5, 11, False),
    ],
)
def test_more_than_a_tenth_and_more_than_ten_bad_images_publish_nothing(
    good, bad, published, mixed, extract, calls, tmp_path
):
    root = mixed(good, bad)
    if published:
        found = extract(root)
        assert (found.computed, found.quarantined) == (good, bad)
        assert len(found.features.quarantine) == bad
        assert all("HTML" in reason for _, reason in found.features.quarantine)
        return
    with pytest.raises(TooManyBadError) as caught:
        extract(root)
    assert f"{bad} of {good + bad} images" in caught.value.what
    assert "ants/bad000.jpg" in caught.value.what
    assert "--allow-bad" in caught.value.next
    assert caught.value.counts == {
        "seen": good + bad,
        "computed": good,
        "reused": 0,
        "quarantined": bad,
        "ignored": 0,
    }
    assert not (tmp_path / "x.h5").exists()
    assert list((tmp_path / "x.h5.parts").glob("*.h5"))
    # With leave to publish, what was computed is taken from the parts.
    found = extract(root, allow_bad=True)
    assert calls.forwards == 0
    assert (found.computed, found.reused, found.resumed) == (0, good, good)
    assert len(found.features) == good
    assert not (tmp_path / "x.h5.parts").exists()


@pytest.mark.parametrize(
    ("rate", "published"), [(0.0, False), (0.2, False), (0.25, True), (1, True)]
)
def test_a_rate_that_is_stated_replaces_the_rule(rate, published, mixed, extract, tmp_path):
    root = mixed(9, 3)
    if published:
        assert extract(root, allow_bad_rate=rate).quarantined == 3
    else:
        with pytest.raises(TooManyBadError, match="3 of 12"):
            extract(root, allow_bad_rate=rate)
        assert not (tmp_path / "x.h5").exists()


def test_strict_ends_at_the_first_bad_image(mixed, extract, calls, tmp_path):
    root = mixed(9, 2)
    with pytest.raises(bp.InputError, match=r"ants/bad000\.jpg"):
        extract(root, strict=True)
    assert not (tmp_path / "x.h5").exists()
    before = calls.forwards
    assert extract(root).computed == 9 - before  # what was finished is kept


def test_nothing_but_bad_images_is_an_error_whatever_is_allowed(mixed, extract, calls, tmp_path):
    root = mixed(0, 4)
    for allowed in ({}, {"allow_bad": True}, {"allow_bad_rate": 1.0}):
        with pytest.raises(TooManyBadError, match="none of the 4 images"):
            extract(root, **allowed)
        assert not (tmp_path / "x.h5").exists()
    assert calls.started == 0


def test_a_bad_file_in_two_places_is_named_twice(stub, extract, tmp_path):
    root = tmp_path / "photos"
    for i in range(6):
        stub.paint(root / "a" / f"{i}.png", i)
    whole = (root / "a" / "0.png").read_bytes()
    for name in ("a/x.png", "b/y.png", "c/z.png"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(whole[: len(whole) // 2])
    for workers in (1, 4):
        found = extract(root, workers=workers, force=True)
        assert [path for path, _ in found.features.quarantine] == ["a/x.png", "b/y.png", "c/z.png"]
        assert len({reason for _, reason in found.features.quarantine}) == 1
        assert (found.seen, found.quarantined) == (9, 3)
        assert found.computed + found.reused == 6


def test_a_mended_file_leaves_the_quarantine(stub, mixed, extract):
    root = mixed(5, 2)
    assert extract(root).quarantined == 2
    stub.paint(root / "ants" / "bad000.jpg", 700)
    found = extract(root)
    assert (found.computed, found.reused, found.quarantined) == (1, 5, 1)
    (root / "ants" / "bad001.jpg").unlink()
    found = extract(root)
    assert (found.quarantined, found.features.quarantine) == (0, [])


def test_an_image_that_breaks_loses_its_feature(stub, mixed, extract):
    root = mixed(5, 0)
    extract(root)
    path = root / "ants" / "00000.png"
    path.write_bytes(path.read_bytes()[:40])
    found = extract(root)
    assert (found.computed, found.reused, found.quarantined) == (0, 4, 1)
    assert "ants/00000.png" not in set(found.features.paths)


def test_paths_of_a_list_that_do_not_exist_are_quarantined(stub, extract, tmp_path):
    good = stub.paint(tmp_path / "p" / "a.png", 1)
    found = extract([good, tmp_path / "p" / "missing.png"])
    assert found.features.quarantine == [("missing.png", "no such file")]
    assert found.seen == 2


def test_a_file_that_goes_after_it_was_found_is_quarantined(calls, photos, tmp_path):
    root = photos(6)
    images = find_images(root)
    (root / "ants" / "00004.png").unlink()
    found = run(images, output=tmp_path / "x.h5", reporter=Silent(), backbone="stub")
    assert found.features.quarantine == [("ants/00004.png", "no such file")]
    assert (found.seen, found.computed, found.quarantined) == (6, 5, 1)


def test_a_table_of_missing_files_asks_whether_the_root_is_wrong(stub, extract, tmp_path):
    """More than a tenth of the rows name no file: then it is rather the folder that is wrong."""
    lines = ["path"] + [str(stub.paint(tmp_path / "p" / f"{i}.png", i)) for i in range(20)]
    table = tmp_path / "p" / "t.csv"
    table.write_text("\n".join([*lines, *(f"gone/{i}.png" for i in range(11))]) + "\n")
    with pytest.raises(bp.InputError, match="11 of 31 images cannot be used") as caught:
        extract(table)
    assert caught.value.next.startswith("wrong --root? otherwise give --allow-bad")
    # One that is there and broken says that the folder is right.
    (tmp_path / "p" / "gone").mkdir()
    (tmp_path / "p" / "gone" / "0.png").write_bytes(b"")
    with pytest.raises(bp.InputError) as caught:
        extract(table)
    assert caught.value.next.startswith("give --allow-bad")
