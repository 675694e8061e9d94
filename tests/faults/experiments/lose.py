"""A power cut at random instants: what was not synced is dropped, torn or reordered, then a rerun."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.lost import Disk, read_log
from harness.nursery import Nursery
from harness.world import (
    SHARD_ROWS,
    Scenario,
    fault_of_rerun,
    published,
    rows_of,
    scenarios,
    settings,
    wrong_with,
)

FULL = {"seeds": 200}
SMALL = {"seeds": 8}


def run(folder: Path, tell: Callable[[str], None], *, seeds: int) -> dict[str, Any]:
    """Cut the power `seeds` times, at a random call each time, the last one included."""
    faults: list[str] = []
    kept = 0
    with Nursery(folder / "children") as nursery:
        found = scenarios(folder, nursery, ["first", "update", "publish", "directory"])
        logs = [_logged(scenario, nursery) for scenario in found]
        for seed in range(seeds):
            rng = random.Random(seed)
            scenario, log = found[seed % len(found)], logs[seed % len(found)]
            # One in six after the very last call: what was said to be done has to be there.
            length = len(log) if seed // len(found) % 6 == 5 else rng.randint(0, len(log))
            output = folder / "runs" / f"{seed}" / scenario.output
            output.parent.parent.mkdir(exist_ok=True)
            disk = Disk(scenario.state)
            for call in _moved(log[:length], scenario.state):
                disk.apply(call)
            disk.cut(output.parent, rng)
            promised = _sealed(log[:length])
            kept += promised
            if fault := _fault(scenario, output, length == len(log), promised, nursery):
                faults.append(
                    f"seed {seed} ({scenario.name}, call {length} of {len(log)}): {fault}"
                )
                tell(faults[-1])
            if seed % 50 == 49:
                tell(f"{seed + 1} of {seeds} power cuts, {len(faults)} faults")
    return {
        "held": not faults,
        "told": f"{seeds - len(faults)} of {seeds} power cuts left a whole output or none, lost no "
        f"sealed shard ({kept} were promised by then), and a rerun equalled an unbroken run",
        "calls": {each.name: len(log) for each, log in zip(found, logs, strict=True)},
        "faults": faults,
    }


def _logged(scenario: Scenario, nursery: Nursery) -> list[dict[str, Any]]:
    """All calls of an undisturbed run that change the disk, as if it had been in the state itself."""
    output = scenario.begin(scenario.state.with_name("logged"))
    shim = {"mode": "log", "under": str(output.parent)}
    child = nursery.run(*scenario.arguments(output), **{**settings(0.0), "shim": shim})
    assert child.code == 0, child.err
    return read_log(child.trace)


def _moved(log: list[dict[str, Any]], state: Path) -> list[dict[str, Any]]:
    """The calls with paths in `state`, which is what they began from."""
    logged, here = str(state.with_name("logged")), str(state)
    paths = ("path", "source")
    return [
        {
            name: here + value[len(logged) :] if name in paths else value
            for name, value in call.items()
        }
        for call in log
    ]


def _sealed(log: list[dict[str, Any]]) -> int:
    """How many new shards the run took for safe by then: it had gone on to something else."""
    promised = waiting = 0
    for call in log:
        if call["call"] == "replace" and ".parts" in call["path"]:
            waiting += 1
        elif not call["path"].endswith(".parts"):
            promised, waiting = promised + waiting, 0
    return promised


def _fault(scenario: Scenario, output: Path, ended: bool, promised: int, nursery: Nursery) -> str:
    """What is wrong with what a power cut has left, and with the next run."""
    if wrong := wrong_with(scenario, output):
        return wrong
    if ended and not (published(output) and rows_of(output) == scenario.after):
        return "the run had ended, and its output is not there"
    fault, again = fault_of_rerun(scenario, output, nursery)
    if not fault and again.reply["computed"] > max(0, scenario.n_missing - promised * SHARD_ROWS):
        fault = f"{again.reply['computed']} images computed again, of {promised} shards promised"
    return fault
