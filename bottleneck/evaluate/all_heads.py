"""Every head on the same folds, and which one to take: features and labels in, one honest score out.

Choosing the head is a choice like that of C: reporting the best of seven scores would report luck. So the
rule that takes a head runs inside each training part, on its inner folds, and the outer fold is scored by
the head that was taken there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..heads.registry import HEADS
from .compare import ALPHA, Difference, compare
from .fitting import HeadRun, Progress, Wanted, run_head
from .metrics import ANSWERS
from .plan import Plan
from .protocol import Problem, assemble
from .result import Result
from .wording import names

_LARGEST_RBF = 5000  # images; its kernel costs the square of them, its solver more
_SMALLEST_MLP = 50  # images; below, a hidden layer only learns them by heart


@dataclass(frozen=True)
class AllHeads:
    """What all heads scored, and the one that was taken.

    Attributes
    ----------
    results : list of Result
        One for each head, the simplest first, each as if it had been the only one.
    differences : list of Difference
        All pairs, p-values adjusted together (Holm).
    taken : int
        Position of the head to take.
    result : Result
        Of the procedure: the kept head is that of ``results[taken]``, the score is that of heads taken
        inside each training part.
    sentence : str
        Which one to take, and why.
    """

    results: list[Result]
    differences: list[Difference]
    taken: int
    result: Result
    sentence: str


def heads_for(n: int) -> tuple[list[str], list[str]]:
    """Names of the heads to try on so many images, the simplest first, and notes on those left out."""
    order = sorted(HEADS, key=lambda name: HEADS[name].simplicity)
    notes = []
    if n < _SMALLEST_MLP and "mlp" in order:
        order.remove("mlp")
        notes.append(f"mlp left out: {n} images are fewer than {_SMALLEST_MLP}")
    if n > _LARGEST_RBF and "svm-rbf" in order:
        order.remove("svm-rbf")
        notes.append(f"svm-rbf left out: it is slow above {_LARGEST_RBF:,} images")
    return order, notes


def default_repeats_of_all(n: int) -> int:
    """4 below 100 different images, 2 below 1,000, else 1: the same for all heads, the slow ones too."""
    return 4 if n < 100 else 2 if n < 1000 else 1


def evaluate_all(
    problem: Problem,
    wanted: Sequence[Wanted],
    *,
    metric: str = "accuracy",
    progress: Callable[[int], Progress] | None = None,
) -> AllHeads:
    """Run all heads on one plan and take one.

    Parameters
    ----------
    problem : Problem
    wanted : sequence of Wanted
        The simplest first.
    metric : str
        What the choice and the comparison go by.
    progress : callable, optional
        From the position of a head to its progress.

    Returns
    -------
    AllHeads
    """
    runs = [
        run_head(each, problem.X, problem.plan, problem.same, progress(i) if progress else None)
        for i, each in enumerate(wanted)
    ]
    picks = [_take([run.parts[part] for run in runs], runs) for part in range(len(runs[0].parts))]
    taken = picks[-1]
    results = [assemble(problem, run) for run in runs]
    # Paired tests go by answers; a choice by ranking or probabilities is compared by accuracy.
    compared = metric if metric in ANSWERS else "accuracy"
    differences = compare(results, metric=compared) if len(results) > 1 else []
    outer = Counter(picks[:-1])
    note = []
    if not problem.plan.held_out and set(outer) != {taken}:
        counted = names([f"{runs[i].spec.name} {count}" for i, count in outer.most_common()])
        note = [f"heads taken inside the {len(picks) - 1} outer training parts: {counted}"]
    combined = replace(
        runs[taken],
        parts=[runs[pick].parts[part] for part, pick in enumerate(picks)],
        probabilities=_combine(runs, picks, problem.plan),
        notes=runs[taken].notes + note,
    )
    result = assemble(problem, combined)
    if result.optimism:
        # What taking the best of all heads and settings, on the folds that chose it, would have reported.
        tuned = [each.optimism["tuned"] for each in results if each.optimism]
        best = min if metric == "log_loss" else max
        result.optimism["tuned"] = best(tuned)
        result.optimism["settings"] = sum(len(run.grid) for run in runs)
    sentence = explain(results, differences, taken, compared)
    result.extra["heads"] = {
        "metric": compared,
        "taken": runs[taken].spec.name,
        "sentence": sentence,
        "table": [_describe(r, i, taken, differences, compared) for i, r in enumerate(results)],
        "inside": {runs[i].spec.name: count for i, count in outer.items()},
    }
    return AllHeads(results, differences, taken, result, sentence)


def _take(parts: Sequence[Any], runs: Sequence[HeadRun]) -> int:
    """The simplest head within one standard error of the best on the inner folds of one part.

    The standard error is that of the paired differences, corrected for folds that share training rows
    (Nadeau and Bengio, 2003).
    """
    simple = sorted(range(len(runs)), key=lambda i: runs[i].spec.simplicity)
    if not all(part.known for part in parts) or len({len(p.choice.folds) for p in parts}) > 1:
        # Nothing to choose by: what is taken by default.
        return next((i for i in simple if runs[i].spec.name == "logistic"), simple[0])
    folds = np.stack([part.choice.folds for part in parts])
    best = int(folds.mean(axis=1).argmax())
    lost = folds[best] - folds
    count = folds.shape[1]
    ratio = 1 / max(count - 1, 1)
    error = np.std(lost, axis=1, ddof=1 if count > 1 else 0) * np.sqrt(1 / count + ratio)
    near = lost.mean(axis=1) <= error + 1e-12
    return next(i for i in simple if near[i])


def _combine(runs: Sequence[HeadRun], picks: Sequence[int], plan: Plan) -> np.ndarray:
    """Probabilities of the scored rows, in each outer fold those of the head that was taken there."""
    found = runs[picks[0]].probabilities.copy()
    place = np.full(len(plan.rows.y), -1)
    place[plan.scored] = np.arange(len(plan.scored))
    numbers = iter(picks)
    for repeat, jobs in enumerate(plan.repeats):
        for job in jobs:
            rows = place[job.test]
            found[repeat, rows] = runs[next(numbers)].probabilities[repeat, rows]
    return found


def _between(differences: Sequence[Difference], i: int, j: int) -> Difference | None:
    return next((d for d in differences if {d.a, d.b} == {i, j}), None)


def _describe(
    result: Result, i: int, taken: int, differences: Sequence[Difference], metric: str
) -> dict[str, Any]:
    pair = _between(differences, i, taken)
    return {
        "head": result.head,
        "params": result.params,
        "metrics": result.metrics,
        "difference": dict(pair.of(i)) if pair else None,
        "p_adjusted": pair.p_adjusted if pair else None,
        "test": pair.test if pair else None,
    }


def explain(
    results: Sequence[Result], differences: Sequence[Difference], taken: int, metric: str
) -> str:
    """One sentence that says which head to take.

    Parameters
    ----------
    results, differences
        Of `compare`.
    taken : int
    metric : str
    """
    name = results[taken].head
    if len(results) == 1:
        return f"take {name}: no other was tried"
    scores = np.array([r.metrics[metric]["value"] for r in results])
    better: list[str] = []
    worse: list[str] = []
    for i in range(len(results)):
        pair = _between(differences, i, taken)
        if pair is not None and pair.p_adjusted < ALPHA:
            (better if pair.of(i)["value"] > 0 else worse).append(results[i].head)
    if better:
        verdict = f"although {names(better)} scored higher here: their inner folds did not show it"
        return f"take {name}, {verdict}"
    best = int(np.argmax(np.where(np.arange(len(scores)) == taken, scores + 1e-9, scores)))
    if best == taken:
        verdict = "it scores highest"
        if len(worse) < len(results) - 1:
            verdict += ", and is not shown to be better than " + (
                "any other" if not worse else "all others"
            )
    else:
        points = 100 * (scores[best] - scores[taken])
        pair = _between(differences, best, taken)
        p = pair.p_adjusted if pair else 1.0
        verdict = (
            f"no detectable difference to the highest score, that of {results[best].head} "
            f"(+{points:.1f} points, adjusted p = {p:.2f}); it is the simplest within one standard error"
        )
    return f"take {name}: {verdict}" + (f"; shown to be worse: {names(worse)}" if worse else "")
