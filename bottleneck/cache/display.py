"""What `Features` shows of itself in a terminal and in a notebook."""

from __future__ import annotations

import html
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .features import Features

# More classes or outputs than this are counted, not listed.
LISTED = 10


def as_line(features: Features) -> str:
    """For a terminal: ``<Features shape: 10 x 8, ...>``."""
    return f"<Features {', '.join(f'{name}: {value}' for name, value in summary(features))}>"


def as_html(features: Features) -> str:
    """A table for a notebook."""
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in summary(features)
    )
    return f"<table><caption>Features</caption>{cells}</table>"


def summary(features: Features) -> list[tuple[str, str]]:
    """Name and value of each thing to show; what is empty is left out."""
    n, d = features.features.shape
    named = _named(features)
    splits = Counter(split for split in features.rows.splits if split)
    file = features.file
    parts = [
        ("shape", f"{n} x {d}"),
        ("backbone", str(features.recipe.get("backbone", ""))),
        ("outputs", _outputs(features)),
        (_KINDS[features.task], ", ".join(named)),
        ("splits", ", ".join(f"{name} {splits[name]}" for name in sorted(splits))),
        ("quarantined", str(len(features.quarantine) or "")),
        ("file", repr(str(file)) if file else "only in memory"),
    ]
    return [(name, value) for name, value in parts if value]


_KINDS = {"classification": "classes", "multilabel": "labels", "regression": "quantity"}


def _named(features: Features) -> list[str]:
    """Classes or labels with the rows of each; of a number its range."""
    targets = features.rows.targets
    if targets is None:
        count = Counter(features.y.tolist())
        without = count[-1]
    else:
        count = Counter({i: each["positive"] for i, each in enumerate(targets.counts())})
        without = int(np.sum(~targets.known()))
    # repr, so that a name cannot bring control codes into a terminal.
    if targets is not None and targets.task == "regression":
        known = targets.values[targets.known()]
        span = f" from {known.min():.4g} to {known.max():.4g}" if len(known) else ""
        named = [f"{targets.names[0]!r}{span}"]
    else:
        named = [f"{name!r} {count[i]}" for i, name in enumerate(features.classes[:LISTED])]
        named += _more(features.classes)
    if without:
        named.append(f"unlabelled {without}")
    return named


def _outputs(features: Features) -> str:
    """Each output with its length, where there is more than one."""
    arrays = [features.features, *features.layers.values()]
    if len(arrays) == 1:
        return ""
    sized = [f"{name!r} {a.shape[1]}" for name, a in zip(features.outputs, arrays, strict=True)]
    return ", ".join(sized[:LISTED] + _more(sized))


def _more(names: list[str]) -> list[str]:
    return [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
