"""Wherever images are decoded, not only for their features: limits hold, and nothing waits for ever."""

import numpy as np
from bottleneck_probe.extraction import conditions
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.dry import dry_run
from bottleneck_probe.extraction.glance import glance
from bottleneck_probe.extraction.journal import Journal
from bottleneck_probe.images.limits import Limits
from bottleneck_probe.images.payload import key_of
from bottleneck_probe.images.sample import Sample
from bottleneck_probe.reporter import Silent
from PIL import Image


class Ears(Silent):
    """Keeps notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_samples_come_in_order_decoded_where_wanted(lanes):
    samples = lanes.in_memory([*range(9), 4])
    samples.insert(2, Sample("gone", "/no/such/file"))
    samples.insert(5, Sample("bad", b"<html>"))
    keys = [None if i == 2 else key_of(s.source) for i, s in enumerate(samples)]
    wanted = {keys[3], keys[6], keys[5]}
    found = list(glance(samples, [lanes.plain(), lanes.plain("pad")], wanted=wanted.__contains__))
    assert [each.index for each in found] == list(range(12))
    assert [each.key for each in found] == keys
    assert found[2].reason == "no such file"
    assert "HTML" in found[5].framed[1].reason
    assert [i for i, each in enumerate(found) if each.framed] == [3, 5, 6]  # not the copy at 11
    np.testing.assert_array_equal(found[3].framed[0].pixels[0], samples[3].source)


def test_conditions_hold(lanes, stub, tmp_path):
    paths = [stub.paint(tmp_path / f"{i}.png", i) for i in range(4)]
    samples = [Sample(path.name, str(path)) for path in paths]
    crashed = {key_of(paths[2].read_bytes()): "decoder crashed (signal 11)"}
    with Journal(tmp_path / "j") as journal, conditions.under(Limits(), journal, crashed):
        found = list(glance(samples, [lanes.plain()], workers=1))
        assert Journal(tmp_path / "j").suspects == ["3.png"]
    assert [each.framed[0].reason for each in found] == [None, None, *crashed.values(), None]
    with conditions.under(Limits(max_pixels=107)):
        found = list(glance(samples, [lanes.plain()]))
    assert {each.framed[0].reason for each in found} == {
        "12x9 = 0.0001 MP, over the limit of 0.000107 MP (--max-pixels)"
    }
    assert conditions.current().limits == Limits()


def test_preview_check_hashes_and_timing_wait_for_no_decoder(
    stub, calls, photos, hung, monkeypatch, tmp_path
):
    root = photos(5)
    hung((root / "ants" / "00002.png").read_bytes())
    options = {
        "output": tmp_path / "x.h5",
        "reporter": Silent(),
        "backbone": "stub",
        "engine": "eager",
        "batch_size": 2,
        "decode_timeout": 0.2,
        "allow_bad": True,
    }
    found = run(find_images(root), **options, decode="scaled", preview=tmp_path / "seen.png")
    assert found.features.quarantine == [("ants/00002.png", "decoding took over 0.2 s")]
    assert (tmp_path / "seen.png").exists()
    hung((root / "ants" / "00000.png").read_bytes())
    photos(3, first=10)
    del options["allow_bad"]
    (plan,) = dry_run(find_images(root), **options, decode="scaled")
    assert plan.to_compute == 4
    # Another machine: stored features are compared, as far as their images can be decoded.
    monkeypatch.setattr("bottleneck_probe.extraction.lane.version", lambda name: "0.0.1")
    again = run(find_images(root), **options, decode="scaled", rehash=True)
    assert (again.computed, again.quarantined) == (3, 1)
    assert not hung.ended


def test_files_of_several_frames_are_counted_once_each(stub, calls, photos, tmp_path):
    root = photos(3)
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "green", "blue")]
    for name in ("a.gif", "b.webp", "c.tiff"):
        frames[0].save(root / "ants" / name, save_all=True, append_images=frames[1:])
    frames[0].save(root / "ants" / "one.gif")
    ears = Ears()
    options = {"backbone": "stub", "engine": "eager", "output": tmp_path / "x.h5"}
    found = run(find_images(root), reporter=ears, **options)
    assert "3 files hold several frames or pages: the first one is used" in ears.notes
    row = list(found.features.paths).index("ants/c.tiff")
    np.testing.assert_array_equal(found.features.features[row], [255, 0, 0, 1])
    ears = Ears()
    run(find_images(root), reporter=ears, **options)
    assert not any("frames" in note for note in ears.notes)
