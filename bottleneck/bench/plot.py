"""A bench as a picture: a bar for each contestant, and how high it could be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import extras
from ..errors import InputError

# Okabe and Ito's colours, which people tell apart who do not see red and green alike.
_COLOURS = {"loop": "#999999", "timm": "#E69F00", "img2vec": "#E69F00", "ours": "#0072B2"}
_CEILING = "#D55E00"
SUFFIXES = (".svg", ".png", ".pdf")


def require_plottable(path: Path) -> None:
    """Raise before the bench, not after it, where its picture could not be written.

    Raises
    ------
    InputError
        For another suffix, or a folder that is not there.
    MissingExtraError
        If matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES or not path.parent.is_dir():
        raise InputError(
            f"{path} cannot be drawn to",
            expected=f"a file in a folder that exists, ending in {', '.join(SUFFIXES)}",
            where="--plot",
        )
    extras.require("matplotlib", purpose="--plot")


def draw(bench: dict[str, Any], path: Path) -> None:
    """Draw the medians as bars, the lowest and highest run as lines, the ceilings as marks.

    Parameters
    ----------
    bench : dict
        As ``--json`` has it.
    path : pathlib.Path
        Its suffix says the format.
    """
    extras.require("matplotlib", purpose="--plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = [each for each in bench["contestants"] if each["images_per_second"]]
    figure = Figure(figsize=(8, 1.6 + 0.42 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    highest = max(max(each["images_per_second"]["high"], each["ceiling"] or 0) for each in shown)
    for i, each in enumerate(shown):
        speed, ceiling = each["images_per_second"], each["ceiling"]
        axes.barh(i, speed["median"], color=_COLOURS[each["kind"]], height=0.62)
        axes.plot([speed["low"], speed["high"]], [i, i], color="black", linewidth=1)
        if ceiling:
            axes.plot([ceiling, ceiling], [i - 0.38, i + 0.38], color=_CEILING, linewidth=2)
        told = f"{speed['median']:,.0f}" + (
            f"  ({each['ratio']['median']:.1f}x)" if each["ratio"] else ""
        )
        beside = max(speed["high"], ceiling or 0)
        axes.text(beside + 0.01 * highest, i, told, va="center", fontsize=9)
    axes.set_yticks(range(len(shown)), [_label(each) for each in shown])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18 * highest)
    axes.set_xlabel("images per second, files to features (start-up apart)")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    machine, images = bench["machine"], bench["images"]
    where = machine["device_name"] or f"{machine['processor']}, {machine['cores']} cores"
    axes.set_title(
        f"{bench['backbone']['name']} on {where}\n"
        f"{images['count']:,} images of {images['width']}x{images['height']}",
        loc="left",
        fontsize=10,
    )
    mark = Line2D([], [], color=_CEILING, linewidth=2, label="ceiling of decode and forward")
    line = Line2D([], [], color="black", linewidth=1, label="lowest to highest run")
    figure.legend(
        handles=[mark, line], fontsize=8, frameon=False, loc="outside lower right", ncols=2
    )
    # No date and fixed ids: the same bench gives the same file.
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "bottleneck-bench"}):
        figure.savefig(path, dpi=150, metadata=metadata)


def _label(each: dict[str, Any]) -> str:
    if each["name"].startswith("auto"):
        return f"{each['name']} ({each['engine']} {each['precision']})"
    return str(each["name"])
