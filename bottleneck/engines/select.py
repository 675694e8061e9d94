"""Which engine runs: the one asked for, the one a file was made with, or the fastest one here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..backbones.base import PRECISIONS, Backbone
from ..errors import EngineError
from ..reporter import Reporter
from . import devices, export, onnx, openvino, tuning
from .base import Engine

NAMES = ("eager", "compile", "openvino", "onnx")
EXPECTED = "auto, eager, compile, openvino, onnx, onnx:cpu, onnx:cuda or onnx:tensorrt"

# Exporting takes about 6 s on two cores, PyTorch's import included in what it costs to run without.
# Lite0 then makes 430 images/s in place of 110: one run repays it from about 900 images, two runs,
# of which the second starts without PyTorch, from about 200. In between lies the usual case.
EXPORT_PAYS_FROM = 500
# torch.compile takes 10 to 30 s, and on a card makes 1.8 to 2.1 of 1 (timm's tables, RTX 4090): at
# 3,000 images/s without it, that is repaid after about this many images.
COMPILE_PAYS_FROM = 100_000

# On a CPU each core runs batches of its own, and small ones stay in its caches: Lite0 in float32
# with OpenVINO makes 437, 425, 370, 350 images/s in batches of 1, 4, 8, 16 (`tuning` measures it).
BATCH_SIZE = {"cpu": 4, "cuda": 256}


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine by name, before anything heavy is loaded.

    Attributes
    ----------
    engine : str
        One of `NAMES`.
    provider : str
        Of ONNX Runtime: ``cpu``, ``cuda`` or ``tensorrt``; empty for the others.
    device : str
        ``cpu`` or ``cuda:N``.
    batch_size : int
    reason : str
        One line for the user: what was picked and why.
    stated : bool
        The user asked for this engine, or a file was made with it: no other may take its place.
    open_batch : bool
        Nobody stated the batch size and nothing was measured: `start` may measure it.
    """

    engine: str
    provider: str
    device: str
    batch_size: int
    reason: str
    stated: bool = True
    open_batch: bool = False

    @property
    def label(self) -> str:
        """The name as ``--engine`` takes it: ``eager``, ``onnx``, ``onnx:cuda``."""
        return f"{self.engine}:{self.provider}" if self.provider not in ("", "cpu") else self.engine


def precisions_of(engine: str, kind: str) -> tuple[str, ...]:
    """What an engine can compute in.

    Parameters
    ----------
    engine : str
        As ``--engine`` takes it, but for ``auto``.
    kind : str
        ``cpu`` or ``cuda``.

    Returns
    -------
    tuple of str
        Of `backbones.base.PRECISIONS`; empty where it does not run at all.
    """
    name, _, provider = engine.partition(":")
    if name == "eager":
        # Whatever the processor has: PyTorch computes in all of them, if slowly.
        return PRECISIONS
    if name == "compile":
        return PRECISIONS if kind == "cuda" else ("fp32", "bf16")
    if name == "openvino":
        return devices.cpu_precisions() if kind == "cpu" else ()
    provider = provider or kind
    return onnx.PRECISIONS[provider] if (provider == "cpu") == (kind == "cpu") else ()


def engines_here(device: str) -> list[tuple[str, str]]:
    """Every engine that can run on a device, with each precision that the device itself has.

    Parameters
    ----------
    device : str
        ``cpu`` or ``cuda:N``.

    Returns
    -------
    list of (engine, precision)
        Engines as ``--engine`` takes them.
    """
    kind = _kind(device)
    names = ["eager", "compile"]
    if onnx.installed_packages():
        names += ["onnx"] if kind == "cpu" else ["onnx:cuda", "onnx:tensorrt"]
    if kind == "cpu" and openvino.installed_version():
        names.append("openvino")
    # What PyTorch only emulates is no choice for somebody who wants to be quick.
    quick = devices.cpu_precisions() if kind == "cpu" else PRECISIONS
    return [(name, each) for name in names for each in precisions_of(name, kind) if each in quick]


def versions_of(engine: str) -> dict[str, str]:
    """Versions of the packages that an engine computes with."""
    name = engine.partition(":")[0]
    if name == "onnx":
        return onnx.installed_packages()
    if name == "openvino":
        found = openvino.installed_version()
        return {"openvino": found} if found else {}
    try:
        return {"torch": version("torch")}
    except PackageNotFoundError:
        return {}


