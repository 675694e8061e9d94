"""Who runs when, and what comes of it, with contestants that only say that they ran."""

import json
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.bench import order, run
from bottleneck_probe.bench.order import Options
from bottleneck_probe.bench.process import ContestantError
from bottleneck_probe.errors import InputError
from bottleneck_probe.reporter import Silent

SPEED = {"usual loop": 10.0, "timm": 12.0, "eager fp32": 40.0, "openvino fp32": 80.0}
SPEED |= {"eager bf16": 50.0, "openvino bf16": 200.0, "auto": 190.0, "eager fp16": 60.0}
FORWARD = {"eager fp32": 50.0, "openvino fp32": 100.0, "eager bf16": 60.0, "openvino bf16": 250.0}
FORWARD |= {"auto": 240.0, "eager fp16": 70.0}
DECODE = {"ours": 500.0, "Pillow": 400.0}
REFERENCE = np.random.default_rng(0).normal(size=(64, 6))


class Fake:
    """Stands for `process.Process`; keeps the order of all calls."""

    calls: list
    alive: set
    broken: dict

    def __init__(self, spec, cache, log):
        self.spec = spec
        self.started = 0.0
        self.pid = 0
        self.cache = cache
        Fake.alive.add(spec.name)
        Fake.calls.append((spec.name, "start"))

    def call(self, name, **arguments):
        who = self.spec.name
        assert who in Fake.alive
        Fake.calls.append((who, name))
        if (who, name) in Fake.broken:
            raise ContestantError(Fake.broken[who, name])
        return getattr(self, f"_{name}")(**arguments)

    def _prepare(self):
        return {"batch_size": 32, "device_name": "a card"} if self.spec.kind == "loop" else {}

    def _run(self, folder, save=None):
        n = len(list(Path(folder).rglob("*.jpg")))
        if save and not save.endswith("cold.npy"):
            turned = REFERENCE + (self.spec.precision == "bf16") * 1e-3
            np.save(save, turned[:n].astype(np.float32))
        found = {"images": n, "seconds": n / SPEED[self.spec.name]}
        if self.spec.kind == "ours":
            auto = self.spec.name == "auto"
            found["engine"] = "openvino" if auto else self.spec.engine
            found["precision"] = "bf16" if auto else self.spec.precision
            found["batch_size"] = 4
        return found

    def _forward(self, folder, seconds):
        return {"images": FORWARD[self.spec.name], "seconds": 1.0}

    def _check(self, folder):
        return {"decoders": list(DECODE), "left_out": {"simplejpeg": "ImportError: no"}}

    def _decode(self, decoder, folder, seconds):
        return {"images": DECODE[decoder], "seconds": 1.0}

    def _write(self, d, seconds):
        return {"images": 1000, "seconds": 1.0}

    def _card_forward(self, precision, batch_size, seconds):
        return {"images": {"fp32": 300.0, "bf16": 900.0, "fp16": 1000.0}[precision], "seconds": 1.0}

    def close(self):
        Fake.alive.discard(self.spec.name)

    kill = close


@pytest.fixture
def faked(monkeypatch):
    Fake.calls, Fake.alive, Fake.broken = [], set(), {}
    monkeypatch.setattr(run, "Process", Fake)
    monkeypatch.setattr(run, "memory_left", lambda: 0.9)
    here = [("eager", "fp32"), ("eager", "bf16"), ("openvino", "fp32"), ("openvino", "bf16")]
    monkeypatch.setattr(order.select, "engines_here", lambda device: here)
    return Fake


def _bench(**stated):
    reporter = Silent()
    stated = {"images": 64, "size": (64, 48), "device": "cpu", "repeats": 2, **stated}
    return run.run((), Options(**stated), reporter).to_json(), reporter


def _row(found, name):
    return next(each for each in found["contestants"] if each["name"] == name)


