"""The demo: photographs from a package, then the same `extract` and `fit` that a user calls."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from . import extras
from .backbones import registry
from .engines import devices, select
from .errors import InputError
from .extraction.api import find_images
from .extraction.api import run as run_extract
from .extraction.result import Extraction
from .fitting import run as run_fit
from .images.payload import payload
from .images.preprocess import apply, decoded, get_ready
from .probe import Probe
from .report.tables import plural, show_extraction, show_probe
from .reporter import Reporter

AIM_S = 55.0  # of the whole first run, its start-up included
_FIT_S = 15.0  # kept back for the heads, and for a machine that slows down
_LEAST = 200
_MEASURED = 32


@dataclass(frozen=True)
class Demo:
    """What the demo did.

    Attributes
    ----------
    folder : Path
    extraction : Extraction
    probe : Probe
    probe_file : Path
    available : int
        Photographs in the package.
    seconds : float
    """

    folder: Path
    extraction: Extraction
    probe: Probe
    probe_file: Path
    available: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """The reply of ``bottleneck demo --json``."""
        return {
            "folder": str(self.folder),
            "available": self.available,
            "extract": self.extraction.to_json(),
            "probe": str(self.probe_file),
            "protocol": self.probe.protocol,
            "metrics": self.probe.metrics,
            "baseline": self.probe.baseline,
            "examples": examples(self.probe),
            "seconds": round(self.seconds, 1),
        }


def run(folder: str, n_images: int | None, reporter: Reporter) -> Demo:
    """Lay out photographs, extract, fit.

    Parameters
    ----------
    folder : str
        Made if it is not there. Photographs, features and probe go into it.
    n_images : int or None
        None takes as many as fit into a minute on this machine, or those laid out before.
    reporter : Reporter

    Raises
    ------
    MissingExtraError
        If the package with the photographs is not installed.
    """
    started = time.monotonic()
    base = Path(folder)
    photos = base / "textiles"
    available = _available()
    laid_out = len(list(photos.glob("*/*.jpg")))
    if n_images is None:
        n_images = laid_out or _affordable(available, started, reporter)
    if n_images != laid_out:
        _lay_out(available, n_images, photos)
    total = sum(len(files) for files in available.values())
    reporter.note(
        f"{n_images:,} of {total:,} textile photographs (conformal-clip-data, MIT) in {photos}"
        + ("" if n_images == total else f"; all of them: bottleneck demo --images {total}")
    )
    probe_file = base / "textiles.probe"
    extraction = run_extract(
        find_images(str(photos)), output=base / "textiles.h5", reporter=reporter
    )
    probe, _ = run_fit(extraction.features, reporter=reporter, output=probe_file, force=True)
    seconds = time.monotonic() - started
    return Demo(base, extraction, probe, probe_file, total, seconds)


def examples(probe: Probe) -> dict[str, dict[str, Any] | None]:
    """The surest right and the surest wrong prediction among those scored out of fold."""
    answer = probe.oof.probabilities.argmax(axis=1)
    sure = probe.oof.probabilities.max(axis=1)
    found: dict[str, dict[str, Any] | None] = {}
    for name, of_kind in (("right", answer == probe.oof.y), ("wrong", answer != probe.oof.y)):
        if not of_kind.any() or probe.oof.paths is None:
            found[name] = None
            continue
        i = int(np.argmax(np.where(of_kind, sure, -1)))
        found[name] = {
            "path": probe.oof.paths[i],
            "label": probe.classes[probe.oof.y[i]],
            "predicted": probe.classes[answer[i]],
            "probability": float(sure[i]),
        }
    return found


def show(demo: Demo) -> None:
    """The tables of `extract` and `fit`, two examples, and how to go on."""
    show_extraction(demo.extraction, verbose=False)
    click.echo()
    show_probe(demo.probe)
    click.echo()
    for name, each in examples(demo.probe).items():
        if each is None:
            click.echo(f"{name}: none of them")
        else:
            click.echo(
                f"{name}: {demo.folder / 'textiles' / each['path']} is {each['label']}, "
                f"predicted {each['predicted']} ({each['probability']:.0%} sure)"
            )
    again = demo.extraction.computed == 0
    click.echo(
        f"\n{demo.seconds:.0f} s"
        + (
            f"; all {plural(demo.extraction.reused, 'feature')} were reused from the first run"
            if again
            else "; run it again: the features are reused, and it takes seconds"
        )
    )
    click.echo(
        "\nThe same on your own photographs, one sub-folder per class:\n"
        "  bottleneck extract photos/ -o photos.h5\n"
        "  bottleneck fit photos.h5 -o photos.probe\n"
        "  bottleneck predict photos.probe new-photos/ -o labels.csv"
    )


def _available() -> dict[str, list[Path]]:
    """The package's photographs by class, in order."""
    package = extras.require("conformal_clip_data", purpose="The demo")
    folders = {
        "global_defect": package.global_dir(),
        "local_defect": package.local_dir(),
        "nominal": package.nominal_dir(),
    }
    return {name: sorted(Path(folder).glob("*.jpg")) for name, folder in folders.items()}


def _affordable(available: dict[str, list[Path]], started: float, reporter: Reporter) -> int:
    """How many photographs fit into the time, measured with the engine that will run."""
    total = sum(len(files) for files in available.values())
    backbone = registry.resolve(reporter=reporter)
    choice = select.choose(backbone, n_missing=total)
    engine, _ = select.start(choice, backbone, reporter)  # exports now, so that it is not timed
    files = [file for each in available.values() for file in each[: _MEASURED // 3 + 1]]
    p = backbone.preprocessing
    get_ready()  # once a process, so not a part of what each image takes
    begin = time.monotonic()
    pixels = [apply(decoded(payload(str(f)), p).array, p) for f in files[:_MEASURED]]
    decode_s = (time.monotonic() - begin) / len(pixels) / devices.cores()
    engine.run(np.stack(pixels)[: engine.batch_size])
    begin = time.monotonic()
    engine.run(np.stack(pixels)[: engine.batch_size])
    forward_s = (time.monotonic() - begin) / engine.batch_size / engine.streams
    left = AIM_S - _FIT_S - (time.monotonic() - started)
    # A process that has just started may run slower later: a quarter is kept back.
    affordable = int(left / (decode_s + forward_s) * 0.75)
    return min(total, max(_LEAST, affordable // 4 * 4))


def _lay_out(available: dict[str, list[Path]], n: int, photos: Path) -> None:
    """Copy `n` photographs into one folder per class, spread evenly, the classes in proportion."""
    if photos.exists():
        shutil.rmtree(photos)
    total = sum(len(files) for files in available.values())
    if n > total:
        raise InputError(f"{n} photographs", expected=f"at most {total}", where="--images")
    counts = {name: n * len(files) // total for name, files in available.items()}
    counts["nominal"] += n - sum(counts.values())
    for name, files in available.items():
        (photos / name).mkdir(parents=True)
        for i in np.linspace(0, len(files) - 1, counts[name]).astype(int):
            shutil.copyfile(files[i], photos / name / files[i].name)
