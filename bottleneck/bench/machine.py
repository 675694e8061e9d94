"""The machine and the versions that a measurement holds for."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..engines import devices

# Instruction sets that decide how fast a network runs on an x86-64 processor.
FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_fp16")
LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "img2vec-pytorch",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "pillow",
    "simplejpeg",
    "numpy",
    "h5py",
)


def describe() -> dict[str, Any]:
    """Processor, cores, instruction sets, memory, system and how busy it is."""
    model, flags = _processor()
    return {
        "processor": model,
        "cores": devices.cores(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": _load(),
    }


def versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Of those of the libraries that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, set[str]]:
    try:
        text = cpuinfo.read_text("utf-8", errors="replace")
    except OSError:
        return _processor_elsewhere(), set()
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.partition(":")
        if found:
            fields[name.strip()] = value.strip()
    model = fields.get("model name") or fields.get("Model") or platform.machine()
    return model, set((fields.get("flags") or fields.get("Features") or "").split())


def _processor_elsewhere() -> str:
    if sys.platform == "darwin":
        asked = ["sysctl", "-n", "machdep.cpu.brand_string"]
        try:
            return subprocess.run(asked, capture_output=True, text=True, timeout=5).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            pass
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _load() -> float | None:
    """Mean number of processes that wanted a core in the last minute."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
