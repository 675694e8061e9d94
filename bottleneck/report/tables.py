"""Results as tables for people, on stdout. What they show comes ready from the other parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..cache.media import size
from ..recipe import RANDOM_NOTE, is_random
from .terminal import printable

if TYPE_CHECKING:
    from ..cache.features import Features
    from ..extraction.dry import Plan
    from ..extraction.result import Extraction
    from ..probe import Probe

_SHOWN = 5
# As they are shown, whatever order a file has them in: what the answers are worth, then how sure they are.
_METRICS = (
    *(
        "accuracy",
        "balanced_accuracy",
        "map",
        "micro_f1",
        "macro_f1",
        "r2",
        "mae",
        "rmse",
        "spearman",
    ),
    *("log_loss", "auroc", "average_precision", "brier", "ece"),
)
_LARGEST_CONFUSION = 12


def _console() -> Console:
    # In a file or a pipe there is no width to fit into, and a cut cell would lose what it says.
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=200)


def _table(*columns: str, title: str = "") -> Table:
    table = Table(
        title=title or None,
        title_justify="left",
        box=None,
        pad_edge=False,
        show_header=any(columns),
    )
    for i, name in enumerate(columns):
        table.add_column(Text(printable(name)), justify="left" if i == 0 else "right")
    return table


def _line(text: str) -> None:
    """One line, after an empty one if `text` begins with a line break."""
    bare = text.removeprefix("\n")
    _console().print(Text(text[: len(text) - len(bare)] + printable(bare)))


def plural(n: int, noun: str) -> str:
    """A count with its noun.

    Examples
    --------
    >>> plural(1, "image"), plural(1200, "image")
    ('1 image', '1,200 images')
    """
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def show_extraction(result: Extraction, *, verbose: bool) -> None:
    """Counts that add up, and what was quarantined."""
    f = result.features
    n, d = f.features.shape
    _line(
        f"{plural(result.seen, 'image')} seen: {result.computed:,} computed, {result.reused:,} reused, "
        f"{result.quarantined:,} quarantined"
    )
    others = []
    if result.ignored:
        others.append(f"{plural(result.ignored, 'other file')} ignored")
    if result.removed:
        gone = "the image is gone, or not among these (--add keeps it)"
        others.append(f"{plural(result.removed, 'row')} removed: {gone}")
    if others:
        _line("; ".join(others))
    if verbose:
        _line(f"{plural(result.read, 'file')} read")
    show_quarantine(result.bad, verbose=verbose)
    if len(f.quarantine) > len(result.bad):
        rest = len(f.quarantine) - len(result.bad)
        _line(f"  {rest:,} more in the quarantine of {result.output} are not of this run")
    show_classes(f)
    # Of a run that computed nothing it would say how fast files are hashed.
    speed = f" ({result.seen / max(result.seconds, 1e-9):,.0f} images/s)" if result.computed else ""
    state = "" if result.written else ", unchanged"
    for name, array in f.layers.items():
        _line(f"{n:,} x {array.shape[1]:,} of {name}")
    _line(f"{n:,} x {d:,} {_what(f)}, {result.seconds:.1f} s{speed}: {result.output}{state}")


def _what(features: Features) -> str:
    """What the first output is called: ``features``, or its layer where it is not the usual one."""
    first = features.outputs[0]
    marked = " of RANDOM weights" if is_random(features.recipe) else ""
    return ("features" if first == "penultimate:none" else f"of {first}") + marked


def show_quarantine(quarantine: Sequence[tuple[str, str]], *, verbose: bool = False) -> None:
    """Paths and reasons, five of them unless `verbose`."""
    shown = quarantine if verbose else quarantine[:_SHOWN]
    for path, reason in shown:
        _line(f"  {path}: {reason}")
    if len(quarantine) > len(shown):
        _line(f"  and {len(quarantine) - len(shown)} more (--verbose lists them)")


def show_classes(features: Features) -> None:
    """How many images of each class are in each split."""
    import numpy as np

    from ..texts import Coded

    if features.task != "classification":
        from .targets import show_targets

        show_targets(features)
        return
    # Of an image that was cut into tiles the first one: images are counted, not rows.
    firsts = features.views == 0
    coded = Coded.of(features.rows.splits)
    counts: dict[tuple[str, int], int] = {}
    for code, split in enumerate(coded.values):
        labels = features.y[firsts & (coded.codes == code)]
        numbered = enumerate(np.bincount(labels + 1).tolist(), start=-1)
        counts |= {(split, i): count for i, count in numbered if count}
    splits = [s for s in ("train", "val", "test", "") if any(s == key[0] for key in counts)]
    if not features.classes:
        _line("no labels")
        return
    table = _table("class", *(s or "images" for s in splits))
    order = [*range(len(features.classes)), -1]
    for i in order[:20]:
        numbers = [counts.get((s, i), 0) for s in splits]
        if any(numbers):
            name = features.classes[i] if i >= 0 else "(unlabelled)"
            table.add_row(Text(printable(name)), *(f"{x:,}" for x in numbers))
    _console().print(table)
    if len(order) > 20:
        _line(f"  and {len(order) - 20} more classes")


def show_plan(plan: Plan) -> None:
    """What an extraction would do."""
    _line(
        f"{plural(plan.seen, 'image')} seen: {plan.to_compute:,} to compute, {plan.reused:,} reused, "
        f"{plan.unreadable:,} unreadable; {plan.ignored:,} other files ignored, "
        f"{plan.removed:,} rows to be removed"
    )
    from ..cache.atomic import size

    if plan.images_per_second:
        _line(
            f"about {_duration(plan.seconds)} at {plan.images_per_second:,.0f} images/s "
            f"(engine {plan.engine}, measured on some of them), {size(plan.disk_bytes)} of disk"
        )
    for tar in plan.broken:
        _line(f"a tar ends too early: {tar}; only --allow-bad would publish what precedes")
    _line(f"nothing was computed or written; the output would be {plan.output}")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


# Of ``fit --preset``.
PUBLISHED = "scored by a published protocol (docs/papers.md)"
PROTOCOLS = {
    "holdout": "scored once; neither the fit nor the choice saw them",
    "nested": "each scored by a fit and a choice that never saw it (nested cross-validation)",
}


def show_fit(probe: Probe, output: Path, seconds: float) -> None:
    """The score with its interval beside the baseline, and which protocol gave it."""
    show_probe(probe)
    _line(f"\n{seconds:.1f} s: {output}")


def describe_source(recipe: Mapping[str, Any]) -> str:
    """Backbone, layer and weights of a recipe, in a few words."""
    output = (recipe.get("outputs") or [{}])[0]
    layer = f"{output.get('node', '')}:{output.get('pooling', '')}"
    where = "" if layer in (":", "penultimate:none") else f", layer {layer}"
    weights = "RANDOM weights" if is_random(recipe) else ""
    if not weights and recipe.get("weights_sha256"):
        weights = f"weights {str(recipe['weights_sha256'])[:12]}"
    named = str(recipe.get("backbone", "from arrays"))
    return f"{named}{where}" + (f", {weights}" if weights else "")


def show_probe(probe: Probe) -> None:
    """What a probe is and how good."""
    if probe.task != "classification":
        from .targets import show_target_probe

        show_target_probe(probe)
        return
    params = ", ".join(f"{name} = {_number(value)}" for name, value in probe.params.items())
    _line(
        f"{probe.head}{f' ({params})' if params else ''}, {len(probe.classes)} classes, "
        f"trained on {plural(probe.n_train, 'image')}"
    )
    _line(f"features: {describe_source(probe.recipe)}")
    _line(
        f"{probe.protocol}: {plural(probe.n_test, 'image')}, "
        f"{PROTOCOLS.get(probe.protocol.partition('-')[0], PUBLISHED)}"
    )
    show_metrics(probe.metrics, probe.baseline)
    show_per_class(probe.per_class)
    show_confusion(probe.confusion.tolist(), probe.classes)


def show_score(found: dict[str, Any], classes: list[str]) -> None:
    """Metrics of a kept probe on other data."""
    _line(f"{plural(found['n'], 'labelled image')} scored")
    for note in found["notes"]:
        if note == RANDOM_NOTE:
            _line(note)
    show_metrics(found["metrics"], found["baseline"])
    show_per_class(found["per_class"])
    show_confusion(found["confusion"].tolist(), classes)


def show_metrics(metrics: dict[str, dict[str, Any]], baseline: dict[str, dict[str, Any]]) -> None:
    """Each metric with its 95 % interval, next to always answering with the largest class."""
    table = _table("", "score", "95 % interval", "majority class")
    _line("")
    for name in sorted(metrics, key=_place):  # a probe file has them by the alphabet
        m = metrics[name]
        undefined = _share(m["value"]) == "-"
        table.add_row(
            name.replace("_", " "),
            Text(_share(m["value"]), style="bold"),
            "undefined here" if undefined else f"{_share(m['low'])} to {_share(m['high'])}",
            _share(baseline[name]["value"]),
        )
    _console().print(table)
    _console().print(Text(f"intervals: {_methods(metrics)}", style="dim"))


def _place(metric: str) -> int:
    return _METRICS.index(metric) if metric in _METRICS else len(_METRICS)


def _methods(metrics: dict[str, dict[str, Any]]) -> str:
    """Which method gave which interval, each named once, with what all share at the end."""
    methods = {name: str(m["method"]) for name, m in metrics.items()}
    shared = {text[text.rfind(" (") :] for text in methods.values() if text.endswith(")")}
    common = shared.pop() if len(shared) == 1 else ""
    if not all(text.endswith(common) for text in methods.values()):
        common = ""
    named: dict[str, list[str]] = {}
    for name, text in methods.items():
        named.setdefault(text.removesuffix(common), []).append(name.replace("_", " "))
    spelled = [f"{', '.join(names)}: {text}" for text, names in named.items()]
    return "; ".join(spelled) + common


def show_per_class(per_class: list[dict[str, Any]]) -> None:
    """Precision, recall and F1 of each class."""
    table = _table("class", "precision", "recall", "F1", "images")
    _line("")
    for each in per_class[:20]:
        table.add_row(
            Text(printable(str(each["class"]))),
            *(_share(each[name]) for name in ("precision", "recall", "f1")),
            f"{each['n']:,}",
        )
    _console().print(table)
    if len(per_class) > 20:
        _line(f"  and {len(per_class) - 20} more classes (--json has them)")


def _share(value: float | None) -> str:
    return "-" if value is None or value != value else f"{value:.3f}"


def show_confusion(confusion: list[list[int]], classes: list[str]) -> None:
    """The confusion matrix; for many classes the pairs that are confused most."""
    _line("")
    if len(classes) > _LARGEST_CONFUSION:
        pairs = [
            (count, classes[i], classes[j])
            for i, row in enumerate(confusion)
            for j, count in enumerate(row)
            if i != j and count
        ]
        table = _table("true class", "taken for", "images", title="confused most")
        for count, truth, answer in sorted(pairs, reverse=True)[:10]:
            table.add_row(Text(printable(truth)), Text(printable(answer)), f"{count:,}")
        _console().print(table)
        return
    table = _table("true \\ predicted", *classes)
    for name, row in zip(classes, confusion, strict=True):
        cells = [
            Text(f"{count:,}", style="bold" if name == other else "" if count else "dim")
            for other, count in zip(classes, row, strict=True)
        ]
        table.add_row(Text(printable(name)), *cells)
    _console().print(table)


def describe_features(features: Features) -> dict[str, Any]:
    """What a feature file holds, as data for ``info --json``."""
    counts = Counter(features.labels.tolist())
    return {
        "format": "bottleneck-features",
        "file": str(features.file),
        "features": [int(x) for x in features.features.shape],
        "layers": {
            name: [int(x) for x in array.shape]
            for name, array in zip(
                features.outputs, (features.features, *features.layers.values()), strict=True
            )
        },
        "views": features.views_per_image,
        "random_weights": is_random(features.recipe),
        "fingerprint": features.fingerprint,
        "recipe": features.recipe,
        "environment": features.environment,
        "root": features.root,
        "task": features.task,
        "classes": {name: counts[name] for name in features.classes}
        if features.rows.targets is None
        else {each["label"]: each["positive"] for each in features.rows.targets.counts()},
        "unlabelled": counts[None],
        "splits": dict(Counter(features.splits.tolist())),
        "meta": sorted(features.meta),
        "quarantine": [{"path": p, "reason": r} for p, r in features.quarantine],
        **_describe_directory(features),
    }


def _describe_directory(features: Features) -> dict[str, Any]:
    """How a directory is kept, for ``info --json``; nothing of a file."""
    directory = getattr(features.features, "directory", None)
    if directory is None:
        return {}
    shards = directory.manifest.shards
    return {
        "directory": {
            "shards": len(shards),
            "bytes": directory.manifest.bytes,
            "dead_rows": sum(shard.rows - shard.alive for shard in shards),
        }
    }


def _told_directory(data: dict[str, Any]) -> str:
    told = data.get("directory")
    if told is None:
        return ""
    dead = (
        f", {told['dead_rows']:,} rows in them do not count any more" if told["dead_rows"] else ""
    )
    count = f"{told['shards']:,} shard{'s' if told['shards'] > 1 else ''}"
    return f"{count}, {size(told['bytes'])}{dead}"


def show_features(features: Features, data: dict[str, Any], *, verbose: bool) -> None:
    """What a feature file holds."""
    n, d = data["features"]
    recipe, environment = data["recipe"], data["environment"]
    weights = str(recipe.get("weights_sha256", ""))[:12]
    if data["random_weights"]:
        weights = "RANDOM (--weights none)"
    others = [f"{name} {shape[1]:,}" for name, shape in list(data["layers"].items())[1:]]
    table = _table("", "")
    table.columns[1].justify = "left"
    lines = [
        (_what(features), f"{n:,} x {d:,}, fingerprint {data['fingerprint'][:12]}"),
        ("directory", _told_directory(data)),
        ("further layers", ", ".join(others)),
        ("views", f"{data['views']} an image" if data["views"] > 1 else ""),
        ("backbone", f"{recipe.get('backbone', 'none: from arrays')}, weights {weights or 'none'}"),
        ("preprocessing", _preprocessing(recipe.get("preprocessing") or {})),
        ("computed by", _environment(environment)),
        ("images", data["root"] or "from memory"),
        ("other columns", ", ".join(data["meta"])),
        ("quarantined", str(len(data["quarantine"])) if data["quarantine"] else ""),
    ]
    for name, value in lines:
        if value:
            table.add_row(name, Text(printable(value)))
    _console().print(table)
    show_quarantine(features.quarantine, verbose=verbose)
    show_classes(features)
    if "output" in data:
        _line(f"written: {data['output']}")


def _preprocessing(p: dict[str, Any]) -> str:
    if not p:
        return ""
    crop = "x".join(str(x) for x in p["crop"])
    depth = f", range {p['range']}" if "range" in p else ""
    framed = f"resize to {p['resize']}, " if p["framing"] == "crop" else ""
    return (
        f"{p['interpolation']} {framed}{p['framing']} {crop}, "
        f"mean {p['mean']}, std {p['std']}{depth}"
    )


def _environment(environment: dict[str, Any]) -> str:
    if not environment:
        return ""
    versions = ", ".join(f"{k} {v}" for k, v in environment.get("versions", {}).items())
    get = environment.get
    return f"{get('engine')} on {get('device')}, batches of {get('batch_size')} ({versions})"


def describe_probe(probe: Probe) -> dict[str, Any]:
    """What a probe holds, as data for ``info --json``."""
    names = (
        "task",
        "head",
        "params",
        "classes",
        "protocol",
        "n_train",
        "n_test",
        "seed",
        "metrics",
        "baseline",
        "per_class",
        "notes",
        "recipe",
        "fingerprint",
    )
    data = {name: getattr(probe, name) for name in names}
    return {
        "format": "bottleneck-probe",
        **data,
        "random_weights": is_random(probe.recipe),
        "confusion": probe.confusion.tolist(),
    }


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
