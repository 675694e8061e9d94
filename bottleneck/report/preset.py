"""What a published protocol reports, on the screen: its numbers, and where it was not followed."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from .tables import _console, _line, _table
from .terminal import printable

_WIDEST = 20  # rows of a table that are shown


def show_preset(found: dict[str, Any]) -> None:
    """Headline, table, deviations, traps: ``extra["preset"]`` of a result.

    Parameters
    ----------
    found : dict
        See `presets.run.to_result`.
    """
    like = "-like" if found["deviations"] else ""
    _line(f"{found['name']}{like}: " + "; ".join(_spell(each) for each in found["headline"]))
    if len(found["table"]) > 1:
        _show_table(found["table"])
    for title, lines in (
        ("not as published", found["deviations"]),
        ("trap of the source, copied", found["traps"]),
        ("where the source is silent", found["silent"]),
        ("remark", found["remarks"]),
    ):
        for line in lines:
            _line(f"{title}: {line}")


def _spell(each: dict[str, Any]) -> str:
    text = f"{each['name']} {100 * each['value']:.2f} %"
    if "low" in each:
        text += f" [{100 * each['low']:.2f}, {100 * each['high']:.2f}]"
    if "sd" in each:
        text += f" (sd {100 * each['sd']:.2f})"
    return text


def _show_table(rows: list[dict[str, Any]]) -> None:
    names = [name for name in rows[0] if not isinstance(rows[0][name], list)]
    table = _table(*names)
    for row in rows[:_WIDEST]:
        table.add_row(*(Text(printable(_cell(row.get(name)))) for name in names))
    _console().print(table)
    if len(rows) > _WIDEST:
        _line(f"  and {len(rows) - _WIDEST} more rows (--json has them)")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
