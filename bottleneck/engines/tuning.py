"""``--batch-size auto``: the batch that is fastest here, measured once and kept in the user's cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import usercache
from ..backbones.base import Backbone
from ..backbones.proof import pictures
from ..errors import CacheError
from ..reporter import Reporter
from . import devices, export
from .base import Engine, OutOfMemoryError

if TYPE_CHECKING:
    from .select import Choice

# Fewer images do not repay the second or two that measuring takes.
PAYS_FROM = 200
SIZES = {"cpu": (4, 8, 2), "cuda": (256, 512, 128, 64)}
# Another size than the first has to be faster by this much: what is less is the machine's noise.
_GAIN = 1.05
_SECONDS = 0.25
# Seconds of a batch from which on other sizes are not tried: what so large a network spends lies in
# its products, not around them (VGG16: 15.4, 15.5 and 15.7 images/s in batches of 1, 4 and 8).
_HEAVY = 0.2


def find(backbone: Backbone, choice: Choice) -> int | None:
    """The size measured before for this network, engine and device; None if there is none."""
    try:
        note = json.loads(usercache.read(_path(backbone, choice)))
        size = note["batch_size"]
    except (OSError, ValueError, KeyError, TypeError, CacheError):
        return None
    return size if type(size) is int and 1 <= size <= 4096 else None


def worthwhile(label: str, kind: str, n_missing: int) -> bool:
    """Whether to measure: not where starting an engine several times takes longer than it gains."""
    quick = ("eager", "onnx:cuda") if kind == "cuda" else ("openvino", "onnx", "onnx:cpu")
    return label in quick and n_missing >= PAYS_FROM


def measure(
    choice: Choice, backbone: Backbone, start: Callable[[Choice], Engine], reporter: Reporter
) -> int:
    """Run each of a few sizes for a moment and keep the fastest.

    Parameters
    ----------
    choice : Choice
    backbone : Backbone
    start : callable
        Makes an engine of a choice.
    reporter : Reporter

    Returns
    -------
    int
        Images of a batch.
    """
    kind = choice.device.partition(":")[0]
    sizes = SIZES[kind]
    best, fastest = sizes[-1], 0.0
    for size in sizes:
        try:
            rate = _rate(start(replace(choice, batch_size=size, open_batch=False)))
        except OutOfMemoryError:
            continue
        if rate > fastest * _GAIN:
            best, fastest = size, rate
        if size / rate > _HEAVY:
            break
    note = {
        **_identity(backbone, choice),
        "batch_size": best,
        "images_per_second": round(fastest, 1),
    }
    try:
        usercache.write(_path(backbone, choice), json.dumps(note, indent=1).encode())
    except (OSError, CacheError) as error:
        reporter.warn(f"the batch size that was measured cannot be kept: {error}")
    reporter.note(f"{backbone.entry.name}: batches of {best} are the fastest here, as measured")
    return best


def _rate(engine: Engine) -> float:
    """Images per second of an engine with all its streams busy."""
    batch = pictures(engine.batch_size, engine.size)
    with ThreadPoolExecutor(engine.streams) as pool:

        def once() -> None:
            for future in [pool.submit(engine.run, batch) for _ in range(engine.streams)]:
                future.result()

        once()  # plans memory
        rounds, started = 0, time.perf_counter()
        while (seconds := time.perf_counter() - started) < _SECONDS or not rounds:
            once()
            rounds += 1
    return rounds * engine.streams * engine.batch_size / seconds


def _identity(backbone: Backbone, choice: Choice) -> dict[str, Any]:
    return {
        "network": export.identity(backbone),
        "precision": backbone.precision,
        "engine": choice.label,
        "device": devices.device_model(choice.device),
    }


def _path(backbone: Backbone, choice: Choice) -> Path:
    return usercache.note(_identity(backbone, choice), "networks", suffix=".batch.json")
