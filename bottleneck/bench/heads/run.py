"""Runs the contests, turn by turn, and puts the figures together."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...reporter import Reporter, Silent
from .. import machine, measures
from . import grids, networks, stream, strengths
from .contest import Check, Contest
from .material import Material, made, of_file

LIBRARIES = ("numpy", "scipy", "scikit-learn", "torch", "numba")
_SMALL = (60, 20, 2)  # of the first run, which is not timed: it starts processes and compiles
_BUSY = 0.3  # of the cores, above which a warning tells

CONTESTS = (
    Contest(
        "logistic-10",
        "logistic, 45 C x 5 folds",
        "GridSearchCV(LogisticRegression), all cores",
        grids.logistic_here,
        grids.logistic_usual,
        grids.check_logistic,
        (1200, 1280, 10),
        10.0,
    ),
    Contest(
        "logistic-2",
        "logistic, 45 C x 5 folds",
        "GridSearchCV(LogisticRegression), all cores",
        grids.logistic_here,
        grids.logistic_usual,
        grids.check_logistic,
        (396, 1280, 2),
        10.0,
    ),
    Contest(
        "logistic-3",
        "logistic, 45 C x 5 folds",
        "GridSearchCV(LogisticRegression), all cores",
        grids.logistic_here,
        grids.logistic_usual,
        grids.check_logistic,
        (2000, 1280, 3),
        10.0,
    ),
    Contest(
        "rbf",
        "RBF SVM, 10 C x 3 gamma x 5 folds",
        "GridSearchCV(SVC), all cores",
        grids.rbf_here,
        grids.rbf_usual,
        grids.check_rbf,
        (2000, 1280, 3),
        5.0,
    ),
    Contest(
        "mlp",
        "MLP, 5 folds x 4 settings",
        "a loop of PyTorch trainings",
        networks.here,
        networks.usual,
        networks.check,
        (2000, 1280, 3),
        5.0,
    ),
    Contest(
        "ridge",
        "ridge, leave-one-out, 20 strengths",
        "RidgeClassifierCV",
        strengths.here,
        strengths.usual,
        strengths.check,
        (1200, 1280, 10),
        0.1,
        seconds=True,
    ),
)
NAMES = (*(each.name for each in CONTESTS), stream.NAME)


@dataclass(frozen=True)
class Options:
    """What a user may state.

    Attributes
    ----------
    work : sequence of str
        Only these contests; empty for all.
    repeats : int
        Rounds.
    quick : bool
        One round on a quarter of the rows and features.
    """

    work: Sequence[str] = ()
    repeats: int = 3
    quick: bool = False

    @property
    def rounds(self) -> int:
        """How often each is run."""
        return 1 if self.quick else self.repeats


@dataclass
class _Standing:
    contest: Contest
    material: Material
    ours: list[float] = field(default_factory=list)
    usual: list[float] = field(default_factory=list)
    check: Check | None = None
    error: str = ""

    def to_json(self) -> dict[str, Any]:
        contest, n_d_k = self.contest, self.material.shape
        measured = bool(self.ours) and not self.error
        ratio = measures.ratio(self.usual, self.ours) if measured else None
        ours = measures.spread(self.ours) if measured else None
        reached = None
        if ratio is not None and ours is not None:
            reached = (
                ours["median"] <= contest.target
                if contest.seconds
                else ratio["median"] >= contest.target
            )
        return {
            "name": contest.name,
            "work": contest.work,
            "against": contest.against,
            "rows": n_d_k[0],
            "features": n_d_k[1],
            "classes": n_d_k[2],
            "seconds": ours,
            "usual_seconds": measures.spread(self.usual) if measured else None,
            "ratio": ratio,
            "target": {"seconds" if contest.seconds else "ratio": contest.target},
            "reached": reached,
            "same": None if self.check is None else self.check.same,
            "check": "" if self.check is None else self.check.told,
            "error": self.error,
        }


def run(
    file: str | None, options: Options | None = None, reporter: Reporter | None = None
) -> dict[str, Any]:
    """Measure the heads against what everybody uses.

    Parameters
    ----------
    file : str or None
        A feature file whose labelled rows take part; None: features are made, of the sizes in the table.
    options : Options, optional
    reporter : Reporter, optional

    Returns
    -------
    dict
        As ``--json`` has it: ``machine``, ``versions``, ``features``, ``options``, ``contests``,
        ``seconds``.

    Raises
    ------
    InputError
        For a contest that does not exist, or a file that cannot serve.
    """
    options, reporter = options or Options(), reporter or Silent()
    began = time.monotonic()
    contests = _chosen(options.work)
    described = machine.describe()
    if described["load"] is not None and described["load"] > _BUSY * described["cores"]:
        reporter.warn(
            f"{described['load']} processes on average wanted a core in the last minute: others use "
            "this machine, and the figures will be off"
        )
    if file is not None:
        own = of_file(Path(file))
        # The three sizes of the logistic contest are one where the rows are given.
        contests = [each for each in contests if each.name not in ("logistic-10", "logistic-2")]
        standings = [_Standing(each, own) for each in contests]
    else:
        standings = [_Standing(each, _made(each, options.quick)) for each in contests]
    streams = file is None and (not options.work or stream.NAME in options.work)
    total = len(standings) * (2 * options.rounds + 2) + streams
    with reporter.progress("bench", total) as bar:
        for standing in standings:
            _guarded(standing, _warm, reporter)
            bar.advance(2)
        for turn in range(options.rounds):
            for standing in standings:
                _guarded(standing, partial(_round, turn=turn), reporter)
                bar.advance(2)
        rows = [standing.to_json() for standing in standings]
        if streams:
            rows.append(stream.measure(options.rounds, quick=options.quick))
            bar.advance()
    return {
        "machine": described,
        "versions": machine.versions(LIBRARIES),
        "features": "made" if file is None else str(file),
        "options": {"repeats": options.rounds, "quick": options.quick},
        "contests": rows,
        "seconds": time.monotonic() - began,
    }


def _chosen(work: Sequence[str]) -> list[Contest]:
    unknown = [name for name in work if name not in NAMES]
    if unknown:
        raise InputError(
            f"there is no contest {unknown[0]!r}", expected=", ".join(NAMES), where="--work"
        )
    return [each for each in CONTESTS if not work or each.name in work]


def _made(contest: Contest, quick: bool) -> Material:
    n, d, k = contest.shape
    return made(n // 4, d // 4, k) if quick else made(n, d, k)


def _warm(standing: _Standing) -> None:
    assert len(standing.material.standardised)  # for who takes rows that are scaled: not timed
    small = made(*_SMALL, new=10)
    standing.contest.ours(small)
    standing.contest.usual(small)


def _round(standing: _Standing, turn: int) -> None:
    """Both once, the other one first in every second round."""
    contest, material = standing.contest, standing.material
    found: dict[str, Any] = {}
    order: list[tuple[str, Callable[[Material], Any], list[float]]] = [
        ("ours", contest.ours, standing.ours),
        ("usual", contest.usual, standing.usual),
    ]
    for name, work, seconds in order if turn % 2 == 0 else reversed(order):
        start = time.perf_counter()
        found[name] = work(material)
        seconds.append(time.perf_counter() - start)
    if standing.check is None:
        standing.check = contest.check(material, found["ours"], found["usual"])


def _guarded(standing: _Standing, work: Callable[[_Standing], None], reporter: Reporter) -> None:
    """One step of a contest that has not failed; where it fails, its row says why and the others go on."""
    if standing.error:
        return
    try:
        work(standing)
    except Exception as error:
        standing.error = f"{type(error).__name__}: {error}"
        reporter.warn(f"{standing.contest.name}: {standing.error}")
