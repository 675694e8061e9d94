"""Features that do not fit into memory in, the evaluation of logistic regression out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .cache.features import Features
from .errors import FitError
from .groups import resolve_groups
from .memory import COPIES, gigabytes, needed_bytes, require_memory
from .reporter import Progress, Reporter

if TYPE_CHECKING:
    from .evaluate.fitting import Wanted
    from .evaluate.result import Result

_HEAD = "logistic"


class FromDisk:
    """Like `Classification`, for features that are read in slices: one head, one test set.

    Parameters
    ----------
    features : Features
        One output.
    limit : int
        Bytes of memory that the fit may take.
    folds, repeats, search
        Not used: there is one test set, and one part of the training rows that chooses.
    seed, holdout, groups, metric, select, refit_all, class_weight, head_options, device
        See `fitting.fit`.
    """

    def __init__(
        self,
        features: Features,
        *,
        limit: int,
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
        device: str = "auto",
    ) -> None:
        self.features, self.limit = features, limit
        self._rows: dict[str, Any] = {
            "classes": features.classes,
            "splits": features.splits,
            "keys": features.keys,
            "groups": resolve_groups(features, groups),
            "views": features.views_per_image,
            "seed": seed,
            "holdout": holdout,
            "limit": limit,
        }
        self._asked: dict[str, Any] = {
            "head_options": head_options,
            "metric": metric,
            "select": select,
            "seed": seed,
            "refit_all": refit_all,
        }
        self._in_memory_only = {
            f"--class-weight {class_weight}": class_weight != "none",
            f"--metric {metric}": metric != "accuracy",
            f"--device {device}": device not in ("auto", "cpu"),
        }

    def evaluate(self, head: str, reporter: Reporter) -> Result:
        """The result of the head ``logistic``; another one is an error."""
        wanted = self._want(head)
        n, d = self.features.features.shape
        # Said before the hours, not after them.
        told = (
            f"{n:,} x {d:,} features would take about {gigabytes(needed_bytes(self.features))} in memory "
            f"({COPIES} copies), more than {gigabytes(self.limit)}: logistic regression is trained from disk"
        )
        reporter.note(told)
        result = self._evaluate(wanted, self.features.y, reporter, "fit from disk")
        result.notes.append(
            "near copies were not looked for, which needs the features in memory; identical images are on "
            "one side"
        )
        if self.features.rows.meta and self._rows["groups"] is None:
            result.notes.append(
                "columns were not tried as groups, which needs the features in memory; --groups COLUMN keeps "
                "a patient or a camera on one side"
            )
        result.extra["streamed"]["why"] = told
        return result

    def control(self, head: str, reporter: Reporter) -> dict[str, Any]:
        """The same with shuffled labels: see `sanity.judge`."""
        from .evaluate.sanity import judge, shuffle_labels

        y = shuffle_labels(self.features.y, self.features.keys, self._asked["seed"])
        result = self._evaluate(self._want(head), y, reporter, "shuffled labels")
        return judge(result.metrics, len(np.unique(result.oof.y)))

    def _want(self, head: str) -> Wanted:
        from .evaluate.protocol import want
        from .evaluate.streaming import VALUES

        if head != _HEAD:
            what = "--head all" if head == "all" else f"the head {head}"
            require_memory(self.features, self.limit, what, "--head")
        for what, asked in self._in_memory_only.items():
            if asked:
                require_memory(self.features, self.limit, what)
        wanted = want(head, grid=[{"C": value} for value in VALUES], **self._asked)
        if wanted.options:
            raise FitError(
                f"the option {', '.join(wanted.options)} of the head {_HEAD} is for features in memory",
                expected="C alone: these features are trained on from disk",
            )
        return wanted

    def _evaluate(self, wanted: Wanted, y: np.ndarray, reporter: Reporter, title: str) -> Result:
        from .evaluate.streaming import (
            Asked,
            evaluate_from_disk,
            make_streamed_problem,
            rows_to_read,
        )

        X = self.features.features
        problem = make_streamed_problem(X, y, **self._rows)
        total = rows_to_read(len(X), wanted)
        with reporter.progress(title, total) as bar:
            counted = _Counted(bar)
            result = evaluate_from_disk(problem, Asked(wanted, self.limit, counted))
            bar.resize(max(counted.done, 1))  # most fits end before the last pass
        return result


class _Counted:
    """A bar's `advance` that knows how far it is."""

    def __init__(self, bar: Progress) -> None:
        self.done = 0
        self._advance: Callable[[int], None] = bar.advance

    def __call__(self, n: int) -> None:
        self.done += n
        self._advance(n)
