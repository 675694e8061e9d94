"""The gate: cosines of real features decide, the verdict is kept, and `auto` follows it."""

import json

import numpy as np
import pytest
from bottleneck_probe import EngineError
from bottleneck_probe.backbones import registry
from bottleneck_probe.engines import devices, gate, openvino, precision, select
from bottleneck_probe.engines.base import Engine, OutOfMemoryError
from bottleneck_probe.extraction.gate_images import gate_images
from bottleneck_probe.images.find import find
from bottleneck_probe.images.payload import payload, to_pixels
from bottleneck_probe.images.preprocess import frames
from bottleneck_probe.reporter import Silent
from PIL import Image
from sklearn.metrics.pairwise import cosine_similarity

pytestmark = pytest.mark.filterwarnings("error")


class Told(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Noisy(Engine):
    """The mean colours of 4 x 4 cells, disturbed by `noise` times their own length."""

    name = "noisy"

    def __init__(self, backbone, batch_size, noise):
        super().__init__(batch_size=batch_size, size=(224, 224), feature_sizes=[48], device="cpu")
        self.noise = noise
        self.rng = np.random.default_rng(7)

    def forward(self, images):
        cells = images.reshape(len(images), 4, 56, 4, 56, 3).mean(axis=(2, 4)).reshape(-1, 48)
        length = np.linalg.norm(cells, axis=1, keepdims=True)
        noise = self.rng.normal(size=cells.shape) / np.sqrt(48)
        return [(cells + self.noise * length * noise).astype(np.float32)]


@pytest.fixture
def backbone():
    return registry.resolve()


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A processor with bfloat16 whose bf16 engine errs by `machine.noise`; counts engine starts."""
    state = type("Machine", (), {"noise": 0.0, "started": [], "error": None})()
    state.started = []
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(devices, "cpu_precisions", lambda: ("fp32", "bf16"))
    monkeypatch.setattr(devices, "driver_has_gpu", lambda: False)
    monkeypatch.setattr(openvino, "installed_version", lambda: "2026.4.1")

    def start(choice, backbone, reporter):
        state.started.append(backbone.precision)
        if state.error and backbone.precision != "fp32":
            raise state.error
        noise = state.noise if backbone.precision != "fp32" else 0.0
        return Noisy(backbone, choice.batch_size, noise), choice

    monkeypatch.setattr(select, "start", start)
    return state


def pictures():
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (gate.IMAGES, 224, 224, 3), dtype=np.uint8)


def settled(backbone, **how):
    told = Told()
    how = {"engine": "auto", "device": "auto", **how}
    found = precision.settle(backbone, pictures=pictures, reporter=told, **how)
    return found.precision, told.notes[-1]


def test_cosine_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 30, 7)).astype(np.float32)
    np.testing.assert_allclose(gate.cosine(a, b), np.diag(cosine_similarity(a, b)), atol=1e-6)
    nothing = np.zeros((1, 7), np.float32)
    assert gate.cosine(nothing, nothing) == 1
    assert gate.cosine(nothing, a[:1]) == 0


@pytest.mark.parametrize(("noise", "taken"), [(0.01, "bf16"), (0.3, "fp32")])
def test_the_gate_decides(noise, taken, backbone, machine):
    machine.noise = noise
    assert settled(backbone)[0] == taken
    assert machine.started == ["bf16", "fp32"]
    # The verdict is kept, a refusal too: no reference is computed a second time.
    found, line = settled(backbone)
    assert found == taken
    assert machine.started == ["bf16", "fp32"]
    assert "cosine to fp32" in line
    assert f"{gate.IMAGES} images" in line
    assert ("refused" in line) == (taken == "fp32")


def test_one_bad_image_is_enough_to_refuse(backbone, machine, monkeypatch):
    values = np.full(gate.IMAGES, 0.99999)
    monkeypatch.setattr(gate, "cosine", lambda a, b: values)
    assert settled(backbone)[0] == "bf16"
    values[5] = gate.MINIMUM - 1e-6
    assert settled(backbone.with_preprocessing(crop=(192, 192)))[0] == "fp32"
    values[5] = np.nan
    assert settled(backbone.with_preprocessing(crop=(160, 160)))[0] == "fp32"


def test_a_verdict_is_of_one_network_engine_and_device(backbone, machine, monkeypatch):
    settled(backbone)
    assert len(machine.started) == 2
    monkeypatch.setattr(openvino, "installed_version", lambda: "2027.0.0")
    settled(backbone)
    assert len(machine.started) == 4
    monkeypatch.setattr(devices, "device_model", lambda device="cpu": "another processor")
    settled(backbone)
    assert len(machine.started) == 6
    settled(backbone.with_preprocessing(mean=(0.1, 0.2, 0.3)))
    assert len(machine.started) == 8
    settled(backbone.with_preprocessing(interpolation="bilinear"))  # before the network
    assert len(machine.started) == 8


def test_the_number_of_images_never_decides(backbone, machine):
    choices = {
        settled(backbone)[0] for _ in (1, 10, 10_000)
    }  # `settle` has no way to know the number; engines may follow from it, features may not
    assert choices == {"bf16"}


def test_without_the_hardware_or_the_engine_it_is_fp32_and_says_why(backbone, machine, monkeypatch):
    assert settled(backbone, engine="onnx") == (
        "fp32",
        "efficientnet_lite0: precision fp32 (engine onnx has nothing else)",
    )
    monkeypatch.setattr(openvino, "installed_version", lambda: None)
    assert "OpenVINO is not installed" in settled(backbone)[1]
    monkeypatch.setattr(devices, "cpu_precisions", lambda: ("fp32",))
    assert "no bfloat16" in settled(backbone)[1]
    assert machine.started == []


def test_an_engine_that_does_not_start_means_fp32_with_the_reason(backbone, machine):
    machine.error = EngineError("it is broken")
    found, line = settled(backbone)
    assert found == "fp32"
    assert "it is broken" in line


def test_a_dry_run_measures_nothing(backbone, machine):
    found, line = settled(backbone, measure=False)
    assert (found, machine.started) == ("bf16", [])
    assert "was not run yet" in line


GOOD = {"median": 0.9999, "minimum": 0.999, "images": gate.IMAGES}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"verdict": {"median": 1}}',
        *(
            json.dumps({"verdict": {**GOOD, name: value}})
            for name, value in [
                ("median", None),
                ("median", "0.9999"),
                ("median", [1.0]),
                ("median", True),
                ("median", 5.0),
                ("minimum", 0.99995),
                ("images", 0),
                ("images", True),
            ]
        ),
    ],
)
def test_a_damaged_verdict_is_none(content, backbone, machine):
    faster = backbone.with_precision("bf16")
    choice = select.choose(faster, n_missing=1)
    gate._path(faster, choice).write_text(content)
    assert gate.find(faster, choice) is None
    gate._path(faster, choice).write_text(json.dumps({"verdict": GOOD}))
    assert gate.find(faster, choice).passed


def test_memory_that_runs_out_says_nothing_about_a_precision(backbone, machine, monkeypatch):
    """Smaller batches are tried; if none fits that is the error, and no file becomes fp32 by it."""
    real, largest = select.start, 2

    def start(choice, backbone, reporter):
        if choice.batch_size > largest:
            raise OutOfMemoryError("too large")
        return real(choice, backbone, reporter)

    monkeypatch.setattr(select, "start", start)
    assert settled(backbone)[0] == "bf16"
    largest = 0
    with pytest.raises(OutOfMemoryError):
        settled(backbone.with_preprocessing(crop=(192, 192)))


def test_the_images_are_the_users_own_and_photographs_where_they_are_few(tmp_path):
    p = registry.resolve().preprocessing
    for i in range(3):
        Image.new("RGB", (300, 250), (i * 80, 10, 200)).save(tmp_path / f"{i}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no")
    Image.new("RGB", (300, 250), (0, 10, 200)).save(tmp_path / "copy.png")
    samples = find(str(tmp_path)).samples
    found = gate_images(samples, p)
    assert found.shape == (gate.IMAGES, 224, 224, 3)
    good = [s for s in samples if s.path[0] in "012"]
    own = {frames(to_pixels(payload(s.source)).array, p)[0].tobytes() for s in good}
    assert {view.tobytes() for view in found[:3]} == own
    assert len({view.tobytes() for view in found}) == gate.IMAGES  # each another one
    assert all(view.std() > 5 for view in found[3:])
    np.testing.assert_array_equal(found, gate_images(samples, p))


def test_enough_images_need_no_photographs(tmp_path, monkeypatch):
    p = registry.resolve().preprocessing
    rng = np.random.default_rng(3)
    for i in range(2 * gate.IMAGES):
        Image.fromarray(rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    from bottleneck_probe.extraction import gate_images as module

    monkeypatch.setattr(module, "_photographs", lambda p, count: [0] * count)
    found = gate_images(find(str(tmp_path)).samples, p)
    assert found.shape == (gate.IMAGES, 224, 224, 3)
