"""How often the 95 % intervals of `fit` hold: draws from populations, appended to files, and a table.

A population is a cached set of a few thousand labelled images. A draw takes n of them, `fit` makes a probe
and an interval from these alone, and the truth is what this very probe scores on all the others. The draw
takes each class in its share of the population. Run it again and it goes on where it stopped.

    python tests/intervals_hold/experiment.py --full --folder build/intervals
    python tests/intervals_hold/experiment.py --population digits --n 30 --draws 20
    python tests/intervals_hold/experiment.py --full --only-table
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes side by side, one thread each

import argparse
import hashlib
import json
import multiprocessing
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe.evaluate import metrics
from bottleneck_probe.evaluate.intervals import clopper_pearson, wilson

SHOWN = ("accuracy", "balanced_accuracy")
THREE = ("textiles", "defects", "digits")
# population, head, n, draws: what the documentation's table holds.
FULL = [
    *((name, "logistic", n, d) for n, d in ((30, 500), (100, 500), (400, 150)) for name in THREE),
    *((name, "all", 100, 100) for name in THREE),
]


@dataclass(frozen=True)
class Population:
    """Features (n, d) float32 and class indices (n,)."""

    X: np.ndarray
    y: np.ndarray


def textiles(folder: Path) -> Population:
    """2,000 photographs in 3 classes, as 500, 500 and 1,000; one class is hardly found."""
    return _textiles(folder, ("global_defect", "local_defect", "nominal"))


def defects(folder: Path) -> Population:
    """1,500 photographs in 2 classes, as 500 and 1,000: easy, 98 % and more."""
    return _textiles(folder, ("global_defect", "nominal"))


def hidden(folder: Path) -> Population:
    """1,500 photographs in 2 classes, as 500 and 1,000: little better than the frequent class."""
    return _textiles(folder, ("local_defect", "nominal"))


def rare(folder: Path) -> Population:
    """1,250 photographs in 3 classes, 1 : 1 : 8."""
    return _textiles(folder, ("global_defect", "local_defect", "nominal"), (125, 125, 1000))


def digits(folder: Path) -> Population:
    """1,797 handwritten digits in 10 classes, enlarged and run through the network: a steep curve."""
    return _extracted(folder / "digits.h5", _lay_out_digits)


def pixels(folder: Path) -> Population:
    """The same digits as their 64 pixels: nothing has to be extracted."""
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    return Population(X.astype(np.float32), y)


POPULATIONS: dict[str, Callable[[Path], Population]] = {
    f.__name__: f for f in (textiles, defects, hidden, rare, digits, pixels)
}


def draw(population: Population, n: int, number: int, head: str = "logistic") -> dict[str, Any]:
    """One draw: what `fit` claims, and what is true of its probe.

    Returns
    -------
    dict
        ``draw``, ``seconds``, and ``metrics``: by name [value, low, high, truth].
    """
    rng = np.random.default_rng([number, n])
    rows = within_classes(population.y, n, rng)
    rest = np.setdiff1d(np.arange(len(population.y)), rows)
    started = time.perf_counter()
    names = [f"{c:02d}" for c in range(population.y.max() + 1)]
    features = bp.Features.from_arrays(population.X[rows], [names[c] for c in population.y[rows]])
    probe = bp.fit(features, head=head, quiet=True)
    seconds = time.perf_counter() - started
    assert probe.classes == names, "every class is in every draw"
    found = truths(population.y[rest], probe.predict_proba(population.X[rest]))
    return {
        "draw": number,
        "seconds": round(seconds, 3),
        "metrics": {
            name: [m["value"], m["low"], m["high"], found[name]]
            for name, m in probe.metrics.items()
        },
    }


def within_classes(y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` rows, each class in its share, rounded by the largest remainders; equal ones by lot.

    Always the same class of two equal ones would bias the score: 30 of the textiles always had an eighth
    image of the defect that is easily found, never of the one that is hardly found, and scored 0.8 points
    above the truth for it.
    """
    share = n * np.bincount(y) / len(y)
    counts = share.astype(int)
    remainder = np.round(share - counts, 9)
    lot = rng.spawn(1)[0].permutation(len(counts))
    counts[np.lexsort((lot, -remainder))[: n - counts.sum()]] += 1
    return np.concatenate(
        [rng.permutation(np.flatnonzero(y == c))[:count] for c, count in enumerate(counts)]
    )


