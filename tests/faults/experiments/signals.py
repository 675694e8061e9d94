"""SIGINT and SIGTERM at random instants: 130 within 2 s, what is said to be kept is kept; twice: at once."""

from __future__ import annotations

import random
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.nursery import Child, Nursery
from harness.world import N, Scenario, fault_of_rerun, scenarios, settings, wrong_with

FULL = {"instants": 50, "limit_s": 2.0}
SMALL = {"instants": 2, "limit_s": 10.0}  # 2 s are for a machine that does nothing else

WAYS = ("SIGINT", "SIGTERM", "SIGINT twice", "SIGTERM twice")


def run(
    folder: Path, tell: Callable[[str], None], *, instants: int, limit_s: float
) -> dict[str, Any]:
    """`instants` interrupted runs of each kind."""
    rng = random.Random(0)
    faults: list[str] = []
    longest = dict.fromkeys(WAYS, 0.0)
    finished = kept = 0
    with Nursery(folder / "children") as nursery:
        (scenario,) = scenarios(folder, nursery, ["first"])
        for way in WAYS:
            for number in range(instants):
                output = scenario.begin(folder / "runs" / f"{way.replace(' ', '-')}-{number}")
                child = nursery.start(
                    *[each for each in scenario.arguments(output) if each != "--json"],
                    **{**settings(0.03), "whole_exit": True},
                )
                _until_it_works(child, rng)
                name = getattr(signal, way.split()[0])
                child.kill(name)
                if way.endswith("twice"):
                    time.sleep(rng.uniform(0, 0.02))
                    child.kill(name)
                sent = time.monotonic()
                code = child.wait()
                took = time.monotonic() - sent
                longest[way] = max(longest[way], took)
                finished += code == 0
                kept += _said(child)
                fault = _fault(scenario, output, child, way, nursery)
                if took > limit_s:
                    fault = fault or f"{took:.2f} s until its end"
                if fault:
                    faults.append(f"{way} {number}: {fault}")
                    tell(faults[-1])
            tell(f"{way}: {instants} instants, longest {longest[way]:.2f} s, {len(faults)} faults")
    slowest = max(longest.values())
    return {
        "held": not faults and kept > 0,
        "told": f"{len(WAYS) * instants - len(faults)} of {len(WAYS) * instants} interrupted runs "
        f"ended as they should, the slowest {slowest:.2f} s after the signal ({finished} had done "
        "all by then)",
        "longest, s": longest,
        "faults": faults[:50],
    }


def _until_it_works(child: Child, rng: random.Random) -> None:
    """Wait for a random number of batches and a little; a run has only then anything to lose."""
    batches, until = rng.randint(0, N // 2), time.monotonic() + 30
    while not (child.is_born and child.forwards >= batches) and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(rng.uniform(0.005, 0.08))


def _said(child: Child) -> int:
    """How many images it said it kept."""
    found = re.search(r"kept (\d+) of", child.err)
    return int(found[1]) if found else 0


def _fault(scenario: Scenario, output: Path, child: Child, way: str, nursery: Nursery) -> str:
    allowed = {0, 130}
    if way.endswith("twice"):
        # The system's own end.
        allowed |= {-signal.SIGINT, -signal.SIGTERM}
    if child.code not in allowed:
        return f"exit {child.code}: {child.err}"
    if "Traceback" in child.err:
        return f"a traceback: {child.err}"
    if child.code == 130 and "interrupted" not in child.err and "kept" not in child.err:
        return f"it does not say what happened: {child.err!r}"
    said = _said(child)
    if fault := wrong_with(scenario, output):
        return fault
    fault, again = fault_of_rerun(scenario, output, nursery)
    if not fault and again.reply["computed"] > N - said:
        return f"it said it kept {said}, and {again.reply['computed']} were computed again"
    return fault