def choose(
    backbone: Backbone,
    *,
    engine: str = "auto",
    device: str = "auto",
    batch_size: int | None = None,
    n_missing: int,
    recorded: Mapping[str, Any] | None = None,
) -> Choice:
    """Pick engine, device and batch size for the backbone's precision. Loads no network.

    Parameters
    ----------
    backbone : Backbone
    engine : str, default ``"auto"``
        ``auto``, one of `NAMES`, or ``onnx:cpu|cuda|tensorrt``; ``onnx`` is the device's own provider.
    device : str, default ``"auto"``
    batch_size : int, optional
        The fixed batch shape; None takes the file's, else the one measured here, else `BATCH_SIZE`.
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
        If what was asked for does not exist, is not here, or cannot compute in this precision.
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
        if engine != "auto" and not _is_here(engine, backbone, device):
            engine, why, from_file = "auto", "", False  # another machine made the file
    name, provider = _parsed(engine)
    if provider in ("cuda", "tensorrt") and device == "auto":
        device = "cuda"  # asking for the provider is asking for the card
    if name == "openvino" and device == "auto":
        device = "cpu"  # it runs nowhere else
    device, device_why = devices.settle("cpu" if provider == "cpu" and device == "auto" else device)
    if from_file and device_why == "asked for":
        device_why = why
    kind = _kind(device)
    stated = name != "auto"
    if not stated:
        name, why = _fastest(backbone, kind, n_missing)
    _require_runnable(name, provider, device, backbone)
    if name == "onnx":
        provider = provider or kind
    label = f"{name}:{provider}" if provider else name
    if backbone.precision not in precisions_of(label, kind):
        able = ", ".join(precisions_of(label, kind)) or "nothing"
        raise EngineError(
            f"engine {label} computes in {able} on {device}, and the features are {backbone.precision}",
            where="--engine and --precision",
            next=f"--engine {_alternative(backbone, kind)}, or --precision fp32 into a new file",
        )
    size = batch_size or _recorded_batch(recorded, device)
    choice = Choice(name, provider, device, size or BATCH_SIZE[kind], "", stated)
    if size is None:
        measured = tuning.find(backbone, choice)
        choice = replace(
            choice,
            batch_size=measured or choice.batch_size,
            open_batch=measured is None and tuning.worthwhile(label, kind, n_missing),
        )
    reason = (
        f"engine {choice.label}, {backbone.precision} ({why}) on {device} ({device_why}), "
        f"batches of {choice.batch_size}"
    )
    return replace(choice, reason=reason)


def start(choice: Choice, backbone: Backbone, reporter: Reporter) -> tuple[Engine, Choice]:
    """Load what was chosen.

    Returns
    -------
    engine : Engine
    choice : Choice
        Another one where `auto` had picked an export that proved impossible, or a batch size was
        measured; both are told.

    Raises
    ------
    EngineError, WeightsError
        If it does not start; never another engine than the one that was asked for.
    """
    try:
        if choice.open_batch:
            size = tuning.measure(
                choice, backbone, lambda tried: _engine(tried, backbone, reporter), reporter
            )
            choice = replace(choice, batch_size=size, open_batch=False)
        return _engine(choice, backbone, reporter), choice
    except export.ExportError as error:
        if choice.stated or backbone.entry.graph is not None:
            raise
        reporter.warn(f"{error.what}; engine eager is used instead")
        choice = replace(
            choice,
            engine="eager",
            provider="",
            batch_size=BATCH_SIZE[_kind(choice.device)] if choice.open_batch else choice.batch_size,
            open_batch=False,
        )
        return _engine(choice, backbone, reporter), choice


def _engine(choice: Choice, backbone: Backbone, reporter: Reporter) -> Engine:
    if choice.engine == "onnx":
        clash = onnx.package_clash()
        if clash:
            reporter.warn(clash)
        return onnx.OnnxEngine(
            export.find_or_export(backbone, reporter),
            backbone,
            provider=choice.provider,
            device=choice.device,
            batch_size=choice.batch_size,
            precision=backbone.precision,
        )
    if choice.engine == "openvino":
        return openvino.OpenVinoEngine(
            export.find_or_export(backbone, reporter),
            backbone,
            batch_size=choice.batch_size,
            precision=backbone.precision,
        )
    if choice.engine == "compile":
        from .compiled import CompiledEngine

        return CompiledEngine(
            backbone,
            device=choice.device,
            batch_size=choice.batch_size,
            precision=backbone.precision,
            reporter=reporter,
        )
    from .eager import EagerEngine

    return EagerEngine(
        backbone,
        device=choice.device,
        batch_size=choice.batch_size,
        precision=backbone.precision,
        reporter=reporter,
    )


def _parsed(engine: str) -> tuple[str, str]:
    """Name and provider of what ``--engine`` says; an EngineError for an unknown one."""
    name, _, provider = engine.partition(":")
    known = ("", *onnx.PROVIDERS) if name == "onnx" else ("",)
    if name not in ("auto", *NAMES) or provider not in known:
        raise EngineError(f"no engine is called {engine!r}", expected=EXPECTED, where="--engine")
    return name, provider


def _is_here(engine: str, backbone: Backbone, device: str) -> bool:
    """Whether a recorded engine can go on here."""
    name = _kind(engine)
    if name == "openvino" and not openvino.installed_version():
        return False
    if name == "onnx" and not onnx.installed_packages():
        return False
    kind = "cuda" if device.startswith("cuda") or engine.endswith(("cuda", "tensorrt")) else "cpu"
    return name in NAMES and backbone.precision in precisions_of(engine, kind)


def _require_runnable(name: str, provider: str, device: str, backbone: Backbone) -> None:
    """Raise an EngineError where engine, device and kind of network do not go together."""
    if backbone.entry.graph is not None and name in ("eager", "compile"):
        raise EngineError(
            f"{backbone.entry.name} is an ONNX file: it does not run in PyTorch",
            where=f"--engine {name}",
            next="--engine onnx or --engine openvino",
        )
    kind = _kind(device)
    if name == "openvino":
        if not openvino.installed_version():
            raise openvino.not_installed()
        if kind != "cpu":
            raise EngineError(
                f"engine openvino runs on the processor, not on {device}",
                where="--engine and --device",
                next="give --device cpu, or another engine",
            )
    if name == "onnx":
        if not onnx.installed_packages():
            raise onnx.not_installed()
        if provider and (provider == "cpu") != (kind == "cpu"):
            raise EngineError(
                f"provider {provider} does not run on {device}",
                where="--engine and --device",
                next=f"give --engine onnx:{kind}, or leave one of the two away",
            )


def _alternative(backbone: Backbone, kind: str) -> str:
    """An engine that has the backbone's precision, for an error that proposes one."""
    graph = backbone.entry.graph is not None
    names = ("onnx:tensorrt", "openvino") if graph else ("openvino", "compile", "eager")
    for name in names:
        if backbone.precision in precisions_of(name, kind):
            return name
    return "auto"


