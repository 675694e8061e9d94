"""Images for which the network gives NaN: a few are their own fault, all of them are the network's."""

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache.shards import Shards
from bottleneck_probe.engines.base import EngineError, NotFiniteError
from bottleneck_probe.extraction import pipeline
from bottleneck_probe.extraction.target import parts_folder


@pytest.fixture
def run(lanes):
    def go(samples, lane, **options):
        options = {"workers": 2, "progress": lanes.Bar(), **options}
        return pipeline.run(samples, lanes=[lane], **options)[0]

    return go


@pytest.fixture
def network(lanes):
    """An engine that gives NaN for some numbers' images, or infinity."""

    def make(bad, batch_size=4, value=np.nan, **options):
        sums = {lanes.feature_of(number)[0] for number in bad}

        class Unsound(lanes.Network):
            def forward(self, images):
                found = super().forward(images)
                for each in found:
                    each[np.isin(each[:, 0], list(sums)), 1] = value
                return found

        return Unsound(batch_size, **options)

    return make


@pytest.mark.parametrize("batch_size", [1, 4, 7])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_few_are_quarantined_and_harm_no_other(lanes, run, network, batch_size, value):
    samples = lanes.in_memory([*range(30), 9])  # the last has the bytes of a bad one
    lane = lanes.FakeLane(network([0, 9, 10, 29], batch_size, value))
    heard = []
    outcome = run(samples, lane, on_bad=lambda sample, reason: heard.append(sample.path))
    reason = "the network gave NaN or infinity (engine sums, fp32)"
    assert outcome.reasons == dict.fromkeys((0, 9, 10, 29, 30), reason)
    assert sorted(heard) == ["00000", "00009", "00010", "00029", "00030"]
    assert (outcome.computed, outcome.reused) == (26, 0)
    (sink,) = lane.sinks
    assert len(sink.keys) == 26
    for key, row in zip(sink.keys, sink.features, strict=True):
        (number,) = (i for i in range(30) if outcome.keys[i].tobytes() == key)
        np.testing.assert_array_equal(row, lanes.feature_of(number))


def test_one_view_is_enough(lanes, run, network):
    """Of an image's tiles, which lie in two batches."""
    samples = lanes.in_memory(range(12))
    lane = lanes.FakeLane(lanes.Network(3), framing="tiles:1x2")
    all_rows = run(samples, lane)
    rows = lane.sinks[0].rows()
    sums = rows[all_rows.keys[4].tobytes()]
    second = np.frombuffer(sums, np.float32)[2]  # of the second tile

    class Unsound(lanes.Network):
        def forward(self, images):
            (found,) = super().forward(images)
            found[found[:, 0] == second] = np.nan
            return [found]

    lane = lanes.FakeLane(Unsound(3), framing="tiles:1x2")
    outcome = run(samples, lane)
    assert list(outcome.reasons) == [4]
    assert lane.sinks[0].rows() == {k: v for k, v in rows.items() if v != sums}


def test_strict_hears_of_it_while_the_run_goes_on(lanes, run, network):
    class StopHereError(Exception):
        pass

    def stop(sample, reason):
        raise StopHereError(sample.path)

    lane = lanes.FakeLane(network([3], 1))
    with pytest.raises(StopHereError, match="00003"):
        run(lanes.in_memory(range(4000)), lane, on_bad=stop, window=2)
    assert len(lane.network.calls) < 2000


@pytest.mark.parametrize("n", [1, 5, 40])
def test_a_network_that_gives_nothing_else_is_an_error(lanes, run, network, n):
    lane = lanes.FakeLane(network(range(n)))
    with pytest.raises(NotFiniteError, match="NaN or infinity") as caught:
        run(lanes.in_memory(range(n)), lane)
    assert isinstance(caught.value, EngineError)
    assert "check the weights" in caught.value.next
    assert lane.sinks[0].keys == []


def test_a_network_that_recovers_has_not_recovered(lanes, run, network):
    """So many bad ones at the beginning are no accident, whatever comes later."""
    with pytest.raises(NotFiniteError):
        run(lanes.in_memory(range(60)), lanes.FakeLane(network(range(16))))
    outcome = run(lanes.in_memory(range(60)), lanes.FakeLane(network(range(15))))
    assert sorted(outcome.reasons) == list(range(15))


def test_it_is_published_without_them(calls, stub, photos, tmp_path, monkeypatch):
    """And not computed again, unless the file changes or it is asked for."""
    real = stub.StubEngine._of

    def of(self, output, images):
        found = real(self, output, images)
        found[(found[:, :3] == stub.colour_of(5)).all(axis=1)] = np.nan
        return found

    monkeypatch.setattr(stub.StubEngine, "_of", of)
    root, output = photos(12), tmp_path / "x.h5"
    options = {"output": output, "backbone": "stub", "engine": "eager", "quiet": True}
    found = bp.extract(root, **options)
    assert [path for path, _ in found.quarantine] == ["bees/00005.png"]
    assert "the network gave NaN or infinity (engine stub, fp32)" in found.quarantine[0][1]
    assert len(found) == 11
    assert np.isfinite(np.asarray(found.features)).all()
    stub.paint(root / "bees" / "00005.png", 700)
    assert len(bp.extract(root, **options)) == 12


def test_a_sealed_shard_with_nan_is_set_aside(calls, photos, tmp_path):
    """One that an earlier version sealed would otherwise be found at each publication, for ever."""
    root, output = photos(6), tmp_path / "x.h5"
    options = {"output": output, "backbone": "stub", "engine": "eager", "quiet": True}
    whole = bp.extract(root, **options)
    expected = np.array(whole.features)
    features = expected.copy()
    features[2, 1] = np.nan
    output.unlink()
    shards = Shards(parts_folder(output), whole.fingerprint, recipe=whole.recipe)
    shards.append(whole.keys, features)
    shards.seal()
    again = bp.extract(root, **options)
    np.testing.assert_array_equal(np.asarray(again.features), expected)
    assert not parts_folder(output).exists()
