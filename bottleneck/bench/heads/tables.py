"""A bench of heads as a table for people, and as Markdown; both of what ``--json`` holds."""

from __future__ import annotations

from typing import Any

from rich.text import Text

from ...report.tables import _console, _line, _table, plural
from ...report.terminal import printable

COLUMNS = ("work", "rows x features", "classes", "here", "usual", "times", "target", "check")


def show(bench: dict[str, Any]) -> None:
    """Print it on the terminal."""
    for line in heading(bench):
        _line(line)
    _line("")
    table = _table(*COLUMNS)
    for row in rows(bench):
        table.add_row(*(Text(printable(cell)) for cell in row))
    _console().print(table)
    _line("")
    for line in notes(bench):
        _console().print(Text(printable(line), style="dim"))


def markdown(bench: dict[str, Any]) -> str:
    """The heading as a paragraph, the table, and the notes as a list."""
    lines = [" \n".join(heading(bench)), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "| --- |" + " ---: |" * 6 + " --- |"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in r) + " |" for r in rows(bench)]
    lines += ["", *(f"- {line}" for line in notes(bench))]
    return "\n".join(lines)


def heading(bench: dict[str, Any]) -> list[str]:
    """Machine, features, versions."""
    machine = bench["machine"]
    flags = ", ".join(flag.upper().replace("_", "-") for flag in machine["flags"][-3:])
    where = f"{machine['processor']}, {plural(machine['cores'], 'core')}"
    where += f" ({flags})" if flags else ""
    versions = ", ".join(f"{name} {number}" for name, number in bench["versions"].items())
    made = bench["features"] == "made"
    features = "features made from a seed" if made else f"features of {bench['features']}"
    return [
        f"{where}, {machine['system']}",
        f"{features}; median of {plural(bench['options']['repeats'], 'interleaved run')}; {versions}",
    ]


def rows(bench: dict[str, Any]) -> list[list[str]]:
    """The cells of each contest, in order."""
    return [_row(each) for each in bench["contests"]]


def _row(each: dict[str, Any]) -> list[str]:
    sizes = [f"{each['rows']:,} x {each['features']:,}", str(each["classes"])]
    if each["error"] or each["seconds"] is None:
        return [each["work"], *sizes, "failed", "", "", "", ""]
    ratio, target = each["ratio"], each["target"]
    if "ratio" in target:
        wanted = f"{target['ratio']:g} x"
    elif "seconds" in target:
        wanted = f"{target['seconds']:g} s"
    else:
        wanted = f"{target['bytes'] / 1e6:,.0f} MB"
    met = {True: "reached", False: "missed", None: "not measured"}[each["reached"]]
    return [
        each["work"],
        *sizes,
        _seconds(each["seconds"]),
        _seconds(each["usual_seconds"]) if ratio else "-",
        f"{ratio['median']:.1f} ({ratio['low']:.1f} to {ratio['high']:.1f})" if ratio else "-",
        f"{wanted}: {met}",
        "same" if each["same"] else "differs",
    ]


def notes(bench: dict[str, Any]) -> list[str]:
    """What was compared with what, and what came of the checks."""
    lines = [
        "times: of the usual by here, run by run; start of processes and compilation apart",
        *(
            f"{each['name']}: "
            + (f"against {each['against']}; " if each["against"] else "")
            + (f"failed: {each['error']}" if each["error"] else each["check"])
            for each in bench["contests"]
        ),
        f"the whole bench took {bench['seconds']:.0f} s",
    ]
    if bench["options"]["quick"]:
        lines.insert(0, "--quick: a quarter of the rows and features, where targets mean little")
    return lines


def _seconds(found: dict[str, Any]) -> str:
    def number(value: float) -> str:
        return f"{value:.2f}" if value < 10 else f"{value:.1f}"

    return f"{number(found['median'])} s ({number(found['low'])} to {number(found['high'])})"
