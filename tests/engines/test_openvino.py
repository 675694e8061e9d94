"""OpenVINO as it is started: silent to the network, in the precision asked for, without PyTorch."""

import subprocess
import sys
import textwrap
import types
from pathlib import Path

import numpy as np
import pytest
from bottleneck_probe import EngineError
from bottleneck_probe.backbones import registry
from bottleneck_probe.backbones.nodes import sizes_of
from bottleneck_probe.engines import devices, export, openvino
from bottleneck_probe.engines.base import OutOfMemoryError
from bottleneck_probe.engines.openvino import OpenVinoEngine
from bottleneck_probe.reporter import Silent

needs_openvino = pytest.mark.skipif(
    openvino.installed_version() is None, reason="OpenVINO is not installed"
)


@pytest.fixture(scope="module")
def lite0(shared_user_cache):
    return registry.resolve()


@pytest.fixture(scope="module")
def path(lite0):
    sizes_of(lite0)  # what a first run finds out and keeps
    return export.find_or_export(lite0, Silent())


def run(code, *arguments, timeout=120):
    """Run Python code in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, check=True, timeout=timeout, capture_output=True, text=True)


@needs_openvino
def test_importing_it_reports_to_nobody_and_leaves_nothing_at_home(tmp_path):
    code = """
        import socket, sys
        from pathlib import Path

        def refuse(*arguments, **keywords):
            Path(sys.argv[1], "asked").touch()
            raise OSError("no network in this test")

        socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
        Path.home = classmethod(lambda cls: Path(sys.argv[1]))
        import os
        os.environ["HOME"] = os.environ["USERPROFILE"] = sys.argv[1]
        from bottleneck_probe.engines.openvino import library
        library().Core()
        import threading, time
        time.sleep(0.3)
        assert "openvino_telemetry" not in sys.modules, "telemetry is loaded"
    """
    run(code, tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs_openvino
def test_features_need_no_pytorch(path):
    code = """
        import sys, numpy as np
        from bottleneck_probe.backbones import registry
        from bottleneck_probe.engines.openvino import OpenVinoEngine
        engine = OpenVinoEngine(sys.argv[1], registry.resolve(), batch_size=2)
        assert engine.run(np.zeros((2, 224, 224, 3), np.uint8))[0].shape == (2, 1280)
        assert "torch" not in sys.modules
    """
    run(code, path)


@needs_openvino
def test_first_calls_of_several_threads_do_not_wait_for_each_other_for_ever(path):
    """OpenVINO's binding sets itself up in its first call, and hung where two threads made it."""
    code = """
        import sys, threading, numpy as np
        from bottleneck_probe.backbones import registry
        from bottleneck_probe.engines.openvino import OpenVinoEngine
        sys.setswitchinterval(1e-5)
        engine = OpenVinoEngine(sys.argv[1], registry.resolve(), batch_size=1)
        barrier = threading.Barrier(8)

        def first():
            barrier.wait()
            engine.run(np.zeros((1, 224, 224, 3), np.uint8))

        threads = [threading.Thread(target=first) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
    """
    for _ in range(4):
        run(code, path, timeout=60)


@needs_openvino
def test_other_threads_run_while_it_computes(path, lite0):
    """The GIL is free during a call: else decoding would stand still."""
    import threading
    import time

    engine = OpenVinoEngine(path, lite0, batch_size=32)
    batch = np.zeros((32, 224, 224, 3), np.uint8)
    thread = threading.Thread(target=engine.run, args=(batch,))
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0)
        turns += 1
    thread.join()
    assert turns > 500


@needs_openvino
def test_streams_may_be_stated(path, lite0):
    assert OpenVinoEngine(path, lite0, batch_size=1, streams=1).streams == 1
    assert OpenVinoEngine(path, lite0, batch_size=1).streams == devices.cores()


@pytest.fixture
def fake(monkeypatch):
    """A module that stands for OpenVINO on a processor that the test describes."""
    state = types.SimpleNamespace(taken=None, raises=None, settings=None, shape=None)

    class Compiled:
        def get_property(self, name):
            assert name == "INFERENCE_PRECISION_HINT"
            word = state.taken or state.settings["INFERENCE_PRECISION_HINT"]
            return types.SimpleNamespace(to_string=lambda: word)

        def output(self, name):
            return name

        def create_infer_request(self):
            outputs = {"features_0": np.zeros((state.shape["images"][0], 1280), np.float32)}
            return types.SimpleNamespace(infer=lambda inputs, share_inputs: outputs)

    class Core:
        def read_model(self, path):
            def reshape(shape):
                state.shape = shape

            return types.SimpleNamespace(reshape=reshape)

        def compile_model(self, model, device, settings):
            if state.raises:
                raise state.raises
            assert device == "CPU"
            state.settings = settings
            return Compiled()

    library = types.ModuleType("openvino")
    library.Core = Core
    monkeypatch.setitem(sys.modules, "openvino", library)
    return state


def test_precision_threads_and_shape_are_stated(fake, lite0):
    OpenVinoEngine(Path("x.onnx"), lite0, batch_size=6, streams=3)
    assert fake.shape == {"images": [6, 224, 224, 3]}
    assert fake.settings["INFERENCE_PRECISION_HINT"] == "f32"
    assert fake.settings["NUM_STREAMS"] == fake.settings["INFERENCE_NUM_THREADS"] == 3
    OpenVinoEngine(Path("x.onnx"), lite0, batch_size=6, precision="bf16")
    assert fake.settings["INFERENCE_PRECISION_HINT"] == "bf16"


def test_another_precision_than_asked_for_is_refused(fake, lite0):
    fake.taken = "f32"  # what OpenVINO does, without a word, where the processor has no bfloat16
    with pytest.raises(EngineError, match="OpenVINO took f32") as caught:
        OpenVinoEngine(Path("x.onnx"), lite0, batch_size=6, precision="bf16")
    assert "--precision fp32" in caught.value.next
    with pytest.raises(EngineError, match="does not compute in fp16"):
        OpenVinoEngine(Path("x.onnx"), lite0, batch_size=6, precision="fp16")


def test_a_network_it_cannot_run_is_told_and_memory_apart(fake, lite0):
    fake.raises = RuntimeError("Unsupported operation")
    with pytest.raises(EngineError, match="Unsupported operation") as caught:
        OpenVinoEngine(Path("x.onnx"), lite0, batch_size=6)
    assert not isinstance(caught.value, OutOfMemoryError)
    fake.raises = RuntimeError("Exception from src/x.cpp: std::bad_alloc")
    with pytest.raises(OutOfMemoryError):
        OpenVinoEngine(Path("x.onnx"), lite0, batch_size=6)


def test_a_missing_package_and_another_device_are_errors_in_words(lite0, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineError, match="openvino is not installed") as caught:
        OpenVinoEngine(Path("x.onnx"), lite0, batch_size=1)
    assert "pip install openvino" in caught.value.next
    assert not openvino.has_bf16()
    with pytest.raises(EngineError, match="does not run on cuda:0"):
        OpenVinoEngine(Path("x.onnx"), lite0, batch_size=1, device="cuda:0")
