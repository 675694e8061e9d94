"""One process of the experiment `flips`: damages, reads, and says after each what came out.

Run as a program, because what it reads may end it: ``python flipping.py FOLDER SEED START STOP``. A
line of JSON on stdout before each file, and one after.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bottleneck_probe.cache.verifying import verify
from bottleneck_probe.errors import BottleneckError
from harness import hurt

# Of what is damaged; files without a trailer are those of earlier versions, tried in a child each.
KINDS = ("features", "targets", "features-old", "logistic", "svm-rbf", "forged")
WEIGHTS = (36, 12, 8, 20, 12, 12)
# `verify` is asked of every file that can be read, and of one in so many that cannot.
VERIFY_EVERY = 25


def originals(folder: Path) -> None:
    """Write what will be damaged."""
    hurt.feature_file(folder / "features.h5")
    hurt.target_file(folder / "targets.h5")
    hurt.feature_file(folder / "features-old.h5", end=False)
    for head in ("logistic", "svm-rbf"):
        hurt.probe_file(folder / f"{head}.probe", head)


def main() -> None:
    """Go through the files from START to STOP."""
    folder, seed, start, stop = Path(sys.argv[1]), *map(int, sys.argv[2:])
    sound = {path.stem: hurt.content(path) for path in sorted(folder.glob("*.*")) if path.is_file()}
    data = {path.stem: path.read_bytes() for path in folder.glob("*.*") if path.is_file()}
    suffix = {path.stem: path.suffix for path in folder.glob("*.*") if path.is_file()}
    work = folder / f"work-{start}"
    work.mkdir(exist_ok=True)
    for number in range(start, stop):
        rng = random.Random(f"{seed}-{number}")
        kind = rng.choices(KINDS, WEIGHTS)[0]
        stem = "logistic" if kind == "forged" else kind
        path = work / f"{number}{suffix[stem]}"
        print(json.dumps({"number": number, "kind": kind, "path": str(path)}), flush=True)
        path.write_bytes(
            hurt.forge(data[stem], rng) if kind == "forged" else hurt.damage(data[stem], rng)
        )
        started = time.monotonic()
        outcome = _outcome(path, None if kind == "forged" else sound[stem], number)
        seconds = round(time.monotonic() - started, 2)
        print(json.dumps({"number": number, "outcome": outcome, "seconds": seconds}), flush=True)
        if outcome in ("refused", "right"):
            path.unlink()


def _outcome(path: Path, sound: list | None, number: int) -> str:
    """``refused``, ``right``, or what must not be."""
    try:
        found = hurt.content(path)
    except BottleneckError as error:
        if not error.what or "\n" in error.what:
            return f"says {error.what!r}"
        good = number % VERIFY_EVERY == 0 and _called_good(path)
        return "verify calls good what cannot be read" if good is True else good or "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    if sound is None or hurt.equal(found, sound):
        return "right"
    good = _called_good(path)
    if good is not False:
        return f"wrong values, and verify: {good}"
    return "wrong values"


def _called_good(path: Path) -> bool | str:
    """Whether `verify` finds nothing wrong; or what it raised that it must not."""
    try:
        return bool(verify(path).ok)
    except BottleneckError:
        return False
    except Exception as error:
        return f"verify raised {type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
