"""Which device computes: what was asked for, or what is really there."""

from __future__ import annotations

import ctypes
import os
import re
import sys

from ..errors import EngineError


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


def driver_has_gpu() -> bool:
    """Whether NVIDIA's driver is here and sees a GPU. Takes milliseconds and imports no torch."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
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
