"""What the experiments start from: images, outputs in some state, and runs that were never disturbed."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bottleneck_probe as bp
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "extraction"))

import stub
from harness.nursery import Child, Nursery

N = 24
BATCH = 2
# A shard of six images: 16 bytes of features, 32 of a key and 8 of a hash each.
SHARD_ROWS = 6
SHARD_BYTES = SHARD_ROWS * (4 * stub.D + 32 + 8)
FIXED = ["--backbone", "stub", "--engine", "eager", "--batch-size", BATCH, "--workers", 2]
QUIET = [*FIXED, "--json"]


@dataclass(frozen=True)
class Rows:
    """All that a published output says of its images, to be compared."""

    paths: list[str]
    labels: list[str]
    keys: bytes
    features: bytes
    quarantine: tuple[tuple[str, str], ...]
    fingerprint: str


def rows_of(output: Path) -> Rows:
    """Open an output and read all of it."""
    found = bp.open(output)
    return Rows(
        list(found.paths),
        [str(each) for each in found.labels],
        np.ascontiguousarray(found.keys).tobytes(),
        np.ascontiguousarray(found.features[:]).tobytes(),
        tuple((str(path), str(reason)) for path, reason in found.quarantine),
        found.fingerprint,
    )


def published(output: Path) -> bool:
    """Whether there is an output; a directory is one once it has its manifest."""
    return (output / "manifest.json" if output.suffix == "" else output).exists()


def wrong_with(scenario: Scenario, output: Path) -> str:
    """What is wrong with the output after a fault, before any rerun; empty if nothing."""
    if not published(output):
        return "" if scenario.before is None else "the published output is gone"
    try:
        if rows_of(output) not in (scenario.before, scenario.after):
            return "the published output is neither the old nor the new one"
        return _verified(output)
    except bp.BottleneckError as error:
        return f"the published output cannot be read: {error}"


def _verified(output: Path) -> str:
    """What `verify` finds wrong with an output; empty if nothing."""
    from bottleneck_probe.cache.verifying import verify

    return "; ".join(str(each) for each in verify(output).problems)


@dataclass(frozen=True)
class Scenario:
    """A state to begin a run from.

    Attributes
    ----------
    name : str
    photos : pathlib.Path
    state : pathlib.Path
        The folder of the output as it is before the run; copied for each one.
    output : str
        Name of the output in it.
    before, after : Rows or None
        Of the published output, before and after a run that nobody disturbs.
    n_missing : int
        Images that such a run computes.
    """

    name: str
    photos: Path
    state: Path
    output: str
    before: Rows | None
    after: Rows
    n_missing: int
    seconds: float

    def begin(self, folder: Path) -> Path:
        """A copy of the state in a new `folder`; the path of its output."""
        shutil.copytree(self.state, folder)
        return folder / self.output

    def arguments(self, output: Path) -> list[object]:
        """The command that goes on from here."""
        name = f"{output}/" if self.output == "x" else output
        return ["extract", self.photos, "-o", name, *QUIET]


def paint(root: Path, numbers: range) -> None:
    """Images of two classes in turn, each of a colour of its own."""
    for number in numbers:
        stub.paint(root / ("ants", "bees")[number % 2] / f"{number:05d}.png", number)


def scenarios(folder: Path, nursery: Nursery, names: list[str]) -> list[Scenario]:
    """Those of `names` that this version of the program has: first, update, publish, directory."""
    return [made for name in names if (made := _MAKE[name](folder / name, nursery)) is not None]


def _first(folder: Path, nursery: Nursery, output: str = "x.h5") -> Scenario:
    """There is no output yet."""
    paint(folder / "photos", range(N))
    (folder / "state").mkdir()
    return _finished(folder, nursery, output, None)


def _update(folder: Path, nursery: Nursery, output: str = "x.h5") -> Scenario:
    """There is one of other images: some were edited, some removed, some added since."""
    photos = folder / "photos"
    paint(photos, range(N))
    (folder / "state").mkdir()
    base = Scenario("", photos, folder / "state", output, None, None, 0, 0.0)  # type: ignore[arg-type]
    _require(nursery.run(*base.arguments(folder / "state" / output), **settings()))
    before = rows_of(folder / "state" / output)
    for number in range(6):
        stub.paint(photos / ("ants", "bees")[number % 2] / f"{number:05d}.png", 100 + number)
    for number in range(6, 10):
        (photos / ("ants", "bees")[number % 2] / f"{number:05d}.png").unlink()
    paint(photos, range(N, N + 12))
    return _finished(folder, nursery, output, before)


def _publish(folder: Path, nursery: Nursery) -> Scenario:
    """Everything is computed and sealed; only the output is to be written."""
    photos, state = folder / "photos", folder / "state"
    paint(photos, range(N))
    state.mkdir()
    made = _first_state(folder, nursery, photos, state)
    assert not (state / "x.h5").exists(), made.err
    assert len(list((state / "x.h5.parts").glob("*.h5"))) == N // SHARD_ROWS
    return _finished(folder, nursery, "x.h5", None)


def _first_state(folder: Path, nursery: Nursery, photos: Path, state: Path) -> Child:
    """A run that dies when it gives the output its name."""
    arguments = ["extract", photos, "-o", state / "x.h5", *QUIET]
    shim = {"mode": "kill", "under": str(state), "at": 1}
    shim |= {"calls": ["replace"], "path": str(state / "x.h5")}
    child = nursery.run(*arguments, shim=shim, **settings())
    for orphan in state.glob(".*.tmp"):  # another experiment's business
        orphan.unlink()
    return child


def _directory(folder: Path, nursery: Nursery) -> Scenario | None:
    """As `update`, of an output that is a directory; None where there is no such thing."""
    paint(folder / "probe", range(2))
    probe = ["extract", folder / "probe", "-o", f"{folder / 'd'}/", *QUIET]
    if nursery.run(*probe, **settings()).code:
        return None
    return _update(folder, nursery, "x")


def _finished(folder: Path, nursery: Nursery, output: str, before: Rows | None) -> Scenario:
    """Complete a scenario by one run that nobody disturbs."""
    import time

    scenario = Scenario(
        folder.name, folder / "photos", folder / "state", output, before, None, 0, 0.0  # type: ignore[arg-type]
    )  # fmt: skip
    whole = scenario.begin(folder / "unbroken")
    started = time.monotonic()
    child = nursery.run(*scenario.arguments(whole), **settings())
    seconds = time.monotonic() - started
    _require(child)
    fields: dict[str, Any] = {**scenario.__dict__}
    fields |= {"after": rows_of(whole), "n_missing": child.reply["computed"], "seconds": seconds}
    return Scenario(**fields)


def settings(delay_s: float = 0.02) -> dict[str, Any]:
    """How every run goes: shards of `SHARD_ROWS` images, and a batch takes a while."""
    return {"delay_s": delay_s, "seal_after_s": 1e6, "seal_at_bytes": SHARD_BYTES}


def _require(child: Child) -> None:
    if child.code:
        raise RuntimeError(f"exit {child.code}: {child.err}{child.out}")


def litter(output: Path) -> list[str]:
    """What lies beside an output and has no business there."""
    ours = {output.name, f".{output.name}.lock"}
    return sorted(each.name for each in output.parent.iterdir() if each.name not in ours)


def fault_of_rerun(scenario: Scenario, output: Path, nursery: Nursery) -> tuple[str, Child]:
    """Run the command again on what a fault has left; what is wrong afterwards, empty if nothing."""
    again = nursery.run(*scenario.arguments(output), **settings(0.0))
    if again.code or not published(output):
        return f"the rerun ended with {again.code}: {again.err or again.out}", again
    if rows_of(output) != scenario.after:
        return "other rows than those of an unbroken run", again
    if left := litter(output):
        return f"left over: {left}", again
    return "", again


_MAKE: dict[str, Callable[[Path, Nursery], Scenario | None]] = {
    "first": _first,
    "update": _update,
    "publish": _publish,
    "directory": _directory,
}