def truths(y: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Every metric of one fit on many images."""
    k, alike = probabilities.shape[1], np.ones(len(y))
    confusion = metrics.confusion_matrix(y, probabilities.argmax(axis=1), k)
    return metrics.values(confusion) | {
        name: getattr(metrics, name)(y, probabilities, alike) for name in metrics.PROBABILITIES
    }


@dataclass(frozen=True)
class Coverage:
    """Draws of one population, head and n, for one metric.

    Attributes
    ----------
    draws, held : int
    low, high : float
        Clopper and Pearson's 95 % interval of the share that held.
    width : float
        Mean width, relative to Wilson's interval of the same score on n images.
    bias : float
        Mean of score minus truth; positive is optimistic.
    truth : float
        Mean.
    above, below : int
        Draws whose truth lay above or below the interval.
    """

    draws: int
    held: int
    low: float
    high: float
    width: float
    bias: float
    truth: float
    above: int
    below: int


def summarise(rows: Sequence[dict[str, Any]], n: int, metric: str) -> Coverage:
    """What the draws say of one metric."""
    value, low, high, truth = np.array([row["metrics"][metric] for row in rows]).T
    # A truth of 1 and a bound of 1 are equal, whatever the last bit says.
    above, below = int(np.sum(truth > high + 1e-9)), int(np.sum(truth < low - 1e-9))
    held = len(rows) - above - below
    plain_low, plain_high = wilson(np.clip(value, 0, 1), n)
    return Coverage(
        len(rows),
        held,
        *clopper_pearson(held / len(rows), len(rows)),
        width=float(np.mean(high - low) / np.mean(plain_high - plain_low)),
        bias=float(np.mean(value - truth)),
        truth=float(np.mean(truth)),
        above=above,
        below=below,
    )


def table(found: dict[tuple[str, str, int], list[dict[str, Any]]], names: Sequence[str]) -> str:
    """The draws as a Markdown table."""
    lines = [
        "| images | head | n | metric | truth | held | its 95 % interval | width | bias |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (population, head, n), rows in found.items():
        for name in names:
            c = summarise(rows, n, name)
            lines.append(
                f"| {population} | {head} | {n} | {name.replace('_', ' ')} | {c.truth:.1%} "
                f"| {c.held} of {c.draws} ({c.held / c.draws:.1%}) | {c.low:.1%} to {c.high:.1%} "
                f"| {c.width:.2f} | {100 * c.bias:+.1f} |"
            )
    return "\n".join(lines)


def read(file: Path) -> dict[int, dict[str, Any]]:
    """Draws by number; a line that was cut off in the middle is left out."""
    found = {}
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        found[row["draw"]] = row
    return found


def run(
    jobs: Sequence[tuple[str, str, int, int]], folder: Path, processes: int, limit_s: float
) -> dict[tuple[str, str, int], list[dict[str, Any]]]:
    """Make the draws that are missing, append each to its file, and return all."""
    folder.mkdir(parents=True, exist_ok=True)
    tag, until = _code(), time.monotonic() + limit_s
    for name, head, n, draws in jobs:
        file = folder / f"{name}-{head}-{n}.jsonl"
        missing = [i for i in range(draws) if i not in read(file)]
        if not missing or time.monotonic() > until:
            continue
        population = POPULATIONS[name](folder)
        with file.open("a") as out:
            if file.stat().st_size and not file.read_text().endswith("\n"):
                out.write("\n")
            for row in _drawn(population, n, head, missing, processes):
                out.write(json.dumps(row | {"code": tag}) + "\n")
                out.flush()
                if time.monotonic() > until:
                    break
        print(f"{name} {head} {n}: {len(read(file))} of {draws} draws", flush=True)
    found = {}
    for name, head, n, draws in jobs:
        rows = [
            row for i, row in sorted(read(folder / f"{name}-{head}-{n}.jsonl").items()) if i < draws
        ]
        if rows:
            found[name, head, n] = rows
    codes = {row.get("code") for rows in found.values() for row in rows}
    if len(codes) > 1:
        print(f"these draws were made by {len(codes)} versions of the code")
    return found


def _drawn(
    population: Population, n: int, head: str, numbers: Sequence[int], processes: int
) -> Iterator[dict[str, Any]]:
    if processes < 2:
        yield from (draw(population, n, number, head) for number in numbers)
        return
    # Spawned, not forked: threads of BLAS do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(
        processes, _start, (population, n, head)
    ) as pool:
        yield from pool.imap_unordered(_work, numbers)


_shared: dict[str, Any] = {}


def _start(population: Population, n: int, head: str) -> None:
    _shared.update(population=population, n=n, head=head)


def _work(number: int) -> dict[str, Any]:
    return draw(_shared["population"], _shared["n"], number, _shared["head"])


def _textiles(folder: Path, classes: Sequence[str], counts: Sequence[int] = ()) -> Population:
    everything = _extracted(folder / "textiles.h5", _lay_out_textiles)
    names = ("global_defect", "local_defect", "nominal")
    rows = [np.flatnonzero(everything.y == names.index(name)) for name in classes]
    if counts:
        rng = np.random.default_rng(0)
        rows = [rng.permutation(r)[:count] for r, count in zip(rows, counts, strict=True)]
    y = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    return Population(everything.X[np.concatenate(rows)], y)


def _extracted(file: Path, lay_out: Callable[[Path], None]) -> Population:
    """The features of a folder of images, kept in `file`."""
    if not file.exists():
        with tempfile.TemporaryDirectory() as images:
            lay_out(Path(images))
            bp.extract(images, output=file, quiet=True)
    features = bp.open(file)
    return Population(np.asarray(features.features, np.float32), np.asarray(features.y, np.intp))


def _lay_out_textiles(folder: Path) -> None:
    import conformal_clip_data as package

    sources = {
        "global_defect": package.global_dir(),
        "local_defect": package.local_dir(),
        "nominal": package.nominal_dir(),
    }
    for name, source in sources.items():
        (folder / name).mkdir()
        for file in sorted(Path(source).glob("*.jpg")):
            (folder / name / file.name).write_bytes(file.read_bytes())


def _lay_out_digits(folder: Path) -> None:
    from PIL import Image
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    for i, (image, label) in enumerate(zip(X.reshape(-1, 8, 8), y, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        large = Image.fromarray((image * 255 / 16).astype(np.uint8)).resize(
            (224, 224), Image.BICUBIC
        )
        large.save(folder / str(label) / f"{i:04d}.png")


def _code() -> str:
    """A short hash of the package's code that a draw depends on."""
    base = Path(bp.__file__).parent
    files = sorted([*base.glob("evaluate/*.py"), *base.glob("heads/*.py")])
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--full", action="store_true", help="all draws of the documentation's table"
    )
    parser.add_argument("--population", choices=POPULATIONS, default="pixels")
    parser.add_argument("--head", default="logistic")
    parser.add_argument("--n", type=int, default=30)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("build/intervals"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    parser.add_argument("--all-metrics", action="store_true")
    parser.add_argument("--only-table", action="store_true", help="make no draws")
    asked = parser.parse_args(arguments)
    jobs = FULL if asked.full else [(asked.population, asked.head, asked.n, asked.draws)]
    limit = 0.0 if asked.only_table else asked.minutes * 60
    found = run(jobs, asked.folder, asked.processes, limit - 1e-3 if asked.only_table else limit)
    print(table(found, metrics.METRICS if asked.all_metrics else SHOWN))
    seconds = defaultdict(list)
    for key, rows in found.items():
        seconds[key] += [row["seconds"] for row in rows]
    for (name, head, n), each in seconds.items():
        print(f"{name} {head} {n}: {np.median(each):.2f} s a draw, {sum(each) / 60:.1f} min in all")


if __name__ == "__main__":
    main()
