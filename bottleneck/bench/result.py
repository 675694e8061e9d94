"""What came of a bench: a row for each contestant, the ceilings, and everything needed to repeat it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from . import measures
from .order import USUAL

# Ceilings of PyTorch on a batch that lies on the card already.
ON_CARD = "PyTorch, the batch on the card"


@dataclass
class Standing:
    """One contestant.

    Attributes
    ----------
    name, kind : str
    engine, precision, resampler : str
        As they came out; empty for who is not of this package.
    batch_size, workers : int or None
    images : int
        In each run.
    speeds : list of float
        Images/s, a run each, start-up apart.
    forwards : list of float
        Images/s of its engine alone, in the same rounds.
    ratio, share : dict or None
        To the usual loop, and of the ceiling; as `measures.spread` gives them.
    ceiling : float or None
        Images/s; median over the rounds.
    first_start_s, start_s : float or None
        From the start of a process to the features of a few images: with an empty user cache, and
        with what the first start has left there.
    peak_memory_bytes : int or None
        Of the process and those below it, while it warmed up.
    cosine : dict or None
        To the features of the reference: ``median``, ``min``, ``images``.
    note, error : str
    """

    name: str
    kind: str
    engine: str = ""
    precision: str = ""
    resampler: str = ""
    batch_size: int | None = None
    workers: int | None = None
    images: int = 0
    speeds: list[float] = field(default_factory=list)
    forwards: list[float] = field(default_factory=list)
    ratio: dict[str, Any] | None = None
    share: dict[str, Any] | None = None
    ceiling: float | None = None
    first_start_s: float | None = None
    start_s: float | None = None
    peak_memory_bytes: int | None = None
    cosine: dict[str, Any] | None = None
    note: str = ""
    error: str = ""

    def take(self, facts: dict[str, Any]) -> None:
        """Keep what a contestant has told about itself."""
        for name in ("engine", "precision", "resampler", "batch_size", "workers", "note"):
            if facts.get(name) not in (None, ""):
                setattr(self, name, facts[name])

    @property
    def arithmetic(self) -> str:
        """Its precision; what is not of this package computes in float32."""
        return self.precision or "fp32"

    @property
    def measured(self) -> bool:
        """Whether it has run to the end."""
        return bool(self.speeds) and not self.error

    def to_json(self) -> dict[str, Any]:
        """A row of ``contestants``."""
        return {
            "name": self.name,
            "kind": self.kind,
            "engine": self.engine,
            "precision": self.arithmetic,
            "resampler": self.resampler,
            "batch_size": self.batch_size,
            "workers": self.workers,
            "images": self.images,
            "images_per_second": measures.spread(self.speeds) if self.measured else None,
            "ratio": self.ratio,
            "ceiling": self.ceiling,
            "share": self.share,
            "forward_images_per_second": measures.spread(self.forwards) if self.forwards else None,
            "first_start_s": self.first_start_s,
            "start_s": self.start_s,
            "peak_memory_bytes": self.peak_memory_bytes,
            "cosine": self.cosine,
            "note": self.note.strip(),
            "error": self.error,
        }


@dataclass
class Ceilings:
    """What the parts can do alone, in images/s; writing in bytes/s. A run for each round.

    Attributes
    ----------
    shared : bool
        Decoding and forward use the same cores.
    decode : dict of str to list of float
        By decoder.
    card : dict of str to list of float
        By precision: PyTorch on a batch that lies on the card.
    write : list of float
    left_out : dict of str to str
        Decoders that do not run here, and why.
    error : str
    """

    shared: bool
    decode: dict[str, list[float]] = field(default_factory=dict)
    card: dict[str, list[float]] = field(default_factory=dict)
    write: list[float] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    error: str = ""

    def add_decode(self, decoder: str, speed: float) -> None:
        """A run of a decoder."""
        self.decode.setdefault(decoder, []).append(speed)

    def add_card(self, precision: str, speed: float) -> None:
        """A run of the network on the card."""
        self.card.setdefault(precision, []).append(speed)


@dataclass
class Bench:
    """A bench: see `to_json` for what it holds."""

    machine: dict[str, Any]
    versions: dict[str, str]
    device: str
    device_why: str
    images: dict[str, Any]
    backbone: dict[str, Any]
    options: dict[str, Any]
    left_out: list[str]
    ceilings: Ceilings
    standings: list[Standing] = field(default_factory=list)
    device_name: str | None = None
    seconds: float = 0.0

    def forwards(self, precision: str) -> dict[str, list[float]]:
        """Runs of everything that was measured alone in a precision, by name."""
        found = {
            each.name: each.forwards
            for each in self.standings
            if each.measured and each.forwards and each.arithmetic == precision
        }
        if precision in self.ceilings.card:
            found[ON_CARD] = self.ceilings.card[precision]
        return found

    def settle(self) -> None:
        """Ratios and shares of all who have run, each run against those of its own round."""
        usual = next((s for s in self.standings if s.name == USUAL and s.measured), None)
        decode = self.ceilings.decode
        best_decoder = measures.best(dict(decode)) if decode and not self.ceilings.error else None
        for standing in self.standings:
            if not standing.measured:
                continue
            if usual is not None:
                standing.ratio = measures.ratio(standing.speeds, usual.speeds)
            forwards = self.forwards(standing.arithmetic)
            if best_decoder is None or not forwards:
                continue
            ceilings = [
                measures.ceiling(d, f, shared=self.ceilings.shared)
                for d, f in zip(
                    decode[best_decoder], forwards[measures.best(dict(forwards))], strict=True
                )
            ]
            standing.ceiling = float(np.median(ceilings))
            standing.share = measures.ratio(standing.speeds, ceilings)

    def precisions(self) -> list[str]:
        """Of all who have run, float32 first."""
        found = {each.arithmetic for each in self.standings if each.measured}
        return sorted(found, key=lambda p: (p != "fp32", p))

    def to_json(self) -> dict[str, Any]:
        """The reply of ``bottleneck bench --json``."""
        forward = {}
        for precision in self.precisions():
            runs = self.forwards(precision)
            if runs:
                each = {name: measures.spread(values) for name, values in runs.items()}
                forward[precision] = {"best": measures.best(dict(runs)), "each": each}
        decode = {name: measures.spread(runs) for name, runs in self.ceilings.decode.items()}
        write = self.ceilings.write
        return {
            "machine": {**self.machine, "device_name": self.device_name},
            "device": self.device,
            "device_why": self.device_why,
            "versions": self.versions,
            "images": self.images,
            "backbone": self.backbone,
            "options": self.options,
            "contestants": [each.to_json() for each in self.standings],
            "ceilings": {
                "shared_cores": self.ceilings.shared,
                "decode": {
                    "best": measures.best(dict(self.ceilings.decode)) if decode else None,
                    "each": decode,
                    "left_out": self.ceilings.left_out,
                },
                "forward": forward,
                "write_bytes_per_second": measures.spread(write) if write else None,
                "error": self.ceilings.error,
            },
            "left_out": self.left_out,
            "seconds": round(self.seconds, 1),
        }
