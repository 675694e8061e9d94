"""A file is only extended by an environment that gives the same features."""

import bottleneck_probe as bp
import pytest
from bottleneck_probe.extraction import lane, publish
from bottleneck_probe.extraction.api import find_images, run
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
    def extract_(root, **options):
        calls.forwards = 0
        stated = {"backbone": "stub", **options}
        return run(find_images(root), output=tmp_path / "x.h5", reporter=Silent(), **stated)

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


def test_a_decoder_that_shifts_pixels_is_found_out(
    extract, calls, photos, tmp_path, versions, monkeypatch
):
    """A new Pillow that gives other pixels must not add to what an old one made."""
    from bottleneck_probe.extraction import prepare, spotcheck

    root = photos(10)
    extract(root)
    before = (tmp_path / "x.h5").read_bytes()
    photos(4, first=50)
    versions["pillow"] = "13.0.0"
    real = spotcheck.frames

    def shifted(image, preprocessing):
        return real(image, preprocessing).clip(2, None) - 2

    monkeypatch.setattr(spotcheck, "frames", shifted)
    monkeypatch.setattr(prepare, "frames", shifted)
    with pytest.raises(bp.CacheError, match=r"pillow 12\.0\.0 -> 13\.0\.0"):
        extract(root)
    assert (tmp_path / "x.h5").read_bytes() == before
    # The same decoder under another version is welcome.
    monkeypatch.setattr(spotcheck, "frames", real)
    monkeypatch.setattr(prepare, "frames", real)
    environment = extract(root).features.environment
    assert environment["versions"]["pillow"] == "13.0.0"
    assert environment["earlier"][0]["versions"]["pillow"] == "12.0.0"


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
