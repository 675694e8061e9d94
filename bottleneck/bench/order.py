"""Who takes part: what the user stated in, a spec for each contestant out."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..backbones.base import Backbone
from ..engines import devices, select
from ..errors import InputError
from .contestant import Spec

USUAL = "usual loop"
CEILINGS = "ceilings"
# Peers with another way to be had, or none.
NOT_HERE = (
    "thingsvision is not compared: it requires NumPy and PyTorch versions that exclude those of this package",
)


@dataclass(frozen=True, slots=True)
class Options:
    """What a user may state about a bench.

    Attributes
    ----------
    images : int or None
        How many; None is `DEFAULT_IMAGES`, or `QUICK_IMAGES`.
    size : tuple of int
        Width and height of photographs that are made.
    backbone, weights : str or None
        As `extract` takes them.
    engines, precisions : sequence of str
        Only these; empty for all.
    device : str
    repeats : int
    limit_s : float
        Slow contestants get as many images as they finish in this time; 0: all get all.
    batch_size, workers : int or None
    quick : bool
        One repeat, few images, no start with an empty cache.
    """

    images: int | None = None
    size: tuple[int, int] = (500, 375)
    backbone: str | None = None
    weights: str | None = None
    engines: Sequence[str] = ()
    precisions: Sequence[str] = ()
    device: str = "auto"
    repeats: int = 3
    limit_s: float = 4.0
    batch_size: int | None = None
    workers: int | None = None
    quick: bool = False

    @property
    def n(self) -> int:
        """How many images there are to be."""
        return self.images or (QUICK_IMAGES if self.quick else DEFAULT_IMAGES)

    @property
    def rounds(self) -> int:
        """How many times each contestant runs against the clock."""
        return 1 if self.quick else self.repeats


DEFAULT_IMAGES = 400
QUICK_IMAGES = 64


def specs(
    options: Options, backbone: Backbone, device: str, scratch: Path
) -> tuple[list[Spec], list[str]]:
    """The contestants, the usual loop first, the reference second; and who is left out, and why.

    Parameters
    ----------
    options : Options
    backbone : Backbone
    device : str
        ``cpu`` or ``cuda:N``.
    scratch : pathlib.Path
        Where they may write.

    Raises
    ------
    InputError
        If no engine is left of those that were stated.
    """

    def spec(name: str, kind: str, engine: str = "eager", precision: str = "fp32") -> Spec:
        folder = scratch / f"{kind}-{engine.replace(':', '-')}-{precision}"
        folder.mkdir(exist_ok=True)
        return Spec(
            name=name,
            kind=kind,
            backbone=options.backbone,
            weights=options.weights,
            device=device,
            scratch=str(folder),
            engine=engine,
            precision=precision,
            batch_size=options.batch_size,
            workers=options.workers,
        )

    found, left_out = [], list(NOT_HERE)
    in_torch = backbone.entry.graph is None
    if in_torch:
        found.append(spec(USUAL, "loop"))
    else:
        left_out.append(f"{USUAL}: {backbone.entry.name} is an ONNX file, no network in PyTorch")
    here = select.engines_here(device)
    if not in_torch:
        here = [each for each in here if each[0].startswith("onnx")]
    reference = here[0]
    chosen = _chosen(here, options)
    found += [spec(label(*each), "ours", *each) for each in here if each in (reference, *chosen)]
    if _wanted("auto", options.engines):
        for precision in options.precisions or ("auto",):
            name = "auto" if precision == "auto" else label("auto", precision)
            found.append(spec(name, "ours", "auto", precision))
    if in_torch:
        for name, kind in _peers(backbone, left_out):
            found.insert(1, spec(name, kind))
    return found, left_out


def label(engine: str, precision: str) -> str:
    """What a contestant of this package is called.

    Examples
    --------
    >>> label("openvino", "bf16")
    'openvino bf16'
    """
    return f"{engine} {precision}"


def reference_of(found: Sequence[Spec]) -> Spec:
    """The contestant whose features are right: the first of this package, in float32."""
    return next(spec for spec in found if spec.kind == "ours")


def _chosen(here: Sequence[tuple[str, str]], options: Options) -> list[tuple[str, str]]:
    known = {name for name, _ in here} | {name.partition(":")[0] for name, _ in here} | {"auto"}
    unknown = [name for name in options.engines if name not in known]
    if unknown:
        raise InputError(
            f"engine {unknown[0]} does not run here",
            expected=", ".join(sorted(known)),
            where="--engine",
        )
    return [
        (engine, precision)
        for engine, precision in here
        if _wanted(engine, options.engines)
        and (not options.precisions or precision in options.precisions)
    ]


def _wanted(engine: str, stated: Sequence[str]) -> bool:
    return not stated or engine in stated or engine.partition(":")[0] in stated


def _peers(backbone: Backbone, left_out: list[str]) -> list[tuple[str, str]]:
    """Names and kinds of the peers that have this network; the others go into `left_out`."""
    found = []
    for name, package, kind, knows in _PEERS:
        if importlib.util.find_spec(package) is None:
            left_out.append(f"{name}: not installed; pip install 'bottleneck-probe[bench]'")
        elif not knows(backbone):
            left_out.append(f"{name}: it has no network called {backbone.entry.architecture}")
        else:
            found.append((name, kind))
    return found


def _img2vec_knows(backbone: Backbone) -> bool:
    from .peers import img2vec_name

    return img2vec_name(backbone) is not None


def _timm_knows(backbone: Backbone) -> bool:
    from .peers import timm_name

    return timm_name(backbone) is not None


_Knows = Callable[[Backbone], bool]
_PEERS: tuple[tuple[str, str, str, _Knows], ...] = (
    ("img2vec_pytorch", "img2vec_pytorch", "img2vec", _img2vec_knows),
    ("timm", "timm", "timm", _timm_knows),
)


def settled_device(stated: str) -> tuple[str, str]:
    """The device and why, as `extract` settles it."""
    return devices.settle(stated)


def to_json(options: Options) -> dict[str, Any]:
    """What was stated, for who repeats it."""
    return {
        "repeats": options.rounds,
        "limit_s": options.limit_s,
        "batch_size": options.batch_size,
        "workers": options.workers or devices.cores(),
        "quick": options.quick,
    }
