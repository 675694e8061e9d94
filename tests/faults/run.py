"""Experiments with faults, small or in full: ``python tests/faults/run.py NAME... [--full]``.

An experiment is a module of ``experiments/`` with ``FULL`` and ``SMALL`` (sizes, as keyword arguments)
and ``run(folder, tell, **sizes) -> dict``: JSON data with at least ``held`` (bool) and ``told`` (one
sentence with the figures). The result of each is a line of ``results.jsonl`` in ``--folder``; one that
is there, of the same sizes and the same code, is not run again unless ``--again`` says so. At the end
all results are printed as a Markdown table. ``all`` names every experiment, ``--list`` shows them.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
for place in (HERE.parent, HERE):  # `common`, then `harness` and `experiments`
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))


def names() -> list[str]:
    """All experiments."""
    return sorted(path.stem for path in (HERE / "experiments").glob("*.py") if path.stem[0] != "_")


def experiment(name: str) -> ModuleType:
    """One of them."""
    return importlib.import_module(f"experiments.{name}")


def code() -> str:
    """A digest of the package: results of other code are no results of this one."""
    digest = hashlib.sha256()
    for path in sorted((HERE.parents[1] / "bottleneck").rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def small(name: str, folder: Path) -> dict[str, Any]:
    """The small form, for the tests of every day."""
    module = experiment(name)
    return dict(module.run(folder, lambda sentence: None, **module.SMALL))


def main() -> int:
    """Run what was asked for; 1 if anything did not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--full", action="store_true", help="in the sizes that are reported")
    parser.add_argument("--folder", type=Path, default=Path("build/faults"))
    parser.add_argument("--again", action="store_true", help="also what has a result already")
    parser.add_argument("--set", action="append", default=[], metavar="SIZE=VALUE")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    wanted = names() if options.names == ["all"] else options.names
    if options.list or not wanted:
        for name in names():
            print(f"{name:12} {(experiment(name).__doc__ or '').strip().splitlines()[0]}")
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    os.environ["BOTTLENECK_TRACEBACK"] = "1"  # a defect must not pass for an error with exit code 1
    results = options.folder / "results.jsonl"
    for name in wanted:
        module = experiment(name)
        sizes = {**(module.FULL if options.full else module.SMALL), **_stated(options.set)}
        _run_one(name, module, sizes, results, again=options.again)
    kept = [each for each in _read(results) if each["experiment"] in wanted]
    print(_table(kept))
    latest = {each["experiment"]: each["result"]["held"] for each in kept}
    return int(not all(latest.values()))


def _stated(pairs: list[str]) -> dict[str, Any]:
    """``--set`` as keyword arguments: numbers as numbers, all else as text."""
    stated: dict[str, Any] = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        try:
            stated[name] = json.loads(value)
        except ValueError:
            stated[name] = value
    return stated


def _run_one(
    name: str, module: ModuleType, sizes: dict[str, Any], results: Path, *, again: bool
) -> None:
    version = code()
    done = [
        each
        for each in _read(results)
        if (each["experiment"], each["sizes"], each["code"]) == (name, sizes, version)
    ]
    if done and not again:
        print(f"{name}: there is a result of this code already (--again runs it once more)")
        return
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=f"bottleneck-{name}-"))
    try:
        result = module.run(folder, lambda told: print(f"{name}: {told}", flush=True), **sizes)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    line = {
        "experiment": name,
        "sizes": sizes,
        "code": version,
        "seconds": round(time.monotonic() - started, 1),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}",
        "result": result,
    }
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _read(results: Path) -> list[dict[str, Any]]:
    """The results; of several of one experiment and size the last one."""
    if not results.exists():
        return []
    lines = [json.loads(line) for line in results.read_text("utf-8").splitlines()]
    return list({(each["experiment"], json.dumps(each["sizes"])): each for each in lines}.values())


def _table(found: list[dict[str, Any]]) -> str:
    """All results as a Markdown table."""
    rows = ["| experiment | sizes | held | result | seconds |", "| --- | --- | --- | --- | --- |"]
    for each in found:
        sizes = ", ".join(f"{name} {value}" for name, value in each["sizes"].items())
        held = "yes" if each["result"]["held"] else "**no**"
        told = each["result"]["told"].replace("|", "\\|")
        rows.append(f"| {each['experiment']} | {sizes} | {held} | {told} | {each['seconds']} |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
