"""Atheris on every reader of files from others (tests/fuzz/targets): no crash, no hang, no traceback."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL = {"seconds": 600, "targets": "all"}
SMALL = {"seconds": 10, "targets": "all"}

FUZZ = Path(__file__).resolve().parents[2] / "fuzz"


def names() -> list[str]:
    """All targets."""
    found = (FUZZ / "targets").glob("*.py")
    return sorted(path.stem for path in found if path.stem[0] != "_")


def run(
    folder: Path, tell: Callable[[str], None], *, seconds: float, targets: str
) -> dict[str, Any]:
    """Fuzz each target for so long; `targets` are names with commas between, or ``all``."""
    wanted = names() if targets == "all" else targets.split(",")
    done: dict[str, int] = {}
    faults: dict[str, str] = {}
    for name in wanted:
        program = [sys.executable, str(FUZZ / "one.py"), name, str(int(seconds)), str(folder)]
        ended = subprocess.run(
            program, capture_output=True, text=True, errors="replace", check=False
        )
        counted = re.search(r"stat::number_of_executed_units:\s*(\d+)", ended.stderr)
        done[name] = int(counted[1]) if counted else 0
        if ended.returncode or not done[name]:
            text = ended.stdout[-1500:] + ended.stderr[-3000:]
            faults[name] = f"ended with {ended.returncode}: {text}"
            for found in sorted(folder.glob(f"{name}-*")):
                if found.is_file() and found.stat().st_size < 100_000:
                    faults[name] += f"\ninput {found.name}: {found.read_bytes()[:4000].hex()}"
        tell(f"{name}: {done[name]} inputs{', FAULT' if name in faults else ''}")
    listed = ", ".join(f"{name} {count:,}" for name, count in done.items())
    return {
        "held": not faults,
        "told": f"{seconds:.0f} s each; inputs: {listed}; {len(faults)} with a fault",
        "inputs": done,
        "faults": faults,
    }
