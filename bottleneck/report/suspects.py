"""Suspects for people: the first of each kind as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from .tables import _console, _line, _table, describe_source, plural
from .terminal import printable

if TYPE_CHECKING:
    from ..label_check import Suspects

_SHOWN = 20


def show_suspects(found: Suspects, output: str | None) -> None:
    """How many there are, and the first twenty."""
    _line(
        f"{plural(found.n, 'labelled image')}, {describe_source(found.recipe)}: judged by fits that "
        f"did not see them ({found.protocol})"
    )
    counts = found.counts()
    told = (
        f"{plural(counts['label'], 'likely wrong label')}, {plural(counts['outlier'], 'outlier')}"
    )
    if counts["conflict"]:
        told += f", {plural(counts['conflict'], 'image')} with a copy under another label"
    _line(told)
    if found.rows:
        table = _table("image", "kind", "label", "suggested", "p label", "p suggested", "novelty")
        for row in found.rows[:_SHOWN]:
            table.add_row(
                Text(printable(row["path"])),
                row["kind"],
                Text(printable(row["label"])),
                Text(printable(row["suggested"])),
                *(
                    "-" if row[n] is None else f"{row[n]:.3f}"
                    for n in ("p_label", "p_suggested", "novelty")
                ),
            )
        _console().print(table)
    if len(found) > _SHOWN:
        _line(f"  and {len(found) - _SHOWN} more" + ("" if output else " (-o FILE.csv lists them)"))
    if output:
        _line(f"{plural(len(found), 'row')}: {output}")
    if found.rows:
        _line("nothing was changed: look at them, and mend the labels that are wrong")
