"""Which engine and device are taken: what was asked for, or an error; never another one silently."""

import sys
import types

import numpy as np
import pytest
from bottleneck_probe import EngineError
from bottleneck_probe.backbones import registry
from bottleneck_probe.engines import devices, export, onnx, openvino, select, tuning
from bottleneck_probe.engines.base import Engine
from bottleneck_probe.reporter import Silent


@pytest.fixture
def backbone():
    return registry.resolve()


@pytest.fixture
def machine(monkeypatch):
    """A machine as a test describes it: a GPU, why it does not run, what is exported, installed."""
    state = types.SimpleNamespace(
        gpu=False,
        fault=None,
        exported=False,
        packages={"onnxruntime-gpu": "1.23.0"},
        openvino=None,
        asked=[],
    )
    monkeypatch.setattr(devices, "driver_has_gpu", lambda: state.gpu)

    def kernel_runs(device):
        state.asked.append(device)
        return state.fault

    monkeypatch.setattr(devices, "kernel_runs", kernel_runs)
    monkeypatch.setattr(export, "find", lambda backbone: "x.onnx" if state.exported else None)
    monkeypatch.setattr(onnx, "installed_packages", lambda: state.packages)
    monkeypatch.setattr(openvino, "installed_version", lambda: state.openvino)
    return state


def test_auto_takes_eager_for_few_images_and_exports_for_many(backbone, machine):
    few = select.choose(backbone, n_missing=select.EXPORT_PAYS_FROM - 1)
    many = select.choose(backbone, n_missing=select.EXPORT_PAYS_FROM)
    assert (few.engine, few.device, few.label) == ("eager", "cpu", "eager")
    assert (many.engine, many.provider, many.device, many.label) == ("onnx", "cpu", "cpu", "onnx")
    machine.exported = True
    assert select.choose(backbone, n_missing=1).engine == "onnx"
    machine.packages = {}
    assert select.choose(backbone, n_missing=10_000).engine == "eager"


def test_auto_takes_openvino_where_it_is_installed(backbone, machine):
    machine.openvino = "2026.4.1"
    few, many = (select.choose(backbone, n_missing=n) for n in (1, select.EXPORT_PAYS_FROM))
    assert (few.engine, many.engine, many.device) == ("eager", "openvino", "cpu")
    machine.exported = True
    assert select.choose(backbone, n_missing=1).label == "openvino"


@pytest.mark.parametrize("installed", [None, "2026.4.1"])
@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("n_missing", [1, 100, 10_000, 10_000_000])
def test_without_bfloat16_auto_never_takes_an_engine_slower_than_eager(
    installed, exported, n_missing, backbone, machine
):
    """On any processor the float32 engines on the exported network are faster than eager."""
    machine.openvino, machine.exported = installed, exported
    choice = select.choose(backbone, n_missing=n_missing)
    faster = "openvino" if installed else "onnx"
    repaid = exported or n_missing >= select.EXPORT_PAYS_FROM
    assert choice.engine == (faster if repaid else "eager")
    # The emulated arithmetic of a file from elsewhere runs where it can run at all, and it is said.
    other = select.choose(backbone.with_precision("bf16"), n_missing=n_missing)
    assert other.engine == "eager"
    assert "slowly" in other.reason


def test_bfloat16_takes_openvino_on_a_processor_that_has_it(backbone, machine, monkeypatch):
    machine.openvino = "2026.4.1"
    monkeypatch.setattr(devices, "cpu_precisions", lambda: ("fp32", "bf16"))
    choice = select.choose(backbone.with_precision("bf16"), n_missing=1)
    assert choice.engine == "openvino"
    assert "openvino, bf16" in choice.reason


@pytest.mark.parametrize("engine", ["onnx", "openvino"])
def test_an_engine_without_the_precision_is_refused(engine, backbone, machine):
    machine.openvino = "2026.4.1"
    with pytest.raises(
        EngineError, match="computes in fp32 on cpu, and the features are bf16"
    ) as e:
        select.choose(backbone.with_precision("bf16"), engine=engine, n_missing=1)
    assert "--precision fp32" in e.value.next


