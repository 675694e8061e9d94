"""An engine of this package, end to end: what `bottleneck extract` does, into a fresh file each time."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..backbones.base import Backbone
from ..engines import select
from ..engines.base import Engine
from ..errors import EngineError
from ..images.payload import fetch, to_pixels
from ..images.preprocess import frames
from ..reporter import Reporter, Silent
from .contestant import Spec, files_of

# A run that starts an engine is done again without the start; `auto` may settle only in the second.
_TRIES = 3


class Ours:
    """`find_images` and `run`, as the command calls them: scan, read, decode, forward, publish."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._scratch = Path(spec.scratch)
        self._kept = KeptEngines()
        self._numbers = itertools.count()

    def prepare(self) -> dict[str, Any]:
        """Nothing: the first run starts the engine, as it does for a user."""
        return {}

    def run(self, folder: str, save: str | None = None) -> dict[str, Any]:
        """Features of all images below a folder, published in a new file.

        Returns
        -------
        dict
            ``images`` and ``seconds`` of a run that found its engine started, ``start_s`` of that start;
            ``engine``, ``precision``, ``resampler`` and ``batch_size`` as they came out.
        """
        start_s = 0.0
        with self._kept.in_use():
            for _ in range(_TRIES):
                before = self._kept.started
                found, seconds = self._extract(folder, save)
                if self._kept.started == before:
                    break
                start_s += self._kept.last_start_s
        environment, recipe = found["environment"], found["recipe"]
        return {
            "images": found["seen"],
            "seconds": seconds,
            "start_s": start_s,
            "engine": environment["engine"],
            "precision": recipe["precision"],
            "resampler": recipe["resampler"],
            "batch_size": environment["batch_size"],
        }

    def _extract(self, folder: str, save: str | None) -> tuple[dict[str, Any], float]:
        from ..extraction.api import find_images, run

        spec = self._spec
        output = self._scratch / f"features-{next(self._numbers)}.h5"
        started = time.perf_counter()
        found = run(
            find_images([folder]),
            output=output,
            reporter=Silent(),
            backbone=spec.backbone,
            weights=spec.weights,
            engine=spec.engine,
            precision=spec.precision,
            device=spec.device,
            batch_size=spec.batch_size,
            workers=spec.workers,
        )
        seconds = time.perf_counter() - started
        if found.computed != found.seen:
            raise EngineError(
                f"{found.computed} of {found.seen} features were computed",
                expected="all of them: what is reused or left out costs nothing",
                where=spec.name,
                next="this is a defect of bottleneck-probe: please report it",
            )
        if save is not None:
            np.save(save, np.asarray(found.features.features[:], np.float32))
        output.unlink()
        return found.to_json(), seconds

    def forward(self, folder: str, seconds: float) -> dict[str, Any]:
        """The engine alone, on one batch of real images that stays in memory.

        Parameters
        ----------
        folder : str
            Of the images.
        seconds : float
            For how long, at least.

        Returns
        -------
        dict
            ``images`` and ``seconds``, from as many threads as the engine takes (`Engine.streams`).
        """
        engine, backbone = self._kept.last()
        batch = _batch(files_of(folder), engine, backbone)
        return forward_alone(engine, batch, seconds)


class KeptEngines:
    """Engines that stay started from one run to the next, in this process only.

    A user's next `extract` starts its engine anew; the start is told apart, not hidden (`start_s`).
    """

    def __init__(self) -> None:
        self.started = 0
        self.last_start_s = 0.0
        self._engines: dict[str, tuple[Engine, select.Choice]] = {}
        self._last: tuple[Engine, Backbone] | None = None
        self._start = select.start

    def last(self) -> tuple[Engine, Backbone]:
        """The engine that was taken last, and for what.

        Raises
        ------
        EngineError
            If there was none.
        """
        if self._last is None:
            raise EngineError("no engine was started yet", next="run once before")
        return self._last

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Have the pipeline take its engines from here."""
        select.start = self.start  # the one place where the pipeline gets its engines from
        try:
            yield
        finally:
            select.start = self._start

    def start(
        self, choice: select.Choice, backbone: Backbone, reporter: Reporter
    ) -> tuple[Engine, select.Choice]:
        """`select.start`, or what it gave for the same choice before."""
        # What is said about a choice is not part of it, and a size measured once is then known.
        told = {"reason", "stated", "open_batch"}
        facts = {name: value for name, value in asdict(choice).items() if name not in told}
        key = repr((facts, backbone.fingerprints()))
        if key not in self._engines:
            began = time.perf_counter()
            engine, settled = self._start(choice, backbone, reporter)
            self.last_start_s = time.perf_counter() - began
            self.started += 1
            self._engines[key] = engine, settled
        engine, settled = self._engines[key]
        self._last = engine, backbone
        return engine, settled


def _batch(files: list[str], engine: Engine, backbone: Backbone) -> np.ndarray:
    """As many views as the engine takes at once, (m, h, w, 3) uint8."""
    rows: list[np.ndarray] = []
    for file in itertools.cycle(files):
        rows.extend(frames(to_pixels(fetch(file).content).array, backbone.preprocessing))
        if len(rows) >= engine.batch_size:
            return np.stack(rows[: engine.batch_size])
    raise AssertionError("a folder of the bench is never empty")


def forward_alone(engine: Engine, batch: np.ndarray, seconds: float) -> dict[str, Any]:
    """Run one batch again and again from all of an engine's streams; images and seconds."""
    engine.run(batch)
    done = [0] * engine.streams
    failed: list[BaseException] = []
    began = time.perf_counter()

    def work(stream: int) -> None:
        try:
            while time.perf_counter() - began < seconds:
                engine.run(batch)
                done[stream] += len(batch)
        except BaseException as error:  # a thread's exception would only be printed
            failed.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(engine.streams)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
    return {"images": sum(done), "seconds": time.perf_counter() - began}
