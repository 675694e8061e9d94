"""Logistic regression and the RBF SVM over a grid in five folds, here and by `GridSearchCV`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .contest import Check
from .material import Material

C_LOGISTIC = 10.0 ** np.linspace(-6, 5, 45)
C_RBF = 10.0 ** np.linspace(-1.5, 3, 10)
GAMMAS = (0.1, 0.3, 1.0)  # divided by the number of features


@dataclass(frozen=True)
class Choice:
    """What a search came to.

    Attributes
    ----------
    params : dict
        The best setting: highest mean accuracy, of equal ones the first.
    score : float
    scores : ndarray of shape (settings,)
    predicted : ndarray of shape (m,)
        Answers to the new rows, of a fit on all others.
    """

    params: dict[str, float]
    score: float
    scores: np.ndarray
    predicted: np.ndarray


def logistic_here(material: Material) -> Choice:
    """The whole grid as one computation, then the best setting on all rows."""
    return _here(material, "logistic", [{"C": float(C)} for C in C_LOGISTIC])


def logistic_usual(material: Material) -> Choice:
    """What the textbook says: scaler and regression in a pipeline, all cores."""
    from sklearn.linear_model import LogisticRegression

    return _grid_search(material, LogisticRegression(max_iter=1000), {"C": C_LOGISTIC})


def rbf_here(material: Material) -> Choice:
    """Squared distances once a fold, a kernel once a gamma."""
    return _here(material, "svm-rbf", _rbf_grid(material))


def rbf_usual(material: Material) -> Choice:
    """The same grid in scikit-learn, all cores."""
    from sklearn.svm import SVC

    gammas = [factor / material.X.shape[1] for factor in GAMMAS]
    return _grid_search(material, SVC(), {"C": C_RBF, "gamma": gammas})


def check_logistic(material: Material, ours: Choice, usual: Choice) -> Check:
    """The same C, and the same answers to new rows as scikit-learn's at the end of its way.

    With its default `tol` it stops short of its optimum, so that an answer or two of the search's own fit
    may differ, and a large C may win that loses at the optimum: such a pair is scored anew, both at
    scikit-learn's own optimum.
    """
    rows, new = (part.astype(np.float64) for part in material.standardised)
    theirs = _at_the_end(rows, material.y, new, ours.params["C"])
    short, differ = (int((ours.predicted != each).sum()) for each in (usual.predicted, theirs))
    told = _best(ours, usual)
    same_choice = ours.params == usual.params
    if not same_choice:
        mine, other = (_converged_score(material, each.params["C"]) for each in (ours, usual))
        same_choice = mine > other or (mine == other and ours.params["C"] < usual.params["C"])
        told += f"; at scikit-learn's own optimum {mine:.4f} against {other:.4f}"
    return Check(
        same_choice and differ == 0,
        f"{told}; of {len(new)} answers {differ} differ from scikit-learn's at tol 1e-10, "
        f"{short} at its default",
    )


def _converged_score(material: Material, C: float) -> float:
    """Mean accuracy of scikit-learn's regression over the folds, each fit at its optimum."""
    from sklearn.preprocessing import StandardScaler

    found = []
    for train, test in material.folds:
        scaler = StandardScaler().fit(material.X[train].astype(np.float64))
        rows, new = (scaler.transform(material.X[each]) for each in (train, test))
        answers = _at_the_end(rows, material.y[train], new, C)
        found.append(float((answers == material.y[test]).mean()))
    return round(float(np.mean(found)), 12)


def _at_the_end(rows: np.ndarray, y: np.ndarray, new: np.ndarray, C: float) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression

    with _quiet():
        head = LogisticRegression(C=C, tol=1e-10, max_iter=100_000).fit(rows, y)
    return np.asarray(head.predict(new))


def check_rbf(material: Material, ours: Choice, usual: Choice) -> Check:
    """The same answers as scikit-learn's machines, one class against the rest, with our choice.

    `SVC` itself lets pairs of classes vote: for three classes and more its answers, and so its choice,
    may be others. Those are told, and are no fault.
    """
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    rows, new = material.standardised
    machines = SVC(C=ours.params["C"], gamma=ours.params["gamma"])
    theirs = OneVsRestClassifier(machines).fit(rows, material.y).predict(new)
    differ = int((ours.predicted != theirs).sum())
    return Check(
        differ == 0,
        f"{_best(ours, usual)}; {differ} of {len(new)} answers differ, one class against the rest",
    )


def _rbf_grid(material: Material) -> list[dict[str, float]]:
    d = material.X.shape[1]
    return [{"C": float(C), "gamma": factor / d} for C in C_RBF for factor in GAMMAS]


def _here(material: Material, head: str, grid: list[dict[str, float]]) -> Choice:
    from ...heads.fitted import fit_head
    from ...heads.registry import get_head
    from ...heads.sweep import Job

    spec, k = get_head(head), material.n_classes
    jobs = [Job(train, test) for train, test in material.folds]
    found = spec.sweep(material.X, material.y, jobs, grid, {}, 0, n_classes=k, scaling="standard")
    scores = np.zeros(len(grid))
    for job, each in zip(jobs, found, strict=True):
        scores += (each.argmax(axis=2) == material.y[job.test]).mean(axis=1) / len(jobs)
    best = int(_rounded(scores).argmax())
    kept = fit_head(spec.make(grid[best], {}, 0), material.X, material.y, n_classes=k)
    predicted = kept.scores(material.X_new).argmax(axis=1)
    return Choice(grid[best], float(scores[best]), scores, predicted)


def _grid_search(material: Material, head: Any, grid: dict[str, Any]) -> Choice:
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = Pipeline([("scale", StandardScaler()), ("head", head)])
    search = GridSearchCV(
        pipeline,
        {f"head__{name}": list(values) for name, values in grid.items()},
        cv=material.folds,
        scoring="accuracy",
        n_jobs=-1,
    )
    with _quiet():
        search.fit(material.X, material.y)
        predicted = search.predict(material.X_new)
    params = {
        name.removeprefix("head__"): float(value) for name, value in search.best_params_.items()
    }
    scores = search.cv_results_["mean_test_score"]
    return Choice(params, float(search.best_score_), scores, predicted)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hundreds of settings that do not converge would warn, also in the processes that joblib starts."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def _rounded(scores: np.ndarray) -> np.ndarray:
    # Sums in another order differ in the last digit, and would choose among equal settings.
    return np.round(scores, 12)


def _best(ours: Choice, usual: Choice) -> str:
    def told(choice: Choice) -> str:
        return ", ".join(f"{name} {value:.3g}" for name, value in choice.params.items())

    if ours.params == usual.params:
        return f"both choose {told(ours)}"
    return f"{told(ours)} ({ours.score:.4f}) against {told(usual)} ({usual.score:.4f})"
