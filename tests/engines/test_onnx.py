"""ONNX Runtime as it is started: a core a call on a CPU, one place for the images on a card."""

import sys
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe import EngineError
from bottleneck_probe.engines import devices, export, onnx
from bottleneck_probe.engines.onnx import OnnxEngine
from bottleneck_probe.reporter import Silent

sys.path.insert(0, str(Path(__file__).parent))
from small import photographs, small_backbone

BATCH = 4


@pytest.fixture
def engine():
    backbone = small_backbone()
    path = export.find_or_export(backbone, Silent())
    return OnnxEngine(path, backbone, provider="cpu", device="cpu", batch_size=BATCH)


def test_a_call_on_a_cpu_takes_one_core_and_all_cores_take_calls(engine):
    assert engine.streams == devices.cores()
    assert engine._session.get_session_options().intra_op_num_threads == 1


def test_images_with_a_place_of_their_own_give_the_same_features(engine):
    """What runs on a card, run on the CPU: the second batch must not see the first one's images."""
    bound = onnx._Bound(engine._session, ["features_0"], (BATCH, 32, 32, 3), "cpu")
    images = photographs(3 * BATCH, 32)
    for i in range(0, len(images), BATCH):
        batch = images[i : i + BATCH]
        wanted = engine.forward(batch)[0]
        assert bound.run(batch)[0].tobytes() == wanted.tobytes()


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_tensorrt_builds_in_the_precision_asked_for(precision):
    options = onnx.provider_options("tensorrt", "cuda:1", 6, (224, 224), precision)
    taken = {key[4:8] for key in ("trt_fp16_enable", "trt_bf16_enable") if options[key] == "1"}
    assert taken == ({precision} - {"fp32"})


def test_engines_of_another_card_or_version_are_not_loaded(monkeypatch):
    def folder():
        return onnx.provider_options("tensorrt", "cuda:0", 6, (8, 8))["trt_engine_cache_path"]

    monkeypatch.setattr(devices, "device_model", lambda device: "NVIDIA H100 80GB/HBM3")
    first = Path(folder())
    assert first.is_dir()
    assert "H100" in first.name
    monkeypatch.setattr(onnx, "installed_packages", lambda: {"onnxruntime-gpu": "99.0"})
    second = Path(folder())
    monkeypatch.setattr(devices, "device_model", lambda device: "NVIDIA A100")
    assert len({first, second, Path(folder())}) == 3


@pytest.mark.parametrize(("provider", "precision"), [("cpu", "bf16"), ("cuda", "fp16")])
def test_a_precision_that_a_provider_lacks_is_refused(provider, precision):
    device = "cpu" if provider == "cpu" else "cuda:0"
    with pytest.raises(EngineError, match=f"does not compute in {precision}"):
        OnnxEngine(
            Path("x.onnx"),
            small_backbone(),
            provider=provider,
            device=device,
            batch_size=1,
            precision=precision,
        )


def test_features_of_a_batch_are_not_overwritten_by_the_next(engine):
    images = photographs(2 * BATCH, 32)
    first = engine.run(images[:BATCH])[0]
    kept = first.copy()
    engine.run(images[BATCH:])
    assert np.array_equal(first, kept)
