"""Which device computes: what was asked for, or what is really there."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from functools import cache
from pathlib import Path

from ..errors import EngineError

# Instruction sets that decide which kernels an engine takes, and so how fast and how exact it is.
_TELLING_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16")
_BF16_FLAGS = {"avx512_bf16", "amx_bf16"}


def parse(device: str) -> str:
    """A device as it is written down: ``cpu`` or ``cuda:N``; ``auto`` stays.

    Raises
    ------
    EngineError
        For any other word.

    Examples
    --------
    >>> parse("cuda")
    'cuda:0'
    """
    if device in ("auto", "cpu"):
        return device
    match = re.fullmatch(r"cuda(?::(\d+))?", device)
    if not match:
        raise EngineError(
            f"no device is called {device!r}",
            expected="auto, cpu, cuda or cuda:N",
            where="--device",
        )
    return f"cuda:{match[1] or 0}"


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_x86_64() -> bool:
    """Whether this is a 64-bit processor of Intel's or AMD's kind, for which OpenVINO is made."""
    return platform.machine().lower() in ("x86_64", "amd64")


def cpu_flags() -> frozenset[str]:
    """Instruction sets of the processor, in Linux's words.

    Returns
    -------
    frozenset of str
        Among them ``avx2``, ``avx512_bf16``, ``amx_bf16`` where the processor has them. On systems
        other than Linux only ``avx512_bf16``, where OpenVINO is installed and reports it.
    """
    flags = _cpuinfo().get("flags", "")
    if flags or not is_x86_64() or sys.platform == "linux":
        return frozenset(flags.split())
    from . import openvino

    return frozenset({"avx512_bf16"} if openvino.has_bf16() else ())


def cpu_precisions() -> tuple[str, ...]:
    """Precisions in which the processor itself computes, the most exact first.

    Returns
    -------
    tuple of str
        ``("fp32", "bf16")``, or ``("fp32",)`` where bfloat16 would be emulated and thereby slower.
    """
    return ("fp32", "bf16") if _BF16_FLAGS & cpu_flags() else ("fp32",)


def device_model(device: str = "cpu") -> str:
    """What a device is, in one line: what was measured on one holds for another of the same line.

    Parameters
    ----------
    device : str, default ``"cpu"``
        ``cpu`` or ``cuda:N``.

    Returns
    -------
    str
        ``AMD EPYC 26/2 avx2 avx512f avx512_bf16``: name, family and model number (in a virtual
        machine the name says little) and the instruction sets that matter; or a card's name.
    """
    if device.startswith("cuda"):
        return _gpu_name(int(device.partition(":")[2] or 0))
    info, flags = _cpuinfo(), cpu_flags()
    name = info.get("model name") or platform.processor() or platform.machine()
    numbers = "/".join(info[key] for key in ("cpu family", "model") if key in info)
    return " ".join([*name.split(), numbers, *(f for f in _TELLING_FLAGS if f in flags)]).replace(
        "  ", " "
    )


@cache
def _cpuinfo() -> dict[str, str]:
    """Linux's description of the first processor; empty on other systems."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _gpu_name(index: int) -> str:
    name, handle = ctypes.create_string_buffer(256), ctypes.c_int(0)
    try:
        library = _cuda_driver()
        found = library.cuInit(0) == 0 and library.cuDeviceGet(ctypes.byref(handle), index) == 0
        if found and library.cuDeviceGetName(name, len(name), handle) == 0:
            return name.value.decode("utf-8", "replace")
    except (OSError, AttributeError):
        pass
    return f"cuda:{index}"


def _cuda_driver() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def driver_has_gpu() -> bool:
    """Whether NVIDIA's driver is here and sees a GPU. Takes milliseconds and imports no torch."""
    try:
        library = _cuda_driver()
        count = ctypes.c_int(0)
        return (
            library.cuInit(0) == 0
            and library.cuDeviceGetCount(ctypes.byref(count)) == 0
            and count.value > 0
        )
    except (OSError, AttributeError):
        return False


def kernel_runs(device: str) -> str | None:
    """Run one kernel on a CUDA device.

    Returns
    -------
    str or None
        None if it ran, else why not, in torch's words. A driver, a GPU and a CUDA build of torch
        can all be there and still not fit each other.
    """
    import torch

    try:
        value = int((torch.ones(2, device=device) + 1).sum().item())
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0]
    return None if value == 4 else f"1 + 1 came out as {value / 2}"


def settle(device: str) -> tuple[str, str]:
    """The device to use, and why, in a few words.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns
    -------
    device : str
        ``cpu`` or ``cuda:N``.
    reason : str

    Raises
    ------
    EngineError
        If a stated device is not there: it is never replaced silently.
    """
    device = parse(device)
    if device == "cpu":
        return "cpu", "asked for"
    if device == "auto":
        if not driver_has_gpu():
            return "cpu", "no NVIDIA GPU here"
        fault = kernel_runs("cuda:0")
        return ("cpu", f"the GPU does not run: {fault}") if fault else ("cuda:0", "a GPU that runs")
    fault = kernel_runs(device) if driver_has_gpu() else "NVIDIA's driver sees no GPU"
    if fault:
        raise EngineError(
            f"{device} is not there: {fault}",
            where="--device",
            next="give --device cpu, or install a driver that fits this PyTorch",
        )
    return device, "asked for"
