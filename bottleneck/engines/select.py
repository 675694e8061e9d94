"""Which engine runs: the one asked for, the one a file was made with, or the faster one here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..backbones.base import Backbone
from ..errors import EngineError
from ..reporter import Reporter
from . import devices, export, onnx
from .base import Engine

# Measured on two cores of an AMD EPYC, Lite0: exporting takes 5.5 s, and then 210 images/s instead of
# 109. One run repays that from about 1,250 images; but later runs also start without PyTorch, which
# takes 4 s to import, so two runs repay it from about 200. In between lies the usual case.
EXPORT_PAYS_FROM = 500

# On a CPU a small batch stays in its caches. Lite0, forward alone, images/s for batches of 4, 8, 16,
# 32: onnx 219, 210, 216, 181; eager 119, 109, 69, 51 (the same machine, medians, interleaved).
BATCH_SIZE = {"cpu": 8, "cuda": 256}


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine by name, before anything heavy is loaded.

    Attributes
    ----------
    engine : str
        ``eager`` or ``onnx``.
    provider : str
        Of ONNX Runtime: ``cpu``, ``cuda`` or ``tensorrt``; empty for ``eager``.
    device : str
        ``cpu`` or ``cuda:N``.
    batch_size : int
    reason : str
        One line for the user: what was picked and why.
    stated : bool
        The user asked for this engine, or a file was made with it: no other may take its place.
    """

    engine: str
    provider: str
    device: str
    batch_size: int
    reason: str
    stated: bool = True

    @property
    def label(self) -> str:
        """The name as ``--engine`` takes it: ``eager``, ``onnx``, ``onnx:cuda``."""
        return f"{self.engine}:{self.provider}" if self.provider not in ("", "cpu") else self.engine


def choose(
    backbone: Backbone,
    *,
    engine: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    n_missing: int,
    recorded: Mapping[str, Any] | None = None,
) -> Choice:
    """Pick engine, device and batch size. Loads no network.

    Parameters
    ----------
    backbone : Backbone
    engine : str, default ``"auto"``
        ``auto``, ``eager``, ``onnx`` (the device's own provider) or ``onnx:cpu|cuda|tensorrt``.
    device : str, default ``"auto"``
    batch_size : int, optional
        The fixed batch shape; None picks 8 on a CPU and 256 on a GPU.
    n_missing : int
        Images to compute at the most; it decides whether an export pays.
    recorded : mapping, optional
        The environment of the file that is extended: what the user did not state comes from there.

    Returns
    -------
    Choice

    Raises
    ------
    EngineError
        If what was asked for does not exist or is not here.
    """
    recorded = recorded or {}
    why = "asked for"
    from_file = False  # the device is the file's, not the user's
    if engine == "auto" and recorded.get("engine"):
        engine, why = str(recorded["engine"]), "as the file was made"
        if device == "auto":
            # An engine and its device go together, but a card may be gone: then it is told below.
            device = str(recorded.get("device", "auto"))
            from_file = True
            if device.startswith("cuda") and not devices.driver_has_gpu():
                engine, device, why = "auto", "auto", ""
        elif _kind(devices.parse(device)) != _kind(str(recorded.get("device", ""))):
            engine = _kind(
                engine
            )  # the same engine, with the provider of the device that was stated
    name, _, provider = engine.partition(":")
    known = ("", *onnx.PROVIDERS) if name == "onnx" else ("",)
    if name not in ("auto", "eager", "onnx") or provider not in known:
        raise EngineError(
            f"no engine is called {engine!r}",
            expected="auto, eager, onnx, onnx:cpu, onnx:cuda or onnx:tensorrt",
            where="--engine",
        )
    if provider in ("cuda", "tensorrt") and device == "auto":
        device = "cuda"  # asking for the provider is asking for the card
    device, device_why = devices.settle("cpu" if provider == "cpu" and device == "auto" else device)
    if from_file and device_why == "asked for":
        device_why = why
    kind = _kind(device)
    stated = name != "auto"
    if backbone.entry.graph is not None:
        if name == "eager":
            raise EngineError(
                f"{backbone.entry.name} is an ONNX file: it runs in ONNX Runtime, not in PyTorch",
                where="--engine eager",
                next="--engine onnx",
            )
        name, why = "onnx", why if stated else "the network is an ONNX file"
    if name == "auto":
        name, why = _faster(backbone, kind, n_missing)
    if name == "onnx":
        if not onnx.installed_packages():
            raise onnx.not_installed()
        provider = provider or kind
        if (provider == "cpu") != (kind == "cpu"):
            raise EngineError(
                f"provider {provider} does not run on {device}",
                where="--engine and --device",
                next=f"give --engine onnx:{kind}, or leave one of the two away",
            )
    else:
        provider = ""
    size = batch_size or _recorded_batch(recorded, device) or BATCH_SIZE[kind]
    choice = Choice(name, provider, device, size, "", stated)
    reason = f"engine {choice.label} ({why}) on {device} ({device_why}), batches of {size}"
    return replace(choice, reason=reason)


def start(choice: Choice, backbone: Backbone, reporter: Reporter) -> tuple[Engine, Choice]:
    """Load what was chosen.

    Returns
    -------
    engine : Engine
    choice : Choice
        Another one only where `auto` had picked an export that proved impossible; it is told.

    Raises
    ------
    EngineError, WeightsError
        If it does not start; never another engine than the one that was asked for.
    """
    if choice.engine == "onnx":
        clash = onnx.package_clash()
        if clash:
            reporter.warn(clash)
        try:
            path = export.find_or_export(backbone, reporter)
        except export.ExportError as error:
            if choice.stated or backbone.entry.graph is not None:
                raise
            reporter.warn(f"{error.what}; engine eager is used instead")
            choice = replace(choice, engine="eager", provider="")
        else:
            engine = onnx.OnnxEngine(
                path,
                backbone,
                provider=choice.provider,
                device=choice.device,
                batch_size=choice.batch_size,
            )
            return engine, choice
    from .eager import EagerEngine

    eager = EagerEngine(
        backbone, device=choice.device, batch_size=choice.batch_size, reporter=reporter
    )
    return eager, choice


def _faster(backbone: Backbone, kind: str, n_missing: int) -> tuple[str, str]:
    if kind == "cuda":
        return "eager", "cuDNN at once, without an export"
    if not onnx.installed_packages():
        return "eager", "ONNX Runtime is not installed"
    if export.find(backbone):
        return "onnx", "faster on a CPU, and exported before"
    if not export.possible():
        return "eager", "there is no place to keep an exported network"
    if n_missing >= EXPORT_PAYS_FROM:
        return "onnx", f"faster on a CPU, and {n_missing} images repay the export"
    return "eager", f"starts at once; {n_missing} images would not repay an export"


def _kind(name: str) -> str:
    """``cuda:1`` is a ``cuda``, ``onnx:cpu`` an ``onnx``."""
    return name.partition(":")[0]


def _recorded_batch(recorded: Mapping[str, Any], device: str) -> int | None:
    same = _kind(str(recorded.get("device", ""))) == _kind(device)
    return int(recorded["batch_size"]) if same and "batch_size" in recorded else None
