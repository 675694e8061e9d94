"""What a processor can do, told from what the system says about it."""

import sys

import pytest
from bottleneck_probe.engines import devices, openvino

pytestmark = pytest.mark.usefixtures("real_processor")

INTEL = {
    "model name": "Intel(R) Xeon(R)   Platinum 8481C",
    "cpu family": "6",
    "model": "143",
    "flags": "fpu sse2 avx2 avx512f avx512_bf16 amx_bf16 amx_tile",
}


@pytest.mark.parametrize(
    ("flags", "precisions"),
    [
        ("sse2 avx2", ("fp32",)),
        ("avx2 avx512f avx512_vnni", ("fp32",)),
        ("avx2 avx512f avx512_bf16", ("fp32", "bf16")),
        ("amx_bf16", ("fp32", "bf16")),
    ],
)
def test_bfloat16_is_offered_where_the_processor_has_it(flags, precisions, monkeypatch):
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags.split()))
    assert devices.cpu_precisions() == precisions


def test_a_processor_is_told_by_name_numbers_and_instruction_sets(monkeypatch):
    monkeypatch.setattr(devices, "_cpuinfo", lambda: INTEL)
    known = "Intel(R) Xeon(R) Platinum 8481C 6/143 avx2 avx512f avx512_bf16 amx_tile amx_bf16"
    assert devices.device_model() == known
    # The same name in a virtual machine that hides an instruction set is another model.
    monkeypatch.setattr(devices, "_cpuinfo", lambda: {**INTEL, "flags": "avx2"})
    assert devices.device_model() == "Intel(R) Xeon(R) Platinum 8481C 6/143 avx2"


@pytest.mark.parametrize("has", [True, False])
def test_without_linux_openvino_is_asked(has, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(devices, "_cpuinfo", dict)
    monkeypatch.setattr(devices, "is_x86_64", lambda: True)
    monkeypatch.setattr(openvino, "has_bf16", lambda: has)
    assert devices.cpu_precisions() == (("fp32", "bf16") if has else ("fp32",))
    assert devices.device_model()
    monkeypatch.setattr(devices, "is_x86_64", lambda: False)
    assert devices.cpu_precisions() == ("fp32",)


@pytest.mark.parametrize(
    ("machine", "known"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False)]
)
def test_kinds_of_processors(machine, known, monkeypatch):
    monkeypatch.setattr(devices.platform, "machine", lambda: machine)
    assert devices.is_x86_64() is known


def test_a_card_is_told_by_its_name_and_by_its_number_where_there_is_no_driver(monkeypatch):
    class Driver:
        def cuInit(self, flags):
            return 0

        def cuDeviceGet(self, handle, index):
            handle._obj.value = index
            return 0

        def cuDeviceGetName(self, name, size, handle):
            name.value = f"NVIDIA H{handle.value}00".encode()
            return 0

    def missing():
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(devices, "_cuda_driver", Driver)
    assert devices.device_model("cuda:1") == "NVIDIA H100"
    monkeypatch.setattr(devices, "_cuda_driver", missing)
    assert devices.device_model("cuda:1") == "cuda:1"


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/cpuinfo is Linux's")
def test_this_processor_has_a_name():
    assert len(devices.device_model().split()) >= 2
    assert devices.cpu_precisions()[0] == "fp32"
