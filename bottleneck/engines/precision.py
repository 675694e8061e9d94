"""``--precision auto``: the fastest arithmetic of the device whose features are those of fp32.

It follows from the backbone and the device alone, never from the number of images: otherwise a file
could not be extended.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..backbones.base import Backbone
from ..errors import EngineError, WeightsError
from ..reporter import Reporter
from . import devices, export, gate, openvino, select
from .base import OutOfMemoryError

# Where nothing was measured: float16 is what cards of every age have, with 11 bits of mantissa.
_ON_A_CARD = "fp16"
_ON_A_CPU = "bf16"


def candidate(backbone: Backbone, engine: str, device: str) -> tuple[str, str]:
    """The precision that `auto` would take if the gate lets it pass, and why it is that one.

    Parameters
    ----------
    backbone : Backbone
    engine : str
        As ``--engine`` takes it, ``auto`` included.
    device : str
        ``cpu`` or ``cuda:N``.

    Returns
    -------
    precision : str
    reason : str
        For people; where it is fp32, what is missing for more.
    """
    if device != "cpu":
        # What `auto` runs on a card.
        own = "onnx" if backbone.entry.graph is not None else "eager"
        runs = own if engine == "auto" else engine
        if _ON_A_CARD in select.precisions_of(runs, "cuda"):
            return _ON_A_CARD, "the card has it"
        return "fp32", f"engine {runs} has nothing else"
    if _ON_A_CPU not in devices.cpu_precisions():
        return "fp32", "this processor has no bfloat16"
    if engine == "auto":
        # What `auto` would run it in; PyTorch's own bfloat16 gains little on small batches.
        if not openvino.installed_version():
            return "fp32", "OpenVINO is not installed"
        if not export.possible():
            return "fp32", "there is no place to keep an exported network"
        return _ON_A_CPU, "the processor has it"
    if _ON_A_CPU in select.precisions_of(engine, "cpu"):
        return _ON_A_CPU, "the processor has it"
    return "fp32", f"engine {engine} has nothing else"


def settle(
    backbone: Backbone,
    *,
    engine: str,
    device: str,
    pictures: Callable[[], np.ndarray],
    reporter: Reporter,
    measure: bool = True,
) -> Backbone:
    """The backbone in the precision that `auto` means here; says in one line which and why.

    Parameters
    ----------
    backbone : Backbone
    engine, device : str
        As stated; ``auto`` where they were not.
    pictures : callable
        Returns `gate.IMAGES` views (m, h, w, 3) uint8 of real images; called only if the gate has
        to be measured.
    reporter : Reporter
    measure : bool, default True
        Without it a gate that was not measured yet is taken for passed, and it is said.

    Returns
    -------
    Backbone
    """
    device, _ = devices.settle("cpu" if engine.endswith(":cpu") and device == "auto" else device)
    wanted, why = candidate(backbone, engine, device)
    name = backbone.entry.name
    if wanted == "fp32":
        reporter.note(f"{name}: precision fp32 ({why})")
        return backbone
    faster = backbone.with_precision(wanted)
    try:
        choice = select.choose(faster, engine=engine, device=device, n_missing=gate.IMAGES)
        verdict = gate.find(faster, choice)
        if verdict is None and not measure:
            reporter.note(
                f"{name}: precision {wanted} if it passes the gate, which was not run yet"
            )
            return faster
        if verdict is None:
            verdict = gate.measure(faster, choice, pictures(), reporter)
    except (WeightsError, OutOfMemoryError):
        raise  # neither is about the precision
    except EngineError as error:
        reporter.note(f"{name}: precision fp32 ({wanted} does not run: {error.what})")
        return backbone
    if verdict.passed:
        reporter.note(f"{name}: precision {wanted} ({why}; {verdict.describe()})")
        return faster
    reporter.note(
        f"{name}: precision fp32 ({wanted} was refused: {verdict.describe()}, "
        f"at least {gate.MEDIAN} and {gate.MINIMUM} are needed)"
    )
    return backbone


def refuse_unfit(
    backbone: Backbone,
    *,
    engine: str,
    device: str,
    pictures: Callable[[], np.ndarray],
    reporter: Reporter,
) -> None:
    """Raise an EngineError where outputs that are added to a file do not pass the gate of its precision.

    Parameters are those of `settle`; `backbone` has the new outputs alone, in the file's precision.
    """
    choice = select.choose(backbone, engine=engine, device=device, n_missing=gate.IMAGES)
    verdict = gate.find(backbone, choice) or gate.measure(backbone, choice, pictures(), reporter)
    if not verdict.passed:
        names = ", ".join(output.id for output in backbone.outputs)
        raise EngineError(
            f"{names} of {backbone.entry.name} does not bear {backbone.precision}: {verdict.describe()}",
            expected=f"at least {gate.MEDIAN} and {gate.MINIMUM}",
            where="--layer",
            next=f"extract it into a file of its own, with --precision fp32; or state --precision "
            f"{backbone.precision} to have it in this one all the same",
        )
