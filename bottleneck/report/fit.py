"""What `fit` found, on one screen: the heads, the score, and everything that gives reason for doubt."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .doubt import abstain_lines
from .preset import show_preset
from .tables import PROTOCOLS, _console, _line, _number, _table, plural, show_probe
from .terminal import printable

if TYPE_CHECKING:
    from ..probe import Probe

__all__ = ["PROTOCOLS", "show_fit"]


def show_fit(probe: Probe, output: Path, seconds: float) -> None:
    """The score with its interval beside the baseline, which protocol gave it, and what was found."""
    if "heads" in probe.extra:
        show_heads(probe.extra["heads"])
        _line("")
    if "preset" in probe.extra:
        show_preset(probe.extra["preset"])
        _line("")
    show_probe(probe)
    _line("")
    for line in findings(probe):
        _line(line)
    _line(f"{seconds:.1f} s: {output}")


def show_heads(heads: dict[str, Any]) -> None:
    """Every head with its score, and how it stands to the one that was taken."""
    metric = heads["metric"]
    table = _table("head", "settings", metric.replace("_", " "), "95 % interval", "difference", "p")
    for each in heads["table"]:
        found, pair = each["metrics"][metric], each["difference"]
        taken = each["head"] == heads["taken"]
        params = ", ".join(f"{k}={_number(v)}" for k, v in each["params"].items() if v is not None)
        table.add_row(
            Text(each["head"], style="bold" if taken else ""),
            Text(printable(params), style="dim"),
            f"{found['value']:.3f}",
            f"{found['low']:.3f} to {found['high']:.3f}",
            "taken"
            if pair is None
            else f"{pair['value']:+.3f} [{pair['low']:+.3f}, {pair['high']:+.3f}]",
            "" if pair is None else f"{each['p_adjusted']:.2f}",
        )
    _console().print(table)
    _line(heads["sentence"])


def findings(probe: Probe) -> list[str]:
    """Sentences on what was found beside the score."""
    lines = []
    if probe.optimism:
        lines.append(_optimism(probe))
    against, sanity = probe.extra.get("against"), probe.extra.get("sanity")
    if against:
        lines.append(_against(against))
    if sanity:
        found = sanity["balanced_accuracy"]
        verdict = "holds" if sanity["holds"] else "DOES NOT HOLD"
        lines.append(
            f"shuffled labels: balanced accuracy {found['value']:.3f} "
            f"[{found['low']:.3f}, {found['high']:.3f}] {verdict} chance, {sanity['chance']:.3f}"
        )
    return lines + abstain_lines(probe.extra)


def _optimism(probe: Probe) -> str:
    tuned, settings = probe.optimism["tuned"], probe.optimism["settings"]
    metric = probe.optimism["metric"]
    honest = probe.metrics[metric]["value"]
    name = metric.replace("_", " ")
    if tuned is None or honest is None:
        return f"{name} is undefined on these images, so that tuning cannot be judged by it"
    if settings == 1:
        return (
            f"one setting, nothing tuned: {name} {tuned:.3f} on the inner folds, {honest:.3f} here"
        )
    return (
        f"{name} of the best of {settings} settings on the folds that chose it: {tuned:.3f}; "
        f"honest: {honest:.3f}"
    )


def _against(found: dict[str, Any]) -> str:
    d = found["difference"]
    verdict = (
        "WORSE" if found["worse"] else "better" if d["low"] > 0 else "no detectable difference"
    )
    return (
        f"against the old probe on {plural(found['n'], 'image')}: {100 * d['value']:+.1f} points "
        f"[{100 * d['low']:+.1f}, {100 * d['high']:+.1f}], p = {found['p']:.3f}: {verdict}; "
        f"{found['mended']} mended, {found['broken']} broken"
    )
