"""ONNX Runtime on the exported network, with the provider that was asked for and no other."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import usercache
from ..backbones.base import Backbone
from ..backbones.nodes import sizes_of
from ..errors import EngineError
from . import devices
from .base import Engine

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}


def installed_packages() -> dict[str, str]:
    """Versions of the two distributions that both import as ``onnxruntime``."""
    found = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def not_installed() -> EngineError:
    """The error for an engine that was asked for without its package."""
    return EngineError(
        "the package onnxruntime is not installed, or cannot be imported",
        where="--engine onnx",
        next="pip install onnxruntime (onnxruntime-gpu for a GPU), or give --engine eager",
    )


def package_clash() -> str | None:
    """A warning if both distributions are installed, because they overwrite each other's files."""
    found = installed_packages()
    if len(found) < 2:
        return None
    both = " and ".join(f"{name} {number}" for name, number in found.items())
    return (
        f"{both} are both installed and overwrite each other: "
        "pip uninstall -y onnxruntime onnxruntime-gpu, then install the one you want"
    )


class OnnxEngine(Engine):
    """Runs an exported network with one execution provider of ONNX Runtime.

    Parameters
    ----------
    path : pathlib.Path
        As `export.find_or_export` returns it.
    backbone : Backbone
    provider : str
        ``cpu``, ``cuda`` or ``tensorrt``.
    device : str
        ``cpu`` or ``cuda:N``.
    batch_size : int

    Raises
    ------
    EngineError
        If this build of ONNX Runtime lacks the provider, or the provider does not start. ONNX
        Runtime itself would only log it and run on the CPU.
    """

    def __init__(
        self, path: Path, backbone: Backbone, *, provider: str, device: str, batch_size: int
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            size=backbone.preprocessing.crop,
            feature_sizes=sizes_of(backbone),
            device=device,
        )
        self.name = "onnx" if provider == "cpu" else f"onnx:{provider}"
        self._session = _session(path, provider, device, batch_size, self.size)
        self._names = output_names(len(self.feature_sizes))

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of exactly `batch_size` images, an array for each output."""
        return self._session.run(self._names, {"images": images})


def output_names(count: int) -> list[str]:
    """What the outputs of an exported network are called, in order."""
    return [f"features_{i}" for i in range(count)]


def _session(path: Path, provider: str, device: str, batch_size: int, size: tuple[int, int]) -> Any:
    try:
        import onnxruntime
    except ImportError as error:  # also of an installation that is broken
        raise not_installed() from error
    wanted = PROVIDERS[provider]
    if wanted not in onnxruntime.get_available_providers():
        raise EngineError(
            f"this ONNX Runtime has no {wanted}",
            expected=", ".join(onnxruntime.get_available_providers()),
            where=f"--engine onnx:{provider}",
            next="install onnxruntime-gpu in place of onnxruntime, or give --engine onnx --device cpu",
        )
    if provider != "cpu":
        # CUDA and cuDNN come with torch's wheels; without this ONNX Runtime does not find them.
        onnxruntime.preload_dlls()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = devices.cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors; the warnings are about its own graph transforms
    # Threads that spin while they wait would take the cores that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # One batch shape, told in advance: shape arithmetic folds away and memory is planned once.
    options.add_free_dimension_override_by_name("n", batch_size)
    if provider != "cpu":
        # Without this a missing CUDA library means a log line and the CPU (onnxruntime#17801).
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = onnxruntime.InferenceSession(
            str(path),
            options,
            providers=[(wanted, provider_options(provider, device, batch_size, size))],
        )
    except Exception as error:  # ONNX Runtime raises its own types, which have no common base
        raise EngineError(
            f"ONNX Runtime cannot start {wanted}: {error}",
            where=f"--engine onnx:{provider}",
            next="give --engine eager, or --device cpu",
        ) from error
    if session.get_providers()[0] != wanted:
        raise EngineError(
            f"ONNX Runtime took {session.get_providers()[0]}",
            expected=wanted,
            where=f"--engine onnx:{provider}",
            next="give --engine eager, or --device cpu",
        )
    return session


def provider_options(
    provider: str, device: str, batch_size: int, size: tuple[int, int]
) -> dict[str, str]:
    """Options of an execution provider that keep it at float32 on the right card.

    Returns
    -------
    dict of str to str
        TensorRT gets one explicit shape, and folders in the user's cache for its engines, which
        take minutes to build.
    """
    if provider == "cpu":
        return {}
    index = device.partition(":")[2] or "0"
    if provider == "cuda":
        return {"device_id": index, "use_tf32": "0"}
    shape = f"images:{batch_size}x{size[0]}x{size[1]}x3"
    cache = str(usercache.folder("tensorrt"))
    return {
        "device_id": index,
        "trt_fp16_enable": "0",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
        "trt_profile_min_shapes": shape,
        "trt_profile_opt_shapes": shape,
        "trt_profile_max_shapes": shape,
    }