def test_a_recorded_engine_that_is_not_here_gives_way(backbone, machine):
    made = {"engine": "openvino", "device": "cpu", "batch_size": 4}
    assert select.choose(backbone, n_missing=1, recorded=made).engine == "eager"
    machine.openvino = "2026.4.1"
    choice = select.choose(backbone, n_missing=1, recorded=made)
    assert (choice.engine, choice.batch_size) == ("openvino", 4)
    machine.openvino = None
    with pytest.raises(EngineError, match="not installed") as caught:
        select.choose(backbone, engine="openvino", n_missing=1)
    assert "pip install openvino" in caught.value.next


def test_openvino_stays_on_the_processor(backbone, machine):
    machine.openvino, machine.gpu = "2026.4.1", True
    assert select.choose(backbone, engine="openvino", n_missing=1).device == "cpu"
    with pytest.raises(EngineError, match="runs on the processor"):
        select.choose(backbone, engine="openvino", device="cuda", n_missing=1)


def test_every_engine_is_listed_with_its_precisions(machine, monkeypatch):
    assert select.engines_here("cpu") == [("eager", "fp32"), ("compile", "fp32"), ("onnx", "fp32")]
    machine.openvino = "2026.4.1"
    monkeypatch.setattr(devices, "cpu_precisions", lambda: ("fp32", "bf16"))
    assert ("eager", "bf16") in select.engines_here("cpu")
    assert ("eager", "fp16") not in select.engines_here("cpu")
    assert select.engines_here("cpu")[-2:] == [("openvino", "fp32"), ("openvino", "bf16")]
    assert ("onnx:tensorrt", "fp16") in select.engines_here("cuda:0")
    assert not any(name == "openvino" for name, _ in select.engines_here("cuda:0"))


def test_a_measured_batch_is_taken_and_one_is_measured_where_it_pays(
    backbone, machine, monkeypatch
):
    machine.exported = True
    few = select.choose(backbone, n_missing=tuning.PAYS_FROM - 1)
    many = select.choose(backbone, n_missing=tuning.PAYS_FROM)
    assert (few.open_batch, many.open_batch) == (False, True)
    assert not select.choose(backbone, n_missing=10_000, engine="compile").open_batch
    monkeypatch.setattr(tuning, "find", lambda backbone, choice: 16)
    choice = select.choose(backbone, n_missing=10_000)
    assert (choice.batch_size, choice.open_batch) == (16, False)
    assert "batches of 16" in choice.reason


def test_the_reason_names_engine_device_and_batch(backbone, machine):
    choice = select.choose(backbone, n_missing=5, batch_size=7)
    assert choice.batch_size == 7
    assert "engine eager" in choice.reason
    assert "cpu (no NVIDIA GPU here)" in choice.reason
    assert "batches of 7" in choice.reason


def test_a_gpu_that_runs_is_taken_by_auto(backbone, machine):
    machine.gpu = True
    choice = select.choose(backbone, n_missing=10_000)
    assert (choice.engine, choice.device, choice.batch_size) == ("eager", "cuda:0", 256)
    assert machine.asked == ["cuda:0"]


def test_a_gpu_that_does_not_run_is_told_with_its_reason(backbone, machine):
    machine.gpu, machine.fault = True, "no kernel image is available for execution"
    choice = select.choose(backbone, n_missing=5)
    assert choice.device == "cpu"
    assert "no kernel image is available" in choice.reason


@pytest.mark.parametrize(
    "stated",
    [
        {"device": "cuda"},
        {"device": "cuda:1"},
        {"engine": "onnx:cuda"},
        {"engine": "onnx:tensorrt"},
        {"engine": "eager", "device": "cuda:0"},
    ],
    ids=str,
)
@pytest.mark.parametrize("gpu", [False, True])
def test_a_stated_card_that_is_not_there_is_an_error(stated, gpu, backbone, machine):
    machine.gpu, machine.fault = gpu, "invalid device ordinal"
    with pytest.raises(EngineError, match="is not there") as caught:
        select.choose(backbone, n_missing=5, **stated)
    assert ("invalid device ordinal" if gpu else "driver sees no GPU") in caught.value.what
    assert "--device cpu" in caught.value.next