def test_rounds_are_interleaved_and_every_contestant_is_in_each(faked):
    _bench()
    timed = [name for name, call in faked.calls if call in ("run", "write")]
    names = ["usual loop", "timm", "eager fp32", "eager bf16", "openvino fp32", "openvino bf16"]
    one_round = ["ceilings", *names, "auto"]
    assert timed[-2 * len(one_round) :] == 2 * one_round


def test_ratios_shares_and_cosines_are_those_of_the_numbers(faked):
    found, _ = _bench()
    auto, loop = _row(found, "auto"), _row(found, "usual loop")
    assert loop["images_per_second"]["runs"] == pytest.approx([10.0, 10.0])
    assert auto["ratio"]["median"] == pytest.approx(19)
    # Of the best decoder and the best engine of its precision, whoever that is.
    assert auto["ceiling"] == pytest.approx(1 / (1 / 500 + 1 / 250))
    assert auto["share"]["median"] == pytest.approx(190 * (1 / 500 + 1 / 250))
    # What is not of this package computes in float32.
    assert loop["ceiling"] == pytest.approx(1 / (1 / 500 + 1 / 100))
    assert _row(found, "eager fp32")["cosine"] == {"median": 1.0, "min": 1.0, "images": 64}
    bf16 = _row(found, "openvino bf16")["cosine"]
    assert 0.999 < bf16["min"] < bf16["median"] < 1
    assert found["ceilings"]["decode"]["best"] == "ours"
    assert found["ceilings"]["forward"]["bf16"]["best"] == "openvino bf16"
    assert found["machine"]["cores"] >= 1


def test_each_engine_is_started_with_an_empty_cache_and_once_more(faked):
    found, _ = _bench()
    starts = [name for name, call in faked.calls if call == "start"]
    assert [starts.count(n) for n in ("usual loop", "eager fp32", "auto")] == [1, 2, 2]
    assert _row(found, "auto")["first_start_s"] is not None
    assert _row(found, "usual loop")["first_start_s"] is None
    quick, _ = _bench(quick=True)
    assert _row(quick, "auto")["first_start_s"] is None
    assert len(_row(quick, "auto")["images_per_second"]["runs"]) == 1


def test_slow_contestants_get_fewer_images_unless_there_is_no_limit(faked):
    found, _ = _bench(images=200, limit_s=1.0)
    assert _row(found, "usual loop")["images"] == 64  # not 10: that would say nothing
    assert _row(found, "openvino bf16")["images"] == 200
    assert _row(found, "eager fp32")["images"] == 64
    found, _ = _bench(images=200, limit_s=0)
    assert {each["images"] for each in found["contestants"]} == {200}


def test_a_contestant_that_fails_has_a_row_that_says_so_and_the_others_go_on(faked):
    faked.broken["timm", "prepare"] = "no such model"
    faked.broken["openvino bf16", "forward"] = "out of memory"
    found, reporter = _bench()
    timm = _row(found, "timm")
    assert (timm["error"], timm["images_per_second"], timm["ratio"]) == (
        "no such model",
        None,
        None,
    )
    assert any("timm: no such model" in text for text in reporter.warnings)
    assert _row(found, "openvino bf16")["images_per_second"] is None
    assert [call for name, call in faked.calls if name == "timm"] == ["start", "prepare"]
    # It is no part of a ceiling either.
    assert found["ceilings"]["forward"]["bf16"]["best"] == "auto"
    assert _row(found, "auto")["ratio"]["median"] == pytest.approx(19)


def test_without_the_usual_loop_or_ceilings_there_are_still_speeds(faked):
    faked.broken["usual loop", "run"] = "broken"
    faked.broken["ceilings", "check"] = "broken too"
    found, _ = _bench()
    auto = _row(found, "auto")
    assert auto["ratio"] is auto["share"] is None
    assert auto["images_per_second"]["median"] == pytest.approx(190)
    assert found["ceilings"]["error"] == "broken too"


