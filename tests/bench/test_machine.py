"""What is said of the machine."""

from bottleneck_probe.bench import machine

INTEL = """processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile

processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags\t\t: fpu avx2 avx512f avx512_bf16 amx_bf16 amx_tile
"""
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd bf16\n"


def test_the_processor_is_read_as_the_kernel_tells_it(tmp_path):
    path = tmp_path / "cpuinfo"
    path.write_text(INTEL)
    model, flags = machine._processor(path)
    assert model == "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    assert {"amx_bf16", "avx512_bf16"} <= flags
    path.write_text(ARM)
    assert machine._processor(path)[1] == {"fp", "asimd", "bf16"}
    assert machine._processor(tmp_path / "none")[1] == set()


def test_a_machine_is_described_with_what_decides_its_speed():
    found = machine.describe()
    assert found["processor"]
    assert found["cores"] >= 1
    assert set(found["flags"]) <= set(machine.FLAGS)
    assert found["memory_gb"] is None or found["memory_gb"] > 0.5


def test_versions_are_of_what_is_installed():
    found = machine.versions(("numpy", "no-such-distribution"))
    assert list(found) == ["numpy"]