@pytest.mark.parametrize(
    "engine", ["tensorflow", "onnx:", "onnx:dml", "eager:cuda", "ONNX", "auto:cpu"]
)
def test_unknown_engines_are_refused(engine, backbone, machine):
    if engine == "onnx:":
        assert select.choose(backbone, engine=engine, n_missing=1).engine == "onnx"
        return
    with pytest.raises(EngineError):
        select.choose(backbone, engine=engine, n_missing=1)


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "CPU", "cuda:-1", "mps", ""])
def test_unknown_devices_are_refused(device, backbone, machine):
    with pytest.raises(EngineError, match="no device is called"):
        select.choose(backbone, device=device, n_missing=1)


def test_a_provider_and_a_device_that_contradict_are_refused(backbone, machine):
    machine.gpu = True
    for engine, device in (("onnx:cuda", "cpu"), ("onnx:cpu", "cuda"), ("onnx:tensorrt", "cpu")):
        with pytest.raises(EngineError, match="does not run on"):
            select.choose(backbone, engine=engine, device=device, n_missing=1)
    assert select.choose(backbone, engine="onnx", device="cuda:1", n_missing=1).label == "onnx:cuda"
    assert select.choose(backbone, engine="onnx:cuda", n_missing=1).device == "cuda:0"
    assert select.choose(backbone, engine="onnx:cpu", n_missing=1).device == "cpu"


def test_what_a_file_records_is_taken_where_nothing_is_stated(backbone, machine):
    made = {"engine": "onnx", "device": "cpu", "batch_size": 48}
    choice = select.choose(backbone, n_missing=1, recorded=made)
    assert (choice.engine, choice.batch_size) == ("onnx", 48)
    assert "as the file was made" in choice.reason
    stated = select.choose(backbone, n_missing=1, recorded=made, engine="eager", batch_size=3)
    assert (stated.engine, stated.batch_size) == ("eager", 3)
    machine.gpu = True  # a card that came later does not change the file's engine
    assert select.choose(backbone, n_missing=1, recorded=made).device == "cpu"


def test_a_file_made_on_a_card_that_is_gone_is_extended_on_the_cpu(backbone, machine):
    made = {"engine": "onnx:cuda", "device": "cuda:0", "batch_size": 256}
    choice = select.choose(backbone, n_missing=1, recorded=made)
    assert (choice.device, choice.batch_size) == ("cpu", select.BATCH_SIZE["cpu"])
    machine.gpu = True
    choice = select.choose(backbone, n_missing=1, recorded=made)
    assert (choice.label, choice.device, choice.batch_size) == ("onnx:cuda", "cuda:0", 256)


def test_a_stated_device_outweighs_the_recorded_engine(backbone, machine):
    made = {"engine": "onnx:cuda", "device": "cuda:0", "batch_size": 256}
    choice = select.choose(backbone, n_missing=1, recorded=made, device="cpu")
    assert (choice.device, choice.provider in ("", "cpu")) == ("cpu", True)
    machine.gpu = True
    choice = select.choose(backbone, n_missing=1, recorded=made, device="cpu")
    assert (choice.device, choice.provider in ("", "cpu")) == ("cpu", True)


@pytest.fixture
def runtime(monkeypatch):
    """A module that stands for ONNX Runtime, with providers of the test's choice."""
    fake = types.ModuleType("onnxruntime")
    fake.available = ["CPUExecutionProvider"]
    fake.taken = None  # what a session really gets, if not what was asked for
    fake.sessions = []
    fake.preloaded = 0

    class SessionOptions:
        def __init__(self):
            self.entries, self.dimensions = {}, {}

        def add_session_config_entry(self, key, value):
            self.entries[key] = value

        def add_free_dimension_override_by_name(self, name, value):
            self.dimensions[name] = value

    class InferenceSession:
        def __init__(self, path, options, providers):
            self.options, self.providers = options, providers
            fake.sessions.append(self)
            if fake.taken == "raise":
                raise RuntimeError("libcudnn.so.9: cannot open shared object file")

        def get_providers(self):
            return [fake.taken] if fake.taken else [self.providers[0][0]]

    def preload_dlls():
        fake.preloaded += 1

    fake.SessionOptions, fake.InferenceSession = SessionOptions, InferenceSession
    fake.GraphOptimizationLevel = types.SimpleNamespace(ORT_ENABLE_ALL=99)
    fake.get_available_providers = lambda: fake.available
    fake.preload_dlls = preload_dlls
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    return fake


