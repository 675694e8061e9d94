"""The batch size that is measured: the fastest one, kept, and never one that does not fit."""

from types import SimpleNamespace

import numpy as np
import pytest
from bottleneck_probe import usercache
from bottleneck_probe.backbones import registry
from bottleneck_probe.engines import select, tuning
from bottleneck_probe.engines.base import Engine, OutOfMemoryError
from bottleneck_probe.reporter import Silent


class Timed(Engine):
    """Takes `seconds` for a batch by the test's own clock, whatever is in it."""

    name = "timed"
    now_s = 0.0

    def __init__(self, batch_size, seconds, largest=10**9):
        super().__init__(batch_size=batch_size, size=(8, 8), feature_sizes=[1], device="cpu")
        self.seconds, self.largest = seconds, largest

    def forward(self, images):
        if len(images) > self.largest:
            raise OutOfMemoryError("too large")
        Timed.now_s += self.seconds
        return [np.zeros((self.batch_size, 1), np.float32)]


@pytest.fixture
def backbone():
    return registry.resolve()


@pytest.fixture
def choice(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tuning, "time", SimpleNamespace(perf_counter=lambda: Timed.now_s))
    return select.Choice("openvino", "", "cpu", 4, "", open_batch=True)


def test_the_fastest_is_taken_and_kept(choice, backbone):
    seconds = {2: 0.002, 4: 0.004, 8: 0.002}  # 1000, 1000 and 4000 images a second
    assert tuning.find(backbone, choice) is None
    best = tuning.measure(
        choice, backbone, lambda c: Timed(c.batch_size, seconds[c.batch_size]), Silent()
    )
    assert best == 8
    assert tuning.find(backbone, choice) == 8
    # Another precision, engine or network is another measurement.
    assert tuning.find(backbone.with_precision("bf16"), choice) is None
    onnx = select.Choice("onnx", "cpu", "cpu", 4, "")
    assert tuning.find(backbone, onnx) is None


def test_what_does_not_fit_is_passed_over(choice, backbone):
    best = tuning.measure(
        choice, backbone, lambda c: Timed(c.batch_size, 0.002, largest=2), Silent()
    )
    assert best == 2


def test_a_cache_that_cannot_be_written_is_told(choice, backbone, monkeypatch):
    def refuse(path, content):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(usercache, "write", refuse)
    told = []
    reporter = Silent()
    reporter.warn = told.append
    tuning.measure(choice, backbone, lambda c: Timed(c.batch_size, 0.001), reporter)
    assert "cannot be kept" in told[0]


@pytest.mark.parametrize("content", ["", "{}", '{"batch_size": "8"}', '{"batch_size": 0}', "[]"])
def test_a_damaged_note_is_no_measurement(content, choice, backbone):
    path = tuning._path(backbone, choice)
    path.write_text(content)
    assert tuning.find(backbone, choice) is None
