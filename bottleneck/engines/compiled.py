"""The network compiled by PyTorch's Inductor, for this device, batch shape and precision.

On a CPU ahead of time, into one file that is kept: the next run loads it in milliseconds, and no network.
On a card just in time, with Inductor's own cache kept in the user's.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import usercache
from ..backbones.base import Backbone
from ..backbones.nodes import sizes_of
from ..backbones.proof import pictures, relative_error
from ..errors import EngineError
from ..reporter import Reporter
from . import devices, export
from .base import memory_errors, out_of_memory
from .eager import TorchEngine, move, threads
from .lowered import Lowered, lower
from .network import load

# Part of a compiled network's identity: raise it when `lower` or what is compiled changes.
_COMPILED_VERSION = 1
# Largest relative error of the compiled network in float32; in bfloat16 the rounding differs
# wherever operations are fused, and the precision's own gate judges that.
_TOLERANCE = {"fp32": 1e-3, "bf16": 0.2, "fp16": 0.05}
# Inductor's settings and PyTorch's number of threads belong to the process.
_compiling = threading.Lock()

_PRECISIONS = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}


class CompiledEngine(TorchEngine):
    """Runs the network as machine code that Inductor wrote for it.

    All cores work on one call. Lite0, one core, milliseconds an image: 5.9 in float32, 3.4 in
    bfloat16; compiled just in time they are 6.4 and 4.0, uncompiled 20 and 6.3.

    Parameters
    ----------
    backbone : Backbone
    device : str
        ``cpu`` or ``cuda:N``.
    batch_size : int
    precision : str, default ``"fp32"``
        ``fp32``, ``bf16``, or on a card ``fp16``.
    reporter : Reporter
        Told before compiling, because it takes 10 to 30 seconds.

    Raises
    ------
    EngineError
        If the device or the precision cannot be used, there is no C++ compiler, or the network cannot
        be compiled.
    """

    name = "compile"

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: str,
        batch_size: int,
        precision: str = "fp32",
        reporter: Reporter,
    ) -> None:
        _require_precision(device, precision)
        super().__init__(
            batch_size=batch_size,
            size=backbone.preprocessing.crop,
            feature_sizes=sizes_of(backbone),
            device=device,
            precision=precision,
        )
        self._threads = torch.get_num_threads()
        with memory_errors(self):
            if device == "cpu":
                self._compiled = self._ahead_of_time(backbone, reporter)
            else:
                self._compiled = self._just_in_time(backbone, reporter)
                self._use_card()

    def _compute(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        return self._compiled(images)

    def _call_threads(self) -> int:
        return devices.cores()

    def _ahead_of_time(self, backbone: Backbone, reporter: Reporter) -> _Compute:
        found = _find(self._identity(backbone))
        if found is not None:
            with contextlib.suppress(RuntimeError):  # say, of a PyTorch that was replaced in place
                return _loaded(found)
        _require_compiler()
        reporter.note(f"compiling {backbone.entry.name}, once for this user; it takes 10 to 30 s")
        network, _ = load(backbone, reporter)
        images = torch.from_numpy(pictures(self.batch_size, self.size))
        with torch.inference_mode():
            wanted = [each.numpy() for each in network(images)]
        module = self._lowered(network)
        with tempfile.TemporaryDirectory() as scratch, _inductor(scratch, self._threads), _words():
            package = Path(scratch) / "network.pt2"
            with torch.no_grad():
                exported = torch.export.export(module, (images,), strict=False)
            torch._inductor.aoti_compile_and_package(
                exported,
                package_path=str(package),
                # Constants folded in, weights laid out for oneDNN: half the time of a call.
                inductor_configs={"freezing": True, "cpp.threads": devices.cores()},
            )
            compute = _loaded(package)
            self._require_same([each.numpy() for each in compute(images)], wanted)
            _publish(package, self._identity(backbone))
        return compute

    def _just_in_time(self, backbone: Backbone, reporter: Reporter) -> _Compute:
        _require_compiler()
        reporter.note(f"compiling {backbone.entry.name}; it takes 10 to 60 s the first time")
        network, _ = load(backbone, reporter)
        network = move(network, self.device)
        images = torch.from_numpy(pictures(self.batch_size, self.size)).to(self.device)
        with torch.inference_mode():
            wanted = [each.cpu().numpy() for each in network(images)]
        compiled = torch.compile(self._lowered(network), dynamic=False, fullgraph=True)

        def compute(batch: torch.Tensor) -> Sequence[torch.Tensor]:
            with torch.no_grad():
                return compiled(batch)

        kept = str(usercache.folder("inductor"))
        with _inductor(kept, self._threads), _words():
            self._require_same([each.cpu().numpy() for each in compute(images)], wanted)
        return compute

    def _lowered(self, network: Any) -> Lowered:
        graph = lower(
            network,
            size=self.size,
            batch_size=self.batch_size,
            device=self.device,
            precision=self.precision,
        )
        return Lowered(graph, self.device, self.precision)

    def _identity(self, backbone: Backbone) -> dict[str, Any]:
        return {
            **export.identity(backbone),
            "compiled_version": _COMPILED_VERSION,
            "torch": torch.__version__,
            "device": devices.device_model(self.device),
            "cores": devices.cores(),
            "batch_size": self.batch_size,
            "precision": self.precision,
        }

    def _require_same(self, found: list[np.ndarray], wanted: list[np.ndarray]) -> None:
        gap = max(float(relative_error(a, b).max()) for a, b in zip(found, wanted, strict=True))
        limit = _TOLERANCE[self.precision]
        if not gap <= limit:
            raise EngineError(
                f"the compiled network gives other features: {gap:.2g} of their length",
                expected=f"at most {limit:g} in {self.precision}",
                where="--engine compile",
                next="give --engine eager",
            )


_Compute = Callable[[torch.Tensor], Sequence[torch.Tensor]]


def _loaded(package: Path) -> _Compute:
    # Not `torch._inductor.aoti_load_package`: to import Inductor takes seconds.
    loader = torch._C._aoti.AOTIModelPackageLoader(str(package), "model", False, 1, -1)

    def compute(images: torch.Tensor) -> Sequence[torch.Tensor]:
        with torch.inference_mode():
            return loader.run([images])

    return compute


def _note_path(identity: dict[str, Any]) -> Path:
    return usercache.note(identity, "compiled")


def _find(identity: dict[str, Any]) -> Path | None:
    """What was compiled before, if it is there and whole."""
    try:
        note = json.loads(usercache.read(_note_path(identity)))
        path = usercache.folder("compiled") / f"{note['sha256']}.pt2"
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return path if digest == note["sha256"] else None


def _publish(package: Path, identity: dict[str, Any]) -> None:
    with open(package, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    path = usercache.folder("compiled") / f"{digest}.pt2"
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(package, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    # The note last: a package is found through it.
    usercache.write(_note_path(identity), json.dumps({**identity, "sha256": digest}).encode())


def _require_compiler() -> None:
    """Raise an EngineError where Inductor would find none, after minutes."""
    names = ["cl"] if sys.platform == "win32" else ["g++", "clang++", "c++"]
    if os.environ.get("CXX"):
        names.insert(0, os.environ["CXX"])
    if not any(shutil.which(name) for name in names):
        raise EngineError(
            "there is no C++ compiler here",
            expected=" or ".join(names),
            where="--engine compile",
            next="install one (apt install g++), or give --engine onnx, openvino or eager",
        )


@contextmanager
def _inductor(folder: str, before: int) -> Iterator[None]:
    """Let Inductor write below `folder`, plan for all cores, and say nothing."""
    log = logging.getLogger("torch.utils.cpp_extension")  # of CUDA that is not there
    level, name = log.level, "TORCHINDUCTOR_CACHE_DIR"
    kept = os.environ.get(name)
    with _compiling, warnings.catch_warnings(), threads(devices.cores(), before):
        warnings.simplefilter("ignore")  # of the compiler about itself; the result is what counts
        os.environ[name] = folder
        log.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # stdout belongs to `--json`
                yield
        finally:
            log.setLevel(level)
            if kept is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = kept


@contextmanager
def _words() -> Iterator[None]:
    """Turn whatever the compiler raises into an EngineError."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # Inductor's, the C++ compiler's, the loader's
        if out_of_memory(error):
            raise
        first = next((line for line in str(error).splitlines() if line.strip()), "")
        raise EngineError(
            f"PyTorch cannot compile the network: {first or type(error).__name__}",
            where="--engine compile",
            next="give --engine eager",
        ) from error


def _require_precision(device: str, precision: str) -> None:
    """Raise an EngineError for what is not compiled for a device."""
    known = _PRECISIONS[device.partition(":")[0]]
    if precision not in known:
        raise EngineError(
            f"engine compile does not compute in {precision} on {device}",
            expected=" or ".join(known),
            where="--precision",
            next="give --engine eager, or --precision fp32",
        )
