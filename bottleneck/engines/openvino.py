"""OpenVINO on the exported network: the fastest engine on processors of Intel and AMD."""

from __future__ import annotations

import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any

import numpy as np

from ..backbones.base import Backbone
from ..backbones.nodes import sizes_of
from ..errors import EngineError
from . import devices
from .base import Engine, memory_errors, out_of_memory
from .onnx import output_names

# OpenVINO's words for ours.
_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
_TELEMETRY = "openvino_telemetry"
# Held for what only one thread of the process may do.
_alone = threading.Lock()


def installed_version() -> str | None:
    """Version of the package, None where it is not installed. Does not import it."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return None


def not_installed() -> EngineError:
    """The error for an engine that was asked for without its package."""
    return EngineError(
        "the package openvino is not installed, or cannot be imported",
        where="--engine openvino",
        next="pip install openvino, or give --engine onnx",
    )


def library() -> ModuleType:
    """Import OpenVINO without its telemetry.

    ``import openvino`` alone reports itself to a server, and leaves an identity in ``~/intel``, unless
    the user has opted out (seen in 2026.4 with strace). It works without the package that does so.

    Raises
    ------
    EngineError
        If the package is missing or broken.
    """
    with _alone:
        try:
            if "openvino" in sys.modules:
                return __import__("openvino")
            kept = sys.modules.get(_TELEMETRY)
            sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # Python's "not there"
            try:
                return __import__("openvino")
            finally:
                del sys.modules[_TELEMETRY]
                if kept is not None:
                    sys.modules[_TELEMETRY] = kept
        except ImportError as error:  # also of an installation that is broken
            raise not_installed() from error


def has_bf16() -> bool:
    """Whether OpenVINO finds bfloat16 in the processor; False where it is not installed."""
    try:
        core = library().Core()
        return "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except (EngineError, RuntimeError):
        return False


class OpenVinoEngine(Engine):
    """Runs an exported network on the cores of a CPU, each call on a core of its own.

    Small batches stay in a core's caches and no call waits for another: Lite0 on two cores, images/s
    in batches of 4, float32: 425 with a core a call, 380 with two cores a call in batches of 8.

    Parameters
    ----------
    path : pathlib.Path
        As `export.find_or_export` returns it.
    backbone : Backbone
    device : str, default ``"cpu"``
        Nothing else: on other devices other engines are faster.
    batch_size : int
    precision : str, default ``"fp32"``
        ``fp32`` or ``bf16``.
    streams : int, optional
        Calls at the same time, a core each; None is one for each core.

    Raises
    ------
    EngineError
        If OpenVINO is missing, cannot run the network, or not in this precision. By itself it would
        take another one without a word.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        backbone: Backbone,
        *,
        device: str = "cpu",
        batch_size: int,
        precision: str = "fp32",
        streams: int | None = None,
    ) -> None:
        super().__init__(
            batch_size=batch_size,
            size=backbone.preprocessing.crop,
            feature_sizes=sizes_of(backbone),
            device=device,
            precision=precision,
        )
        if device != "cpu":
            raise EngineError(
                f"OpenVINO does not run on {device} here",
                expected="--device cpu",
                where="--engine openvino and --device",
                next="give --engine onnx or eager, or leave one of the two away",
            )
        self.streams = streams or devices.cores()
        # A request holds the memory of one call; it goes from hand to hand.
        self._requests: SimpleQueue[Any] = SimpleQueue()
        with memory_errors(self):
            compiled = _compile(path, self.size, batch_size, precision, self.streams)
            names = output_names(len(self.feature_sizes))
            self._outputs = [compiled.output(name) for name in names]
            for _ in range(self.streams):
                self._requests.put(compiled.create_infer_request())
            # The binding sets itself up in the first call of a process. Two threads that make it
            # at once wait for each other for ever, one with the GIL, one for it (seen in 2026.4).
            with _alone:
                self.forward(np.zeros((batch_size, *self.size, 3), np.uint8))

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of exactly `batch_size` images, an array for each output."""
        request = self._requests.get()
        try:
            # The input is read in place; the outputs are copies, as the next call writes over them.
            results = request.infer([images], share_inputs=True)
            return [results[output] for output in self._outputs]
        finally:
            self._requests.put(request)


def _compile(
    path: Path, size: tuple[int, int], batch_size: int, precision: str, streams: int
) -> Any:
    wanted = _PRECISIONS.get(precision)
    if wanted is None:
        raise EngineError(
            f"OpenVINO does not compute in {precision} on a CPU",
            expected=" or ".join(_PRECISIONS),
            where="--engine openvino and --precision",
        )
    core = library().Core()
    try:
        model = core.read_model(path)
        # One shape, so that memory and kernels are settled before the first image.
        model.reshape({"images": [batch_size, *size, 3]})
        compiled = core.compile_model(
            model,
            "CPU",
            {
                # Stated, because on processors with bfloat16 OpenVINO takes it by itself.
                "INFERENCE_PRECISION_HINT": wanted,
                "NUM_STREAMS": streams,
                "INFERENCE_NUM_THREADS": streams,
                # Pinned threads stay where the decoders run, too.
                "ENABLE_CPU_PINNING": False,
            },
        )
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise EngineError(
            f"OpenVINO cannot run the network: {error}",
            where="--engine openvino",
            next="give --engine onnx or eager",
        ) from error
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    if taken != wanted:
        raise EngineError(
            f"OpenVINO took {taken}",
            expected=f"{wanted}, for --precision {precision}",
            where="--engine openvino",
            next="this processor cannot compute so: give --precision fp32",
        )
    return compiled
