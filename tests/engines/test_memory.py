"""Every library's way of saying that memory ran out becomes one error, which names a smaller batch."""

import numpy as np
import pytest
from bottleneck_probe import EngineError
from bottleneck_probe.engines.base import Engine, OutOfMemoryError


class Failing(Engine):
    name = "failing"

    def __init__(self, error, batch_size=8):
        super().__init__(batch_size=batch_size, size=(2, 2), feature_sizes=[1], device="cuda:0")
        self.error = error

    def forward(self, images):
        raise self.error


def torch_cuda():
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def onnx_runtime():
    from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

    return RuntimeException(
        "[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer"
    )


MEMORY = {
    "torch on a card": torch_cuda,
    "torch on a CPU": lambda: RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    "torch on Windows": lambda: RuntimeError("DefaultCPUAllocator: not enough memory: you tried"),
    "ONNX Runtime": onnx_runtime,
    "ONNX Runtime on a card": lambda: RuntimeError("CUDA failure 2: out of memory ; GPU=0"),
    "C++": lambda: RuntimeError("std::bad_alloc"),
    "Python": MemoryError,
    "cuBLAS": lambda: RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"
    ),
}


@pytest.mark.parametrize("kind", MEMORY)
def test_memory_that_runs_out_is_told_with_a_smaller_batch(kind):
    images = np.zeros((3, 2, 2, 3), np.uint8)
    error = MEMORY[kind]()
    with pytest.raises(OutOfMemoryError, match="batches of 8") as caught:
        Failing(error).run(images)
    assert caught.value.next == "give --batch-size 4"
    assert caught.value.__cause__ is error
    with pytest.raises(OutOfMemoryError) as caught:
        Failing(error, batch_size=1).run(images[:1])
    assert "--batch-size" not in caught.value.next


@pytest.mark.parametrize(
    "error",
    [RuntimeError("no kernel image is available"), EngineError("not enough memory"), KeyError("x")],
)
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught:
        Failing(error).run(np.zeros((1, 2, 2, 3), np.uint8))
    assert caught.value is error
