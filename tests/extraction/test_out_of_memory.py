"""A batch that does not fit while an engine is built or checked is halved, each time told."""

import pytest
from bottleneck_probe.engines import select
from bottleneck_probe.engines.base import OutOfMemoryError
from bottleneck_probe.extraction.api import run
from bottleneck_probe.images.find import find
from bottleneck_probe.reporter import Silent


@pytest.fixture
def extract(calls, tmp_path):
    def extract_(images, **options):
        told = Silent()
        stated = {"backbone": "stub", "engine": "eager", **options}
        return run(find(images), output=tmp_path / "x.h5", reporter=told, **stated), told.warnings

    return extract_


def tries_a_batch(calls, monkeypatch, fitting):
    """Let every engine run out of memory while it is built for more images than `fitting`."""
    real = select.start

    def start(choice, backbone, reporter):
        if choice.batch_size > fitting:
            calls.choices.append(choice)
            raise OutOfMemoryError(f"{choice.batch_size} images are too many")
        return real(choice, backbone, reporter)

    monkeypatch.setattr(select, "start", start)


def sizes_of(calls):
    return [choice.batch_size for choice in calls.choices]


def test_an_engine_that_cannot_be_built_is_built_for_fewer(extract, calls, photos, monkeypatch):
    tries_a_batch(calls, monkeypatch, 2)
    found, warnings = extract(photos(9), batch_size=13)
    assert found.computed == 9
    assert sizes_of(calls) == [13, 6, 3, 1]
    assert [w.split("stub: ")[1].split(" of cpu")[0] for w in warnings] == [
        f"{n} images do not fit into the memory" for n in (13, 6, 3)
    ]
    assert found.features.environment["batch_size"] == 1


def test_nor_a_smaller_one_that_cannot_be_built_either(extract, calls, photos, monkeypatch):
    """The first engine is built, but runs out of memory; its successor cannot even be built."""
    real = select.start

    def start(choice, backbone, reporter):
        if 2 < choice.batch_size < 16:
            calls.choices.append(choice)
            raise OutOfMemoryError(f"{choice.batch_size} images are too many")
        return real(choice, backbone, reporter)

    def on_call(calls):
        if calls.choices[-1].batch_size > 2:
            raise OutOfMemoryError("too many")

    calls.on_call = on_call
    monkeypatch.setattr(select, "start", start)
    found, warnings = extract(photos(9), batch_size=16)
    assert (found.computed, sizes_of(calls), len(warnings)) == (9, [16, 8, 4, 2], 3)


def test_one_image_that_does_not_fit_is_an_error(extract, calls, photos, monkeypatch):
    tries_a_batch(calls, monkeypatch, 0)
    with pytest.raises(OutOfMemoryError, match="1 images are too many"):
        extract(photos(3), batch_size=4)
    assert sizes_of(calls) == [4, 2, 1]


def test_the_comparison_with_stored_features_may_not_fit_either(extract, calls, photos):
    extract(photos(4), batch_size=1)

    def on_call(calls):
        if calls.choices[-1].batch_size > 2:
            raise OutOfMemoryError("too many")

    calls.on_call = on_call
    root = photos(3, first=4)
    found, warnings = extract(root, batch_size=8)
    environment = found.features.environment
    assert (found.computed, found.reused, len(warnings)) == (3, 4, 2)
    assert (environment["batch_size"], environment["earlier"][0]["batch_size"]) == (2, 1)
    assert environment["parity_gap"] == pytest.approx(0, abs=1e-6)
