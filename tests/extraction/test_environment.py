"""A file is only extended by an environment that gives the same features."""

from dataclasses import replace

import bottleneck_probe as bp
import pytest
from bottleneck_probe.extraction import lane, publish
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.comparable import spread
from bottleneck_probe.reporter import Silent


@pytest.fixture
def versions(monkeypatch):
    """Versions of libraries that the environment records; a test may change them."""
    said = {"pillow": "12.0.0"}
    real = lane.version
    monkeypatch.setattr(lane, "version", lambda name: said.get(name) or real(name))
    return said


@pytest.fixture
def extract(calls, tmp_path, versions):
    def extract_(images, root=None, **options):
        calls.forwards = 0
        stated = {"backbone": "stub", **options}
        found = find_images(images, root=root)
        return run(found, output=tmp_path / "x.h5", reporter=Silent(), **stated)

    return extract_


def test_engine_and_batch_size_are_the_files_own(extract, calls, photos):
    root = photos(10)
    first = extract(root, engine="onnx", batch_size=3)
    assert first.features.environment["engine"] == "onnx"
    photos(4, first=50)
    second = extract(root)
    assert (calls.choices[-1].engine, calls.choices[-1].batch_size) == ("onnx", 3)
    assert second.features.environment == first.features.environment
    assert "earlier" not in second.features.environment


def test_a_resumed_run_takes_engine_and_batch_size_from_its_parts(extract, calls, photos):
    root = photos(12)

    def interrupt(seen):
        if seen.forwards == 2:
            raise KeyboardInterrupt

    calls.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        extract(root, engine="onnx", batch_size=5)
    calls.on_call = None
    done = extract(root)
    assert (calls.choices[-1].engine, calls.choices[-1].batch_size) == ("onnx", 5)
    assert (done.resumed, done.computed) == (5, 7)
    assert done.features.environment["engine"] == "onnx"


@pytest.mark.parametrize("gap", [0.0, 5e-4])
def test_another_engine_within_the_tolerance_is_recorded(gap, extract, calls, photos):
    root = photos(10)
    first = extract(root, engine="onnx")
    photos(4, first=50)
    calls.scale = 1 + gap
    second = extract(root, engine="eager").features.environment
    assert second["engine"] == "eager"
    made = {k: v for k, v in first.features.environment.items() if k != "speed"}
    assert second["earlier"] == [made]
    assert second["parity_gap"] == pytest.approx(gap, abs=1e-6)
    # A third one knows of both.
    photos(2, first=80)
    third = extract(root, engine="onnx", batch_size=7).features.environment
    assert {e["engine"] for e in third["earlier"]} == {"onnx", "eager"}
    assert all("earlier" not in e for e in third["earlier"])


@pytest.mark.parametrize("gap", [2e-3, 0.5])
def test_another_engine_beyond_the_tolerance_is_refused(gap, extract, calls, photos, tmp_path):
    root = photos(10)
    extract(root, engine="onnx")
    before = (tmp_path / "x.h5").read_bytes()
    photos(4, first=50)
    calls.scale = 1 + gap
    with pytest.raises(
        bp.CacheError, match=r"environment changed: .*engine onnx -> eager"
    ) as caught:
        extract(root, engine="eager")
    assert "nothing was written" in caught.value.expected
    assert (tmp_path / "x.h5").read_bytes() == before
    assert not list(tmp_path.glob("x.h5.parts/*"))
    assert calls.forwards == 1  # the check alone


@pytest.fixture
def shifted(monkeypatch):
    """A decoder whose pixels are 2 levels darker, once it is switched on."""
    from bottleneck_probe.extraction import prepare

    real, on = prepare.frames, []

    def frames(image, preprocessing):
        found = real(image, preprocessing)
        return found.clip(2, None) - 2 if on else found

    monkeypatch.setattr(prepare, "frames", frames)
    return on