def engine_of(backbone, tmp_path, provider):
    device = "cpu" if provider == "cpu" else "cuda:1"
    return onnx.OnnxEngine(
        tmp_path / "x.onnx", backbone, provider=provider, device=device, batch_size=6
    )


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_build_without_the_provider_is_an_error(provider, backbone, runtime, tmp_path):
    with pytest.raises(EngineError, match="this ONNX Runtime has no") as caught:
        engine_of(backbone, tmp_path, provider)
    assert "CPUExecutionProvider" in caught.value.expected
    assert "onnxruntime-gpu" in caught.value.next
    assert not runtime.sessions


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_start_is_an_error(provider, backbone, runtime, tmp_path):
    runtime.available = list(onnx.PROVIDERS.values())
    runtime.taken = "raise"
    with pytest.raises(EngineError, match="libcudnn") as caught:
        engine_of(backbone, tmp_path, provider)
    assert caught.value.__cause__ is not None
    runtime.taken = "CPUExecutionProvider"  # what ONNX Runtime does by itself, with a line in a log
    with pytest.raises(EngineError, match="took CPUExecutionProvider"):
        engine_of(backbone, tmp_path, provider)


def test_sessions_run_at_one_shape_in_full_precision(backbone, runtime, tmp_path):
    runtime.available = list(onnx.PROVIDERS.values())
    assert engine_of(backbone, tmp_path, "cpu").name == "onnx"
    assert runtime.preloaded == 0
    assert engine_of(backbone, tmp_path, "cuda").name == "onnx:cuda"
    assert engine_of(backbone, tmp_path, "tensorrt").name == "onnx:tensorrt"
    assert runtime.preloaded == 2
    cpu, cuda, tensorrt = runtime.sessions
    for session in runtime.sessions:
        assert session.options.dimensions == {"n": 6}
        assert len(session.providers) == 1
    assert cpu.providers == [("CPUExecutionProvider", {})]
    assert cuda.providers == [("CUDAExecutionProvider", {"device_id": "1", "use_tf32": "0"})]
    for session in (cuda, tensorrt):
        assert session.options.entries["session.disable_cpu_ep_fallback"] == "1"
    name, options = tensorrt.providers[0]
    assert name == "TensorrtExecutionProvider"
    assert (options["device_id"], options["trt_fp16_enable"]) == ("1", "0")
    for end in ("min", "opt", "max"):
        assert options[f"trt_profile_{end}_shapes"] == "images:6x224x224x3"
    assert all(isinstance(value, str) for value in options.values())


def test_both_onnxruntime_packages_are_told(backbone, monkeypatch):
    there = {"onnxruntime": "1.22.0", "onnxruntime-gpu": "1.23.0"}

    def version(name):
        if name not in there:
            raise onnx.PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(onnx, "version", version)
    monkeypatch.setattr(export, "find_or_export", lambda backbone, reporter: "x.onnx")
    monkeypatch.setattr(onnx, "OnnxEngine", lambda *args, **kwargs: "started")
    choice = select.choose(backbone, engine="onnx", device="cpu", n_missing=1)
    reporter = Silent()
    assert select.start(choice, backbone, reporter) == ("started", choice)
    assert len(reporter.warnings) == 1
    assert "onnxruntime 1.22.0 and onnxruntime-gpu 1.23.0" in reporter.warnings[0]
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in reporter.warnings[0]
    del there["onnxruntime"]
    quiet = Silent()
    select.start(choice, backbone, quiet)
    assert not quiet.warnings


def test_a_missing_onnxruntime_is_an_error_in_words(backbone, machine, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineError, match="onnxruntime"):
        engine_of(backbone, tmp_path, "cpu")


