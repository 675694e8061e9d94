"""A fault at every single call that changes the disk: failed once, failed for ever, killed there."""

from __future__ import annotations

import errno
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.nursery import Child, Nursery
from harness.shim import CALLS
from harness.world import (
    Scenario,
    fault_of_rerun,
    published,
    rows_of,
    scenarios,
    settings,
    wrong_with,
)

SCENARIOS = ["first", "update", "directory"]
FULL = {"stride": 1, "names": SCENARIOS}
SMALL = {"stride": 113, "names": ["update", "directory"]}

# As `harness.shim` has them; the errors take turns.
MODES = ("once", "ever", "kill")
ERRORS = (errno.EIO, errno.ENOSPC)
# How messages call them.
WORDS = {"replace": "rename"}
ENDS = {"kill": {-9}, "once": {0, 1}, "ever": {0, 1}}


def run(
    folder: Path, tell: Callable[[str], None], *, stride: int, names: list[str]
) -> dict[str, Any]:
    """Every `stride`-th call of a run in each scenario, in each of `MODES`."""
    faults: list[str] = []
    hit: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    runs = 0
    with Nursery(folder / "children") as nursery:
        for scenario in scenarios(folder, nursery, names):
            for way, mode in enumerate(MODES):
                at = 1 + way * stride // len(MODES)
                while True:
                    number = ERRORS[(at + way) % 2]
                    shim = {"mode": mode, "errno": number, "at": at}
                    output = scenario.begin(folder / "runs" / f"{runs}")
                    shim["under"] = str(output.parent)
                    runs += 1
                    child = nursery.run(
                        *scenario.arguments(output), **{**settings(0.0), "shim": shim}
                    )
                    call = _hit(child)
                    if call is None:  # untouched: there were fewer calls than that
                        break
                    hit[call["call"]] += 1
                    ends[f"{mode}: exit {child.code}"] += 1
                    if fault := _fault(scenario, output, child, call, mode, nursery):
                        name = errno.errorcode[number]
                        where = f"{scenario.name}, {mode} {name} at {at} ({call['call']} "
                        faults.append(f"{where}{Path(call['path']).name}): {fault}")
                        tell(faults[-1])
                    at += stride
                tell(f"{scenario.name}, {mode}: {runs} runs, {len(faults)} faults")
    return {
        "held": not faults and runs > 0,
        "told": f"{sum(hit.values())} runs with a fault at one of their calls ({_counted(hit)}): "
        f"{len(faults)} broken",
        "calls": hit,
        "ends": ends,
        "faults": faults[:50],
    }


def _counted(hit: Counter[str]) -> str:
    return ", ".join(f"{count} {call}" for call, count in hit.most_common())


def _hit(child: Child) -> dict[str, Any] | None:
    lines = child.trace.read_text().splitlines()
    return dict(json.loads(lines[-1])) if lines else None


def _fault(
    scenario: Scenario,
    output: Path,
    child: Child,
    call: dict[str, Any],
    mode: str,
    nursery: Nursery,
) -> str:
    """What is wrong with how a run ended, with what it left, or with the next run."""
    if child.code not in ENDS[mode]:
        return f"exit {child.code}: {child.err or child.out}"
    if "Traceback" in child.err:
        return f"a traceback: {child.err}"
    if child.code == 1 and (fault := _untold(child, output, call, mode)):
        return fault
    if found := wrong_with(scenario, output):
        return found
    if child.code == 0 and not (published(output) and rows_of(output) == scenario.after):
        return "exit 0 without the rows of an unbroken run"
    expected = {output.name, f"{output.name}.parts"}
    seen = {each.name for each in output.parent.iterdir() if each.name[0] != "."}
    if seen - expected:
        return f"in sight: {sorted(seen - expected)}"
    return fault_of_rerun(scenario, output, nursery)[0]


def _untold(child: Child, output: Path, call: dict[str, Any], mode: str) -> str:
    """What the message lacks: the call that failed, and the path."""
    error = child.reply["error"]
    said = f"{error['what']} {error['where']}"
    if str(output.parent) not in said:
        return f"the message names no path: {error}"
    # Of many failures the first one told need not be the first one that happened.
    calls = [call["call"]] if mode == "once" else list(CALLS)
    if "open" in calls:  # to read it, or a folder to sync it
        calls += ["be read", "fsync"]
    if not any(WORDS.get(each, each) in said for each in calls):
        return f"the message names no call ({call['call']} of {call['path']}): {error}"
    return ""
