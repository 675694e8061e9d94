"""Every engine in every precision gives the reference's features, whoever else asks at the same time."""

import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe.backbones import registry
from bottleneck_probe.backbones.base import PENULTIMATE, Output
from bottleneck_probe.backbones.proof import relative_error
from bottleneck_probe.engines import devices, export, openvino
from bottleneck_probe.engines.compiled import CompiledEngine
from bottleneck_probe.engines.eager import EagerEngine
from bottleneck_probe.engines.onnx import OnnxEngine
from bottleneck_probe.engines.openvino import OpenVinoEngine
from bottleneck_probe.reporter import Silent

sys.path.insert(0, str(Path(__file__).parent))
from small import CHANGES, photographs, small_backbone

BATCH = 4
needs_openvino = pytest.mark.skipif(
    openvino.installed_version() is None, reason="OpenVINO is not installed"
)
needs_bf16 = pytest.mark.skipif(
    "bf16" not in devices.cpu_precisions(), reason="a processor without bfloat16"
)


def start(name, backbone, precision="fp32", batch_size=BATCH):
    if name == "eager":
        return EagerEngine(
            backbone, device="cpu", batch_size=batch_size, precision=precision, reporter=Silent()
        )
    path = export.find_or_export(backbone, Silent())
    if name == "onnx":
        return OnnxEngine(path, backbone, provider="cpu", device="cpu", batch_size=batch_size)
    return OpenVinoEngine(path, backbone, batch_size=batch_size, precision=precision)


def features(engine, images, threads=1, output=0):
    """Batch after batch, in order, by one or several threads."""
    batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
    with ThreadPoolExecutor(threads) as pool:
        return np.concatenate([each[output] for each in pool.map(engine.run, batches)])


def cosine(a, b):
    return (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))


ENGINES = [
    pytest.param("eager", "bf16", id="eager-bf16"),
    pytest.param("onnx", "fp32", id="onnx-fp32"),
    pytest.param("openvino", "fp32", id="openvino-fp32", marks=needs_openvino),
    pytest.param("openvino", "bf16", id="openvino-bf16", marks=[needs_openvino, needs_bf16]),
]


@pytest.fixture(scope="module")
def lite0(shared_user_cache):
    return registry.resolve()


@pytest.fixture(scope="module")
def images():
    return photographs(16, 224)


@pytest.fixture(scope="module")
def reference(lite0, images):
    return features(start("eager", lite0), images)


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_an_engine_agrees_with_the_reference(name, precision, lite0, images, reference):
    engine = start(name, lite0, precision)
    found = features(engine, images, threads=engine.streams)
    assert found.dtype == np.float32
    assert (engine.name, engine.precision, engine.device) == (name, precision, "cpu")
    gap = relative_error(found, reference)
    if precision == "fp32":
        assert gap.max() <= 1e-3
    else:
        close = cosine(found, reference)
        assert np.median(close) >= 0.999
        assert close.min() >= 0.99
        assert gap.min() > 1e-3  # it is another arithmetic, not float32 under its name


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_a_row_is_bitwise_the_same_in_any_company(name, precision, lite0, images):
    """Other batch mates, another place, a short batch, and threads that ask at the same time."""
    engine = start(name, lite0, precision)
    assert engine.streams == devices.cores()
    alone = features(engine, images)
    together = features(engine, images, threads=engine.streams + 2)
    assert together.tobytes() == alone.tobytes()
    assert features(engine, images[::-1])[::-1].tobytes() == alone.tobytes()
    for i in range(3):
        assert engine.run(images[i : i + 1])[0].tobytes() == alone[i].tobytes()
    locked = images[:BATCH].copy()
    locked.flags.writeable = False  # as arrays of a memory map are
    assert engine.run(locked)[0].tobytes() == alone[:BATCH].tobytes()


@pytest.mark.parametrize(("name", "precision"), ENGINES)
def test_photographs_are_within_the_tolerance_of_the_precision(name, precision, lite0, test_data):
    from bottleneck_probe.images.payload import fetch, to_pixels
    from bottleneck_probe.images.preprocess import frames

    paths = sorted((test_data / "ants-bees").rglob("*.jpg"))[::6][:64]
    assert len(paths) == 64
    images = np.concatenate(
        [frames(to_pixels(fetch(str(p)).content).array, lite0.preprocessing) for p in paths]
    )
    wanted = features(start("eager", lite0), images)
    engine = start(name, lite0, precision)
    found = features(engine, images, threads=engine.streams)
    if precision == "fp32":
        assert relative_error(found, wanted).max() <= 1e-3
    else:
        close = cosine(found, wanted)
        assert np.median(close) >= 0.999
        assert close.min() >= 0.99


@pytest.mark.parametrize("name", ["onnx", pytest.param("openvino", marks=needs_openvino)])
def test_several_outputs_come_in_their_order(name):
    outputs = (Output("same_norm", "avg"), PENULTIMATE, Output("stem_norm", "flatten"))
    backbone = small_backbone().with_outputs(outputs)
    images = photographs(BATCH, 32)
    wanted = start("eager", backbone).run(images)
    found = start(name, backbone).run(images)
    assert [each.shape for each in found] == [(BATCH, 16), (BATCH, 24), (BATCH, 16 * 16 * 16)]
    for a, b in zip(found, wanted, strict=True):
        assert relative_error(a, b).max() <= 1e-3


@needs_openvino
def test_a_network_in_an_onnx_file_runs_in_openvino(tmp_path):
    data = Path(__file__).parents[1] / "backbones" / "data"
    file = shutil.copy(data / "tiny_keras.onnx", tmp_path / "tiny.onnx")
    changes = {**CHANGES, "resize": 32}
    backbone = registry.resolve(str(file), changes=changes)
    images = photographs(BATCH, 32)
    wanted = start("onnx", backbone).run(images)[0]
    assert relative_error(start("openvino", backbone).run(images)[0], wanted).max() <= 1e-3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_compiled_network_agrees_and_is_found_again(precision, monkeypatch):
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        pytest.skip("no C++ compiler")
    backbone, images, reporter = small_backbone(1), photographs(12, 32), Silent()
    wanted = features(start("eager", backbone), images)

    def compiled():
        return CompiledEngine(
            backbone, device="cpu", batch_size=BATCH, precision=precision, reporter=reporter
        )

    engine = compiled()
    found = features(engine, images)
    assert relative_error(found, wanted).max() <= (1e-3 if precision == "fp32" else 0.05)
    if precision == "bf16":
        assert relative_error(found, wanted).min() > 1e-4
    assert features(engine, images, threads=3).tobytes() == found.tobytes()
    assert features(engine, images[::-1])[::-1].tobytes() == found.tobytes()
    assert len(reporter.notes) == 1
    monkeypatch.setenv("PATH", "")  # it needs no compiler now
    again = features(compiled(), images)
    assert again.tobytes() == found.tobytes()
    assert len(reporter.notes) == 1