class Doubler(Engine):
    """Returns the mean of each image; what it was given is kept."""

    name = "doubler"

    def __init__(self, result=None):
        super().__init__(batch_size=4, size=(2, 3), feature_sizes=[2], device="cpu")
        self.result, self.given = result, []

    def forward(self, images):
        self.given.append(images)
        mean = images.reshape(len(images), -1).mean(axis=1)
        return [np.stack([mean, mean * 2], axis=1) if self.result is None else self.result]

    def versions(self):
        return {"library": "1"}


@pytest.mark.parametrize("m", [1, 3, 4])
def test_an_engine_always_sees_the_full_batch(m):
    engine = Doubler()
    images = np.arange(m * 18, dtype=np.uint8).reshape(m, 2, 3, 3)
    (features,) = engine.run(images)
    assert engine.given[0].shape == (4, 2, 3, 3)
    assert (engine.given[0][m:] == 0).all()
    assert features.dtype == np.float32
    assert features.shape == (m, 2)
    np.testing.assert_allclose(features[:, 0], images.reshape(m, -1).mean(axis=1))


def test_an_engine_refuses_what_does_not_fit():
    good = np.zeros((2, 2, 3, 3), np.uint8)
    for images in (good.astype(np.float32), good[:, :, :2], np.zeros((5, 2, 3, 3), np.uint8)):
        with pytest.raises(EngineError, match="was given"):
            Doubler().run(images)
    with pytest.raises(EngineError, match=r"returned \[\(4, 3\)\]"):
        Doubler(np.zeros((4, 3), np.float32)).run(good)
    for bad in (np.nan, np.inf, -np.inf):
        result = np.zeros((4, 2), np.float32)
        result[0, 1] = bad
        with pytest.raises(EngineError, match="NaN or infinity"):
            Doubler(result).run(good)
    # In the padding it does no harm.
    result = np.zeros((4, 2), np.float32)
    result[3] = np.nan
    assert Doubler(result).run(good)[0].shape == (2, 2)


def test_an_export_that_fails_is_told_and_replaced_only_where_auto_chose_it(backbone, monkeypatch):
    from bottleneck_probe.engines import eager

    def fail(backbone, reporter):
        raise export.ExportError("it cannot be exported")

    monkeypatch.setattr(export, "find_or_export", fail)
    monkeypatch.setattr(eager, "EagerEngine", lambda *args, **kwargs: "eager")
    monkeypatch.setattr(onnx, "package_clash", lambda: None)
    reporter = Silent()
    chosen = select.choose(backbone, device="cpu", n_missing=100_000)
    assert chosen.engine == "openvino"
    engine, choice = select.start(chosen, backbone, reporter)
    assert (engine, choice.engine, choice.label) == ("eager", "eager", "eager")
    assert reporter.warnings == ["it cannot be exported; engine eager is used instead"]
    stated = select.choose(backbone, engine="onnx", device="cpu", n_missing=100_000)
    with pytest.raises(export.ExportError):
        select.start(stated, backbone, reporter)


def test_the_card_of_another_number_is_parsed():
    assert devices.parse("cuda:3") == "cuda:3"
    assert devices.cores() >= 1


def test_without_a_gpu_the_driver_is_asked_without_torch():
    import subprocess

    code = (
        "import sys; from bottleneck_probe.engines import devices; devices.driver_has_gpu(); "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("library", [None, "no init", "no card", "a card"])
def test_what_the_driver_says_decides_whether_there_is_a_gpu(library, monkeypatch):
    def cdll(name):
        if library is None:
            raise OSError("no such library")

        def count(pointer):
            pointer._obj.value = int(library == "a card")
            return 0

        init = 100 if library == "no init" else 0
        return types.SimpleNamespace(cuInit=lambda flags: init, cuDeviceGetCount=count)

    monkeypatch.setattr(devices.ctypes, "CDLL", cdll)
    assert devices.driver_has_gpu() == (library == "a card")


def test_a_kernel_that_cannot_run_gives_the_reason_of_torch():
    import torch

    if torch.cuda.is_available():
        assert devices.kernel_runs("cuda:99")
    else:
        assert devices.kernel_runs("cuda:0")
    assert devices.kernel_runs("cpu") is None
