"""Random damage in feature files and probes: each gives an error of ours, or the right values."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harness import flipping

FULL = {"files": 10_000, "seed": 0}
SMALL = {"files": 120, "seed": 1}

# Nobody answers for a file in so long only if a reader hangs: each child ends after 60 s by itself.
LONGEST_S = 300.0


def run(folder: Path, tell: Callable[[str], None], *, files: int, seed: int) -> dict[str, Any]:
    """Damage `files` copies, read each, and ask `verify`."""
    folder.mkdir(parents=True, exist_ok=True)
    flipping.originals(folder)
    counts: Counter[str] = Counter()
    faults: list[str] = []
    longest = 0.0
    start = 0
    while start < files:
        at: dict[str, Any] = {}
        for line in _lines(folder, seed, start, files):
            if "kind" in line:
                at = line
            elif "outcome" in line:
                longest = max(longest, line["seconds"])
                start = line["number"] + 1
                counts[line["outcome"] if line["outcome"] in ("refused", "right") else "wrong"] += 1
                if line["outcome"] not in ("refused", "right"):
                    faults.append(f"file {line['number']} ({at['kind']}): {line['outcome']}")
                if start % 500 == 0:
                    tell(f"{start} files, {dict(counts)}, longest {longest:.1f} s")
            else:
                if start >= files:
                    break
                counts[line["ended"]] += 1
                faults.append(f"file {at.get('number', start)} ({at.get('kind')}): {line['ended']}")
                start = at.get("number", start) + 1
    held = not faults and counts["refused"] + counts["right"] == files
    return {
        "held": held,
        "told": f"{files} damaged files: {counts['refused']} refused with an error of ours, "
        f"{counts['right']} gave the right values, {len(faults)} anything else; longest "
        f"{longest:.1f} s",
        "counts": dict(counts),
        "longest_s": longest,
        "faults": faults[:30],
    }


def _lines(folder: Path, seed: int, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """What a process says; at the end ``{"ended": ...}`` unless it went through all files."""
    numbers = [str(number) for number in (seed, start, stop)]
    program = [sys.executable, flipping.__file__, str(folder), *numbers]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        lines: queue.Queue[str] = queue.Queue()

        def pump() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)
            lines.put("")

        threading.Thread(target=pump, daemon=True).start()
        while True:
            try:
                line = lines.get(timeout=LONGEST_S)
            except queue.Empty:
                process.kill()
                yield {"ended": f"no answer within {LONGEST_S:.0f} s"}
                return
            if not line:
                code = process.wait()
                yield {"ended": f"ended with {code}"}
                return
            yield json.loads(line)