def test_where_memory_is_scarce_those_that_wait_are_ended_and_started_again(faked, monkeypatch):
    most = 0
    real = Fake.__init__

    def counted(self, *arguments):
        nonlocal most
        real(self, *arguments)
        most = max(most, len(Fake.alive - {"ceilings"}))

    monkeypatch.setattr(Fake, "__init__", counted)
    monkeypatch.setattr(run, "memory_left", lambda: 0.05)
    found, _ = _bench()
    assert most <= 2
    assert all(not each["error"] for each in found["contestants"])
    assert _row(found, "auto")["ratio"]["median"] == pytest.approx(19)


def test_every_process_ends_and_nothing_is_left(faked, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(run.tempfile, "tempdir", None)
    monkeypatch.chdir(tmp_path)
    _bench()
    assert faked.alive == set()

    def interrupted(self, **_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Fake, "_forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _bench()
    assert faked.alive == set()
    assert list(tmp_path.iterdir()) == []


def test_a_card_is_measured_against_its_own_ceiling(faked, monkeypatch):
    here = [("eager", "fp32"), ("eager", "bf16"), ("eager", "fp16")]
    monkeypatch.setattr(order.select, "engines_here", lambda device: here)
    monkeypatch.setattr(order.devices, "settle", lambda device: ("cuda:0", "asked for"))
    found, _ = _bench(device="cuda", engines=("eager",))
    assert (found["device"], found["machine"]["device_name"]) == ("cuda:0", "a card")
    assert found["ceilings"]["shared_cores"] is False
    half = _row(found, "eager fp16")
    assert half["ceiling"] == 500.0  # decoding is the lesser of 500 and 1,000
    full = _row(found, "eager fp32")
    assert full["ceiling"] == 300.0  # the card itself, on a batch that lies there already
    assert full["share"]["median"] == pytest.approx(40 / 300)


def test_only_what_was_stated_runs_beside_the_loop_and_the_reference(faked):
    found, _ = _bench(engines=("openvino",), precisions=("bf16",))
    names = [each["name"] for each in found["contestants"]]
    assert names == ["usual loop", "timm", "eager fp32", "openvino bf16"]
    found, _ = _bench(engines=("auto",), precisions=("fp32",))
    assert [each["name"] for each in found["contestants"]][-1] == "auto fp32"


SPEED |= {"auto fp32": 80.0}
FORWARD |= {"auto fp32": 100.0}


def test_what_cannot_be_measured_is_refused_before_anything_starts(faked):
    with pytest.raises(InputError, match="engine tensor does not run here"):
        _bench(engines=("tensor",))
    with pytest.raises(InputError, match="too few"):
        _bench(images=3)
    assert faked.calls == []


def test_peers_that_do_not_know_the_network_are_left_out_and_named(faked):
    found, _ = _bench()
    assert any(
        "img2vec_pytorch" in each and "tf_efficientnet" in each for each in found["left_out"]
    )
    assert any("thingsvision" in each for each in found["left_out"])
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(order.importlib.util, "find_spec", lambda name: None)
        found, _ = _bench()
    assert any("pip install 'bottleneck-probe[bench]'" in each for each in found["left_out"])
    assert [each["name"] for each in found["contestants"]][:2] == ["usual loop", "eager fp32"]


def test_the_reply_is_plain_data_without_nan(faked):
    found, _ = _bench()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert list(found) == [
        "machine",
        "device",
        "device_why",
        "versions",
        "images",
        "backbone",
        "options",
        "contestants",
        "ceilings",
        "left_out",
        "seconds",
    ]
    assert list(_row(found, "auto")) == [
        "name",
        "kind",
        "engine",
        "precision",
        "resampler",
        "batch_size",
        "workers",
        "images",
        "images_per_second",
        "ratio",
        "ceiling",
        "share",
        "forward_images_per_second",
        "first_start_s",
        "start_s",
        "peak_memory_bytes",
        "cosine",
        "note",
        "error",
    ]