def test_a_decoder_that_shifts_pixels_is_found_out(extract, photos, tmp_path, versions, shifted):
    """A new Pillow that gives other pixels must not add to what an old one made."""
    root = photos(10)
    extract(root)
    before = (tmp_path / "x.h5").read_bytes()
    photos(4, first=50)
    versions["pillow"] = "13.0.0"
    shifted.append(True)
    with pytest.raises(bp.CacheError, match=r"pillow 12\.0\.0 -> 13\.0\.0"):
        extract(root)
    assert (tmp_path / "x.h5").read_bytes() == before
    # The same decoder under another version is welcome.
    shifted.clear()
    environment = extract(root).features.environment
    assert environment["versions"]["pillow"] == "13.0.0"
    assert environment["earlier"][0]["versions"]["pillow"] == "12.0.0"


def _another_pillow(versions, shifted, calls, monkeypatch):
    versions["pillow"] = "13.0.0"
    shifted.append(True)
    return {}, r"pillow 12\.0\.0 -> 13\.0\.0"


def _other_arithmetic(versions, shifted, calls, monkeypatch):
    versions["numpy"] = "99.0"
    calls.scale = 1.5
    return {}, r"numpy .* -> 99\.0"


def _another_engine(versions, shifted, calls, monkeypatch):
    calls.scale = 1.01
    return {"engine": "onnx"}, "engine eager -> onnx"


def _another_device(versions, shifted, calls, monkeypatch):
    real = lane.select.choose
    monkeypatch.setattr(
        lane.select, "choose", lambda *a, **k: replace(real(*a, **k), device="cuda:0")
    )
    calls.scale = 1.01
    return {}, "device cpu -> cuda:0"


CHANGES = [_another_pillow, _other_arithmetic, _another_engine, _another_device]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__[1:])
@pytest.mark.parametrize("layout", ["only new ones", "stored ones are rare"])
def test_stored_images_are_compared_whatever_the_run_was_given(
    layout, change, extract, calls, photos, tmp_path, versions, shifted, monkeypatch
):
    """`--add` with other images was accepted unseen: only this run's samples were looked at."""
    root = photos(8)
    extract(root, engine="eager")
    before = (tmp_path / "x.h5").read_bytes()
    photos(292, first=50)
    given = sorted(map(str, root.glob("*/*.png")))
    if layout == "only new ones":
        given = [path for path in given if int(path[-9:-4]) >= 50]
    options, said = change(versions, shifted, calls, monkeypatch)
    options = {"engine": "eager", "batch_size": 8, "add": True, **options}
    with pytest.raises(bp.CacheError, match=said) as caught:
        extract(given, **options, root=root)
    assert "8 stored features, computed again, differ" in caught.value.what
    assert (tmp_path / "x.h5").read_bytes() == before
    assert not list(tmp_path.glob("x.h5.parts/*"))
    # Had it been harmless, it would have gone on, and said so.
    shifted.clear()
    calls.scale = 1.0
    environment = extract(given, **options, root=root).features.environment
    assert environment["parity_gap"] == 0
    assert len(environment["earlier"]) == 1


def test_nothing_is_added_to_features_that_nobody_can_compare(extract, photos, tmp_path, versions):
    """The images are gone, the rows stay, another Pillow: nobody can say whether they would mix."""
    root = photos(6)
    extract(root)
    before = (tmp_path / "x.h5").read_bytes()
    for path in root.glob("*/*"):
        path.unlink()
    photos(3, first=50)
    assert extract(root, add=True).seen == 3  # the same environment: nothing to compare
    (tmp_path / "x.h5").write_bytes(before)
    versions["pillow"] = "13.0.0"
    with pytest.raises(
        bp.CacheError, match="none of the images of its 6 rows can be read"
    ) as caught:
        extract(root, add=True)
    assert str(root) in caught.value.where
    assert "-o" in caught.value.next
    assert (tmp_path / "x.h5").read_bytes() == before
    # A mirror of other images keeps none of the old rows, so there is nothing to mix with.
    done = extract(root)
    assert (done.computed, done.removed) == (3, 6)


