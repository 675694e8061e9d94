"""A disk that fills up, and a limit on the size of files: told in numbers, and what was sealed stays."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.nursery import Child, Nursery
from harness.world import N, Scenario, fault_of_rerun, litter, scenarios, settings

FULL = {"limits": 40}
SMALL = {"limits": 5}

DISK_BYTES = 16 << 20


def run(folder: Path, tell: Callable[[str], None], *, limits: int) -> dict[str, Any]:
    """Runs with `limits` different limits on the size of a file, and runs on a small disk."""
    faults: list[str] = []
    with Nursery(folder / "children") as nursery:
        found = scenarios(folder, nursery, ["first", "update"])
        hit = 0
        for number in range(limits):
            scenario = found[number % len(found)]
            # From less than a shard, yet enough for the reply, to more than the whole file.
            limit = 3000 + number * 60_000 // limits
            output = scenario.begin(folder / "runs" / str(number))
            child = nursery.run(
                *scenario.arguments(output), **settings(0.0), limits={"RLIMIT_FSIZE": limit}
            )
            hit += child.code == 1
            if fault := _fault(scenario, output, child, "grew larger", nursery):
                faults.append(f"files of at most {limit} bytes ({scenario.name}): {fault}")
                tell(faults[-1])
        full = _small_disk(found[0], folder / "disk", nursery)
    faults += full["faults"]
    return {
        "held": not faults and hit > 0 and full["ran"],
        "told": f"{hit} of {limits} runs met a limit on the size of files; {full['told']}; "
        f"{len(faults)} faults",
        "faults": faults,
    }


def _fault(scenario: Scenario, output: Path, child: Child, words: str, nursery: Nursery) -> str:
    if child.code not in (0, 1) or "Traceback" in child.err:
        return f"exit {child.code}: {child.err}"
    if child.code == 1:
        said = child.reply["error"]["what"]
        if words not in said or "needs" not in said or str(output.parent) not in said:
            return f"it says {said!r}"
        if left := [each for each in litter(output) if each != f"{output.name}.parts"]:
            return f"left over: {left}"
        if left := list(output.parent.glob("*.parts/.*.tmp")):
            return f"left over: {left}"
    return fault_of_rerun(scenario, output, nursery)[0]


def _small_disk(scenario: Scenario, place: Path, nursery: Nursery) -> dict[str, Any]:
    """A disk of 16 MB that is full at the start, or fills up in the middle of a run."""
    place.mkdir()
    with _mounted(place) as why_not:
        if why_not:
            return {"ran": True, "faults": [], "told": f"no small disk was tried ({why_not})"}
        faults = []
        output = place / "x.h5"
        filler = place / "filler"
        _fill(filler, 2000)
        child = nursery.run(*scenario.arguments(output), **settings(0.0))
        if child.code != 1 or "disk full: needs" not in child.reply["error"]["what"]:
            faults.append(f"full at the start: exit {child.code}: {child.out}{child.err}")
        if child.forwards:
            faults.append("full at the start: it computed something")
        filler.unlink()
        child = nursery.start(*scenario.arguments(output), **settings(0.1))
        parts = place / "x.h5.parts"
        until = time.monotonic() + 30
        while not list(parts.glob("*.h5")) and time.monotonic() < until:
            time.sleep(0.002)
        _fill(filler, 0)
        child.wait()
        sealed = len(list(parts.glob("*.h5")))
        if child.code != 1 or "disk full: needs" not in child.reply["error"]["what"]:
            faults.append(f"full in the middle: exit {child.code}: {child.out}{child.err}")
        filler.unlink()
        fault, again = fault_of_rerun(scenario, output, nursery)
        if fault or not again.reply["resumed"] or again.reply["computed"] == N:
            faults.append(f"after it was full: {fault or again.reply}")
        output.unlink()
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        child = nursery.run(*scenario.arguments(output), **settings(0.0))
        said = child.reply.get("error") or {"what": child.err}
        if child.code != 1 or "no permission to write" not in said["what"] or child.forwards:
            faults.append(f"read-only: exit {child.code}, {child.forwards} batches: {said}")
        told = f"a disk of 16 MB that filled up kept {sealed} shards, which the next run used"
        return {"ran": True, "faults": faults, "told": told}


@contextmanager
def _mounted(place: Path) -> Iterator[str]:
    """A small disk at `place`; or why there is none."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        yield str(error)
        return
    if made.returncode:
        yield made.stderr.strip()
        return
    try:
        yield ""
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def _fill(file: Path, spare: int) -> None:
    """Write a file until `spare` bytes are left."""
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 12))
        except OSError:
            filler.truncate(max(0, os.fstat(filler.fileno()).st_size - spare - (spare > 0) * 4096))
