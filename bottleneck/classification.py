"""Features and what is asked of them in, the evaluation of one head or of all heads out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache.features import Features
from .groups import resolve_groups, tell_groups, tell_unseen
from .reporter import Reporter, Steps

if TYPE_CHECKING:
    from .evaluate.fitting import Wanted
    from .evaluate.protocol import Problem
    from .evaluate.result import Result

# Below so many numbers a GPU's start costs more than it saves (SPEED: small sets stay on the CPU).
_WORTH_A_GPU = 5_000_000


class Classification:
    """Labelled features with the options of one `fit`; evaluates heads on them.

    Parameters
    ----------
    features : Features
        One output.
    seed, folds, repeats, holdout, groups, metric, select, refit_all, class_weight, head_options, search,
    device
        See `fitting.fit`.
    """

    def __init__(
        self,
        features: Features,
        *,
        seed: int = 0,
        folds: int = 5,
        repeats: int | None = None,
        holdout: float | None = None,
        groups: Any = None,
        metric: str = "accuracy",
        select: str = "one-se",
        refit_all: bool = False,
        class_weight: str = "none",
        head_options: Mapping[str, Any] | None = None,
        search: bool = False,
        device: str = "cpu",
    ) -> None:
        self.features = features
        self.seed, self.repeats, self.metric, self.search = seed, repeats, metric, search
        self.X = features.features[:]
        self._rows: dict[str, Any] = {
            "classes": features.classes,
            "splits": features.splits,
            "keys": features.keys,
            "phash": features.phash,
            "groups": resolve_groups(features, groups),
            "views": features.views_per_image,
            "folds": folds,
            "seed": seed,
            "holdout": holdout,
        }
        self._asked: dict[str, Any] = {
            "head_options": head_options,
            "class_weight": class_weight,
            "metric": metric,
            "select": select,
            "seed": seed,
            "refit_all": refit_all,
            "device": settle_device(device, self.X.size),
        }

    def evaluate(self, head: str, reporter: Reporter) -> Result:
        """The result of one head, or of ``all``: then of the one that was taken."""
        result = self._evaluate(head, self.features.y, reporter, f"fit {head}", self.repeats)
        tell_groups(result, self.features, reporter)
        if self._rows["groups"] is None:
            device = self._asked["device"]
            tell_unseen(result, self.features, self.X, seed=self.seed, device=device)
        return result

    def control(self, head: str, reporter: Reporter) -> dict[str, Any]:
        """The same with shuffled labels, once: see `sanity.judge`."""
        from .evaluate.sanity import judge, shuffle_labels

        y = shuffle_labels(self.features.y, self.features.keys, self.seed)
        name = "logistic" if head == "all" else head
        result = self._evaluate(name, y, reporter, "shuffled labels", 1)
        return judge(result.metrics, len(np.unique(result.oof.y)))

    def _evaluate(
        self, head: str, y: np.ndarray, reporter: Reporter, title: str, repeats: int | None
    ) -> Result:
        from .evaluate.fitting import run_head
        from .evaluate.protocol import assemble

        if head == "all":
            return self._all(y, reporter, repeats)
        wanted = self._want(head)
        problem = self._problem(y, repeats, slow=not wanted.spec.repeats)
        with reporter.progress(title, 1) as bar:
            run = run_head(wanted, problem.X, problem.plan, problem.same, Steps(bar, 1).of(0))
        return assemble(problem, run)

    def _all(self, y: np.ndarray, reporter: Reporter, repeats: int | None) -> Result:
        from .evaluate.all_heads import default_repeats_of_all, evaluate_all, heads_for
        from .heads.registry import can_weigh

        n = len(np.unique(self.features.keys[y >= 0], axis=0))
        names, notes = heads_for(n)
        if self._asked["class_weight"] != "none":
            able = [name for name in names if can_weigh(name)]
            left = [name for name in names if name not in able]
            notes += [f"{name} left out: it cannot weigh classes" for name in left]
            names = able
        wanted = [self._want(name) for name in names]
        problem = self._problem(y, repeats or default_repeats_of_all(n))
        problem.notes.extend(notes)
        with reporter.progress("fit all heads", 1) as bar:
            steps = Steps(bar, len(wanted))
            return evaluate_all(problem, wanted, metric=self.metric, progress=steps.of).result

    def _want(self, head: str) -> Wanted:
        from .evaluate.protocol import want
        from .heads.registry import get_head

        spec = get_head(head)
        grid = spec.search if self.search and spec.search else None
        return want(head, grid=grid, **self._asked)

    def _problem(self, y: np.ndarray, repeats: int | None, *, slow: bool = False) -> Problem:
        from .evaluate.protocol import make_problem

        return make_problem(self.X, y, repeats=repeats, slow=slow, **self._rows)


def settle_device(device: str, numbers: int) -> str:
    """Where heads are fitted: what was asked for, and for ``auto`` a GPU where it is worth its start.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    numbers : int
        Numbers in the features.

    Raises
    ------
    EngineError
        If a stated device is not there.
    """
    from .engines import devices

    wanted = devices.parse(device)
    if wanted == "cpu" or (
        wanted == "auto" and (numbers < _WORTH_A_GPU or not devices.driver_has_gpu())
    ):
        return "cpu"
    return devices.settle(wanted)[0]
