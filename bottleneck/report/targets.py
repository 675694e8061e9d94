"""What is shown of probes and scores where the answer is not one class."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .tables import PROTOCOLS, _console, _line, _number, _share, _table, describe_source, plural
from .terminal import printable

if TYPE_CHECKING:
    from ..cache.features import Features
    from ..probe import Probe

# Names as they are read; those that are not here are shown as they are written.
_SPELLED = {
    "map": "mAP",
    "auroc": "AUROC",
    "micro_f1": "micro F1",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "r2": "R2",
    "mae": "MAE",
    "rmse": "RMSE",
    "spearman": "Spearman",
}
_BASELINES = {"multilabel": "same for all", "regression": "mean"}
_LISTED = 20


def show_target_probe(probe: Probe) -> None:
    """What a probe is and how good."""
    params = ", ".join(f"{name} = {_number(value)}" for name, value in probe.params.items())
    what = plural(len(probe.classes), "label") if probe.task == "multilabel" else probe.classes[0]
    _line(
        f"{probe.head}{f' ({params})' if params else ''}, {printable(what)}, "
        f"trained on {plural(probe.n_train, 'image')}"
    )
    _line(f"features: {describe_source(probe.recipe)}")
    _line(
        f"{probe.protocol}: {plural(probe.n_test, 'image')}, "
        f"{PROTOCOLS.get(probe.protocol.partition('-')[0], '')}"
    )
    show_target_metrics(probe.task, probe.metrics, probe.baseline)
    show_per_label(probe.per_class)
    residual = probe.extra.get("residual")
    if "residual" in probe.extra and (residual is None or residual != residual):
        _line("too few images to say how near a prediction is: it takes 9 that were scored")
    elif "residual" in probe.extra:
        _line(
            f"a new image lies within {residual:.4g} of its prediction in "
            f"{100 * probe.extra['coverage']:.0f} % of cases"
        )


def show_targets(features: Features) -> None:
    """How many images have each label, or the range of the number."""
    import numpy as np

    targets = features.rows.targets
    assert targets is not None
    first = targets.take(np.flatnonzero(features.views == 0))
    unlabelled = int(np.sum(~first.known()))
    if targets.task == "regression":
        known = first.values[first.known(), 0]
        told = f"{plural(len(known), 'image')} with {printable(targets.names[0])}"
        if len(known):
            low, middle, high = np.quantile(known, [0, 0.5, 1])
            told += f": {low:.4g} to {high:.4g}, median {middle:.4g}"
        _line(told)
    else:
        table = _table("label", "with it", "without", "unknown")
        for each in first.counts()[:_LISTED]:
            numbers = (each["positive"], each["negative"], each["unknown"])
            table.add_row(Text(printable(each["label"])), *(f"{x:,}" for x in numbers))
        _console().print(table)
        if len(targets.names) > _LISTED:
            _line(f"  and {len(targets.names) - _LISTED} more labels")
    if unlabelled:
        _line(f"  {unlabelled:,} unlabelled")


def show_target_score(task: str, found: Mapping[str, Any]) -> None:
    """Metrics of a kept probe on other data."""
    _line(f"{plural(found['n'], 'labelled image')} scored")
    show_target_metrics(task, found["metrics"], found["baseline"])
    show_per_label(found["per_class"])


def show_target_metrics(
    task: str, metrics: Mapping[str, Mapping[str, Any]], baseline: Mapping[str, Mapping[str, Any]]
) -> None:
    """Each metric with its 95 % interval, next to answering every image alike."""
    table = _table("", "score", "95 % interval", _BASELINES[task])
    _line("")
    for name, m in metrics.items():
        table.add_row(
            _SPELLED.get(name, name),
            Text(_value(m["value"]), style="bold"),
            f"{_value(m['low'])} to {_value(m['high'])}",
            _value(baseline[name]["value"]),
        )
    _console().print(table)
    # The factors, which differ by metric, are in --json.
    methods = dict.fromkeys(re.sub(r" \(.*?\)", "", str(m["method"])) for m in metrics.values())
    _console().print(Text("intervals: " + "; ".join(methods), style="dim"))


def show_per_label(per_label: list[dict[str, Any]]) -> None:
    """How each label does; nothing where there are none."""
    if not per_label:
        return
    table = _table("label", "AP", "AUROC", "precision", "recall", "F1", "from", "with it", "images")
    _line("")
    for each in per_label[:_LISTED]:
        numbers = ("average_precision", "auroc", "precision", "recall", "f1", "threshold")
        table.add_row(
            Text(printable(each["label"])),
            *(_share(each[name]) for name in numbers),
            f"{each['positives']:,}",
            f"{each['n']:,}",
        )
    _console().print(table)
    if len(per_label) > _LISTED:
        _line(f"  and {len(per_label) - _LISTED} more labels (--json has them)")


def _value(value: float | None) -> str:
    """Three digits after the point; of large numbers four that count."""
    if value is None or value != value:
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.4g}"
