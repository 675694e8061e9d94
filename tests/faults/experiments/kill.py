"""SIGKILL at random instants of an extraction, then a rerun: no row is lost, at most a shard of work."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.nursery import Child, Nursery
from harness.world import (
    BATCH,
    SHARD_ROWS,
    Scenario,
    fault_of_rerun,
    scenarios,
    settings,
    wrong_with,
)

FULL = {"instants": 200, "seed": 0}
SMALL = {"instants": 6, "seed": 1}


def run(folder: Path, tell: Callable[[str], None], *, instants: int, seed: int) -> dict[str, Any]:
    """Kill `instants` runs, each at a random instant before its end."""
    rng = random.Random(seed)
    faults: list[str] = []
    lost: list[int] = []
    twice: list[int] = []
    published = resumed = too_late = 0
    with Nursery(folder / "children") as nursery:
        found = scenarios(folder, nursery, ["first", "update", "publish", "directory"])
        counts = dict.fromkeys((each.name for each in found), 0)
        for number in range(instants):
            scenario = found[number % len(found)]
            killed = None
            latest = scenario.seconds
            # Half of the instants are spread over the time of a run. The others follow the work, so
            # that a busy machine, which is slow to start, meets the middle of it too.
            batches = rng.randint(0, scenario.n_missing // BATCH) if number // len(found) % 2 else 0
            while killed is None:  # a run that ended before its kill says nothing
                output = scenario.begin(folder / "runs" / f"{number}-{too_late}")
                instant_s = rng.uniform(0, 0.1 if batches else latest)
                killed = _killed(scenario, output, batches, instant_s, nursery)
                too_late += killed is None
                latest *= 0.97
            counts[scenario.name] += 1
            fault, again = _checked(scenario, output, nursery)
            resumed += bool(again.reply.get("resumed"))
            published += bool(again.reply) and not again.reply["computed"]
            # What had been given to a shard and is computed again; batches in flight, at most 32
            # images, come on top of it, as they do where nothing is ever stored.
            lost.append(again.reply.get("computed", 0) + killed.stored - scenario.n_missing)
            twice.append((killed.forwards + again.forwards) * BATCH - scenario.n_missing)
            if lost[-1] > SHARD_ROWS:
                fault = fault or f"{lost[-1]} stored rows were lost"
            if fault:
                faults.append(f"instant {number} ({scenario.name}): {fault}")
                tell(faults[-1])
            if number % 20 == 19:
                tell(f"{number + 1} of {instants} kills, {len(faults)} faults")
    held = not faults and resumed > 0
    return {
        "held": held,
        "told": f"{instants - len(faults)} of {instants} killed runs ended, after a rerun, equal "
        f"to an unbroken one; lost at most {max(lost)} stored rows (a shard has {SHARD_ROWS}), "
        f"with the batches in flight at most {max(twice)} images were computed twice",
        "kills": counts,
        "resumed": resumed,
        "nothing left to compute": published,
        "lost rows, mean": sum(lost) / len(lost),
        "computed twice, mean": sum(twice) / len(twice),
        "faults": faults,
    }


def _killed(
    scenario: Scenario, output: Path, batches: int, instant_s: float, nursery: Nursery
) -> Child | None:
    """Kill a run `instant_s` after so many batches; None if it had ended by then."""
    child = nursery.start(*scenario.arguments(output), **settings())
    until = time.monotonic() + 30
    while child.forwards < batches and time.monotonic() < until:
        time.sleep(0.001)
    time.sleep(instant_s)
    child.kill()
    return child if child.wait() == -9 else None


def _checked(scenario: Scenario, output: Path, nursery: Nursery) -> tuple[str, Child]:
    """What is wrong after a kill and a rerun, and the rerun."""
    fault = wrong_with(scenario, output)
    wrong, again = fault_of_rerun(scenario, output, nursery)
    return fault or wrong, again
