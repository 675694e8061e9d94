"""ONNX Runtime on the exported network, with the provider that was asked for and no other."""

from __future__ import annotations

import re
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .. import usercache
from ..backbones.base import Backbone
from ..backbones.nodes import sizes_of
from ..errors import EngineError
from . import devices
from .base import Engine, memory_errors, out_of_memory

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
# The others run the float32 graph as it is. TensorRT builds its own from it.
PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32",), "tensorrt": ("fp32", "bf16", "fp16")}


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

    On a CPU every call has a core of its own, so that none waits for another. Lite0 on two cores,
    images/s in batches of 4: 393 so, 336 at best with both cores on one call; the features are
    bitwise the same.

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
    precision : str, default ``"fp32"``
        ``fp32``; with TensorRT also ``bf16`` or ``fp16``.

    Raises
    ------
    EngineError
        If this build of ONNX Runtime lacks the provider, or the provider does not start. ONNX
        Runtime itself would only log it and run on the CPU.
    """

    def __init__(
        self,
        path: Path,
        backbone: Backbone,
        *,
        provider: str,
        device: str,
        batch_size: int,
        precision: str = "fp32",
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            size=backbone.preprocessing.crop,
            feature_sizes=sizes_of(backbone),
            device=device,
            precision=precision,
        )
        self.name = "onnx" if provider == "cpu" else f"onnx:{provider}"
        if precision not in PRECISIONS[provider]:
            raise EngineError(
                f"engine {self.name} does not compute in {precision}",
                expected=" or ".join(PRECISIONS[provider]),
                where="--engine and --precision",
                next=f"give --precision {PRECISIONS[provider][0]}, or another engine",
            )
        self.streams = devices.cores() if provider == "cpu" else 1
        with memory_errors(self):
            self._session = _session(path, provider, device, batch_size, self.size, precision)
        self._names = output_names(len(self.feature_sizes))
        self._bound: _Bound | None = None
        self._turn = threading.Lock()

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of exactly `batch_size` images, an array for each output."""
        if self.device == "cpu":
            return self._session.run(self._names, {"images": images})
        with self._turn:  # one place on the card for the images
            if self._bound is None:
                self._bound = _Bound(self._session, self._names, images.shape, self.device)
            return self._bound.run(images)


class _Bound:
    """A session whose input has its place on the card, so that no call asks for memory."""

    def __init__(self, session: Any, names: list[str], shape: tuple[int, ...], device: str) -> None:
        import onnxruntime

        kind, _, index = device.partition(":")
        self._images = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
            list(shape), np.uint8, kind, int(index or 0)
        )
        self._session, self._binding = session, session.io_binding()
        self._binding.bind_ortvalue_input("images", self._images)
        for name in names:
            self._binding.bind_output(name)  # in the CPU's memory: a few kilobytes an image

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """One array for each output."""
        self._images.update_inplace(images)
        self._session.run_with_iobinding(self._binding)
        return self._binding.copy_outputs_to_cpu()


def output_names(count: int) -> list[str]:
    """What the outputs of an exported network are called, in order."""
    return [f"features_{i}" for i in range(count)]


def _session(
    path: Path,
    provider: str,
    device: str,
    batch_size: int,
    size: tuple[int, int],
    precision: str,
) -> Any:
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
    # The thread that calls does the work. An optimised graph is not kept: starting from one takes
    # 5 ms instead of 16 (Lite0), and it would be good on the same processor only.
    options.intra_op_num_threads = 1
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
            providers=[(wanted, provider_options(provider, device, batch_size, size, precision))],
        )
    except Exception as error:  # ONNX Runtime raises its own types, which have no common base
        if out_of_memory(error):
            raise
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
    provider: str,
    device: str,
    batch_size: int,
    size: tuple[int, int],
    precision: str = "fp32",
) -> dict[str, str]:
    """Options of an execution provider that keep it at one precision on the right card.

    Returns
    -------
    dict of str to str
        TensorRT gets one explicit shape, and a folder in the user's cache for its engines, which
        take minutes to build.
    """
    if provider == "cpu":
        return {}
    index = device.partition(":")[2] or "0"
    if provider == "cuda":
        return {"device_id": index, "use_tf32": "0"}
    shape = f"images:{batch_size}x{size[0]}x{size[1]}x3"
    cache = str(usercache.folder("tensorrt", _tensorrt_key(device)))
    return {
        "device_id": index,
        "trt_fp16_enable": str(int(precision == "fp16")),
        "trt_bf16_enable": str(int(precision == "bf16")),
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
        "trt_profile_min_shapes": shape,
        "trt_profile_opt_shapes": shape,
        "trt_profile_max_shapes": shape,
    }


def _tensorrt_key(device: str) -> str:
    """A folder's name for the card and the versions that built an engine: no other can load it."""
    found = dict(installed_packages())
    for name in ("tensorrt", "tensorrt-cu12", "tensorrt-cu13"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    parts = [devices.device_model(device), *(f"{name}-{number}" for name, number in found.items())]
    return re.sub(r"[^A-Za-z0-9.-]+", "-", " ".join(parts))
