"""Several writers of one output, started at once: nobody loses a row, nobody gets a mixed one."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bottleneck_probe as bp
import numpy as np
from harness.nursery import Child, Nursery
from harness.world import BATCH, FIXED, litter, paint, published, settings, stub

FULL = {"rounds": 50, "writers": [2, 8]}
SMALL = {"rounds": 4, "writers": [3]}

N = 24
# All the same images; each others, which are added; all the same, and who came first is killed.
KINDS = ("same", "add", "killed", "directory")


def run(
    folder: Path, tell: Callable[[str], None], *, rounds: int, writers: list[int]
) -> dict[str, Any]:
    """`rounds` races for each number of `writers`."""
    faults: list[str] = []
    waited = races = 0
    photos = folder / "photos"
    paint(photos, range(N))
    with Nursery(folder / "children") as nursery:
        for n_writers in writers:
            rng = random.Random(n_writers)
            tables = _tables(folder / f"tables-{n_writers}", n_writers)
            for number in range(rounds):
                kind = KINDS[number % len(KINDS)]
                place = folder / "runs" / f"{n_writers}-{number}"
                place.mkdir(parents=True)
                output = place / ("x" if kind == "directory" else "x.h5")
                commands = _commands(kind, photos, tables, output, n_writers)
                barrier = place.with_suffix(".go")
                children = [
                    nursery.start(*command, barrier=str(barrier), **settings(0.003))
                    for command in commands
                ]
                barrier.touch()
                dead = _kill_the_first(children, output, rng) if kind == "killed" else None
                for child in children:
                    child.wait()
                races += 1
                waited += sum("waiting for it to end" in child.err for child in children)
                if fault := _fault(kind, children, dead, output):
                    faults.append(f"{n_writers} writers, round {number} ({kind}): {fault}")
                    tell(faults[-1])
            tell(f"{n_writers} writers: {rounds} rounds, {len(faults)} faults")
    return {
        "held": not faults and waited > 0,
        "told": f"{races - len(faults)} of {races} races of {' and '.join(map(str, writers))} "
        f"writers ended with every row in the output, and every row its own; {waited} writers "
        "waited for another and said so",
        "faults": faults[:50],
    }


def _tables(folder: Path, n_writers: int) -> list[Path]:
    """A table for each writer, which share the images out among them."""
    folder.mkdir()
    paths = [f"{('ants', 'bees')[number % 2]}/{number:05d}.png" for number in range(N)]
    tables = []
    for i in range(n_writers):
        tables.append(folder / f"{i}.csv")
        rows = [f"{path},{path.split('/')[0]}" for path in paths[i::n_writers]]
        tables[-1].write_text("\n".join(["path,label", *rows]) + "\n")
    return tables


def _commands(
    kind: str, photos: Path, tables: list[Path], output: Path, n_writers: int
) -> list[list[object]]:
    if kind == "add":
        return [
            ["extract", table, "--root", photos, "--add", "-o", output, *FIXED, "--json"]
            for table in tables
        ]
    name = f"{output}/" if kind == "directory" else output
    return [["extract", photos, "-o", name, *FIXED, "--json"]] * n_writers


def _kill_the_first(children: list[Child], output: Path, rng: random.Random) -> Child | None:
    """Kill whoever computes, some batches on."""
    batches, until = rng.randint(1, N // BATCH), time.monotonic() + 30
    while time.monotonic() < until:
        for child in children:
            if child.forwards >= batches:
                child.kill()
                return child
        time.sleep(0.001)
    return None


def _fault(kind: str, children: list[Child], dead: Child | None, output: Path) -> str:
    for child in children:
        # Who was to be killed may have ended before.
        allowed = {0, -9} if child is dead else {0}
        if child.code not in allowed or "Traceback" in child.err:
            return f"exit {child.code}: {child.err or child.out}"
    if not published(output):
        return "no output"
    try:
        found = bp.open(output)
    except bp.BottleneckError as error:
        return f"the output cannot be read: {error}"
    numbers = [int(Path(path).stem) for path in found.paths]
    if sorted(numbers) != list(range(N)):
        return f"rows of {len(numbers)} images, of {N}"
    wanted = np.array([stub.feature_of(number) for number in numbers])
    if not np.array_equal(found.features[:], wanted):
        return "features of other images"
    if left := litter(output):
        return f"left over: {left}"
    computed = BATCH * sum(child.forwards for child in children)
    if dead is None and kind != "add" and computed != N:
        return f"{computed} images were computed, of {N}"
    return ""
