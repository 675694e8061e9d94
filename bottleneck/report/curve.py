"""A learning curve for people: a table on the terminal, or a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .. import extras
from .tables import _console, _line, _table, describe_source, plural

if TYPE_CHECKING:
    from ..learning_curve import LearningCurve

# Okabe and Ito's colours, which people tell apart who do not see red and green alike.
_MEASURED, _AHEAD, _DRAW = "#0072B2", "#D55E00", "#999999"
_ROOM = 0.06


def show_curve(curve: LearningCurve) -> None:
    """The table, the forecast, and the sentence."""
    _line(
        f"{curve.head}, {len(curve.classes)} classes, {describe_source(curve.recipe)}: "
        f"{plural(len(curve.draws), 'draw')}, {plural(curve.n_scored, 'image')} scored ({curve.protocol})"
    )
    table = _table("images", curve.metric.replace("_", " "), "95 % interval", "")
    for each in curve.points:
        table.add_row(*_cells(each), "")
    for each in curve.forecast:
        now = "all there are, " if each["n"] == curve.n_now else ""
        table.add_row(*_cells(each), Text(f"{now}forecast", style="dim"))
    _console().print(table)
    _line("")
    _console().print(Text(curve.advice, style="bold"))


def _cells(each: dict[str, Any]) -> list[str]:
    return [f"{each['n']:,}", f"{each['score']:.3f}", f"{each['low']:.3f} to {each['high']:.3f}"]


def picture(curve: LearningCurve, kind: str) -> bytes:
    """Draw the measured scores, each draw of them, and the forecast as a band.

    Parameters
    ----------
    curve : LearningCurve
    kind : {"png", "svg", "pdf"}

    Returns
    -------
    bytes
        The file's content; the same curve gives the same bytes.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    extras.require("matplotlib", purpose="A picture of the curve")
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = Figure(figsize=(7, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    n = [each["n"] for each in curve.points]
    axes.plot(n, curve.draws.T, color=_DRAW, linewidth=0.6, alpha=0.35, zorder=1)
    scores = [each["score"] for each in curve.points]
    around = [
        [each["score"] - each["low"] for each in curve.points],
        [each["high"] - each["score"] for each in curve.points],
    ]
    axes.errorbar(
        n, scores, yerr=around, color=_MEASURED, marker="o", markersize=4, capsize=3, linewidth=1.5,
        label="measured, 95 % interval", zorder=3,
    )  # fmt: skip
    ahead = [curve.points[-1], *curve.forecast]
    if curve.forecast:
        m = [each["n"] for each in ahead]
        axes.fill_between(
            m,
            [each["low"] for each in ahead],
            [each["high"] for each in ahead],
            color=_AHEAD,
            alpha=0.18,
            linewidth=0,
        )
        axes.plot(
            m,
            [each["score"] for each in ahead],
            color=_AHEAD,
            linestyle="--",
            marker=".",
            label="forecast, 95 % band",
        )
    axes.plot([], [], color=_DRAW, linewidth=0.8, label="each draw")
    axes.set_xscale("log")
    # Powers of ten would leave most curves with one labelled tick.
    ticks = [n[0], n[len(n) // 2], n[-1], *(each["n"] for each in curve.forecast[1:])]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    lowest = min(each["low"] for each in [*curve.points, *curve.forecast])
    axes.set_ylim(max(0.0, lowest - _ROOM), 1.0 + 0.01)
    axes.set_xlabel("training images")
    axes.set_ylabel(curve.metric.replace("_", " "))
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.suptitle(
        f"{curve.head} on {describe_source(curve.recipe)}\n{_wrapped(curve.advice)}",
        fontsize=9,
        x=0.02,
        ha="left",
    )
    content = io.BytesIO()
    # No date and fixed ids: the same curve gives the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    with rc_context({"svg.hashsalt": "bottleneck-curve"}):
        figure.savefig(content, format=kind, dpi=150, metadata=metadata)
    return content.getvalue()


def _wrapped(text: str) -> str:
    import textwrap

    return textwrap.fill(text, 105)