def test_an_image_that_was_renamed_or_edited_is_no_reason_to_stop(
    extract, photos, stub, calls, versions
):
    root = photos(6)
    extract(root)
    for number in range(1, 6):  # one is as it was, under another name
        stub.paint(root / ("ants", "bees")[number % 2] / f"{number:05d}.png", 70 + number)
    (root / "ants" / "00000.png").rename(root / "ants" / "zz.png")
    versions["pillow"] = "13.0.0"
    done = extract(root)
    assert (done.computed, done.reused) == (5, 1)
    assert done.features.environment["parity_gap"] == 0
    versions["pillow"] = "14.0.0"
    photos(1, first=90)
    calls.scale = 1.5
    with pytest.raises(bp.CacheError, match=r"\d stored features"):
        extract(root)


def test_an_image_that_a_new_decoder_refuses_is_a_change_too(
    extract, photos, versions, monkeypatch, tmp_path
):
    from bottleneck_probe.extraction import prepare
    from bottleneck_probe.images.decode import BadImage

    root = photos(3)
    extract(root)
    before = (tmp_path / "x.h5").read_bytes()
    photos(1, first=50)
    new = (root / "ants" / "00050.png").read_bytes()
    versions["pillow"] = "13.0.0"
    real = prepare.decoded

    def refuse(content, *rest):
        if content == new:
            return real(content, *rest)
        raise BadImage("PNG that this decoder does not know")

    monkeypatch.setattr(prepare, "decoded", refuse)
    with pytest.raises(bp.CacheError, match="cannot be decoded any more: PNG that this"):
        extract(root)
    assert (tmp_path / "x.h5").read_bytes() == before


def test_versions_of_all_that_decodes_and_resamples_are_recorded(extract, photos):
    versions = extract(photos(2)).features.environment["versions"]
    assert {"pillow", "simplejpeg", "numba", "numpy", "libjpeg-turbo"} <= set(versions)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 64, 997])
def test_every_beginning_of_the_order_is_spread(n):
    order = list(spread(n))
    assert sorted(order) == list(range(n))
    if n >= 64:  # eight of them leave no quarter out
        assert {8 * each // (2 * n) for each in order[:8]} == {0, 1, 2, 3}


def test_a_changed_environment_without_new_images_changes_nothing(
    extract, photos, versions, tmp_path
):
    root = photos(5)
    extract(root)
    before = (tmp_path / "x.h5").read_bytes()
    versions["pillow"] = "13.0.0"
    assert extract(root, engine="onnx").computed == 0
    assert (tmp_path / "x.h5").read_bytes() == before


def test_a_resumed_run_is_checked_against_its_own_parts(extract, calls, photos, tmp_path):
    root = photos(12)

    def interrupt(seen):
        if seen.forwards == 3:
            raise KeyboardInterrupt

    calls.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        extract(root, engine="onnx", batch_size=2)
    calls.on_call, calls.scale = None, 1.01
    with pytest.raises(bp.CacheError, match="environment changed"):
        extract(root, engine="eager")
    assert not (tmp_path / "x.h5").exists()
    calls.scale = 1.0
    done = extract(root, engine="eager")
    assert done.resumed == 4
    assert done.features.environment["earlier"][0]["engine"] == "onnx"


def test_a_run_that_was_cut_off_before_publishing_keeps_its_record(
    extract, calls, photos, monkeypatch
):
    """All is computed, nothing published: the next run must still say that two engines took part."""
    root = photos(6)
    extract(root, engine="onnx")
    photos(4, first=50)
    real = publish.write

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(root, engine="eager")
    monkeypatch.setattr(publish, "write", real)
    done = extract(root)
    assert (done.computed, done.resumed) == (0, 4)
    assert done.features.environment["engine"] == "eager"
    assert [e["engine"] for e in done.features.environment["earlier"]] == ["onnx"]