def _fastest(backbone: Backbone, kind: str, n_missing: int) -> tuple[str, str]:
    """The engine that ends first with `n_missing` images, and why."""
    graph = backbone.entry.graph is not None
    precision = backbone.precision
    if kind == "cuda":
        if graph:
            return "onnx", "the network is an ONNX file"
        if n_missing >= COMPILE_PAYS_FROM:
            return "compile", f"{n_missing} images repay compiling"
        return "eager", "cuDNN at once, without compiling"
    exported = "openvino" if openvino.installed_version() else "onnx"
    if exported == "onnx" and not onnx.installed_packages():
        if graph:
            raise onnx.not_installed()
        return "eager", "neither OpenVINO nor ONNX Runtime is installed"
    if precision not in precisions_of(exported, kind):
        return "eager", f"PyTorch computes in {precision} on any processor, if slowly"
    if graph:
        return exported, "the network is an ONNX file"
    if export.find(backbone):
        return exported, "the fastest here, and exported before"
    if not export.possible():
        return "eager", "there is no place to keep an exported network"
    if n_missing >= EXPORT_PAYS_FROM or precision != "fp32":
        # In bfloat16 the export was made for the gate already, or is made for every later run.
        return exported, f"the fastest here, and {n_missing} images repay the export"
    return "eager", f"starts at once; {n_missing} images would not repay an export"


def _kind(name: str) -> str:
    """``cuda:1`` is a ``cuda``, ``onnx:cpu`` an ``onnx``."""
    return name.partition(":")[0]


def _recorded_batch(recorded: Mapping[str, Any], device: str) -> int | None:
    same = _kind(str(recorded.get("device", ""))) == _kind(device)
    return int(recorded["batch_size"]) if same and "batch_size" in recorded else None
