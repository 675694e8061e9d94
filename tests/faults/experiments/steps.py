"""A random walk over a folder of images and its feature file: every row belongs to its bytes, always."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bottleneck_probe as bp
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache.features import open as open_features
from bottleneck_probe.extraction import publish
from bottleneck_probe.paths import escape
from harness.walk import Known, extract, in_process, write_in_place

FULL = {"steps": 100_000, "walk": 2_000, "seed": 0}
SMALL = {"steps": 160, "walk": 80, "seed": 1}

COLOURS = 60_000
SPLITS = ("train", "val", "test")
CLASSES = ("ants", "bees", "wasps")
# A share of the steps is a run; the others change the folder, mostly by the rules that are hard.
RUNS = 0.35


def run(
    folder: Path, tell: Callable[[str], None], *, steps: int, walk: int, seed: int
) -> dict[str, Any]:
    """Take `steps` steps, each `walk` of them in a folder of their own, and check after each."""
    counts: dict[str, int] = {}
    wrong: list[str] = []
    done = n_rows = 0
    with in_process(folder) as calls:
        while done < steps and len(wrong) < 20:
            number = done // walk
            here = Walk(folder / f"walk-{number}", calls, seed * 1_000_003 + number)
            for _ in range(min(walk, steps - done)):
                name, faults = here.step()
                done += 1
                counts[name] = counts.get(name, 0) + 1
                wrong += [f"walk {number}, step {done} ({name}): {fault}" for fault in faults]
                if faults:
                    break  # what comes after follows from it
            n_rows += here.rows_checked
            shutil.rmtree(here.folder)
            tell(f"{done} steps, {len(wrong)} wrong")
    n_runs = sum(counts.get(name, 0) for name in set(RUNS_OF))
    return {
        "held": not wrong and done == steps,
        "told": f"{done} steps in {number + 1} folders, of them {n_runs} runs, {n_rows} rows checked; "
        f"{len(wrong)} wrong",
        "wrong": wrong[:20],
        "steps": counts,
        "rows": n_rows,
    }


class Walk:
    """One folder, what is known of it, and its feature file."""

    def __init__(self, folder: Path, calls: Any, seed: int) -> None:
        self.folder, self.root = folder, folder / "photos"
        self.output = folder / "x.h5"
        self.rows_checked = 0
        self._calls = calls
        self._rng = random.Random(seed)
        self._known = Known()
        self._backbone = "stub"
        self._split = False
        self._looked: tuple[int, int, int] | None = None
        self._had: set[bytes] = set()
        self._clock_s = 0.0
        self.root.mkdir(parents=True)
        for number in range(6):
            self._write(self.root / CLASSES[number % 2] / f"{number}.bmp")

    def step(self) -> tuple[str, list[str]]:
        """Do one thing; its name, and what is wrong afterwards."""
        names = RUNS_OF if self._rng.random() < RUNS else CHANGES_OF
        name = self._rng.choice(names)
        faults = getattr(self, f"_{name}")(self._files()) or []
        return name, [*faults, *self._wrong_rows()]

    # -- what happens to the folder ------------------------------------------------------------------

    def _files(self) -> list[str]:
        return sorted(
            os.path.join(place, name) for place, _, names in os.walk(self.root) for name in names
        )

    def _write(self, path: Path | str) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._content())

    def _content(self) -> bytes:
        return self._known.image(self._rng.randrange(COLOURS))

    def _place(self) -> Path:
        """Somewhere that a file can be, with the class of its folder; at times one that is there."""
        split = self._rng.choice(SPLITS) if self._split else ""
        return self.root / split / self._rng.choice(CLASSES) / f"{self._rng.randrange(30)}.bmp"

    def _add(self, files: list[str]) -> None:
        if len(files) < 14:
            self._write(self._place())

    def _edit(self, files: list[str]) -> None:
        write_in_place(self._rng.choice(files), self._content())

    def _edit_keeping_times(self, files: list[str]) -> None:
        write_in_place(self._rng.choice(files), self._content(), keep_times=True)

    def _replace_keeping_times(self, files: list[str]) -> None:
        path = self._rng.choice(files)
        before = os.stat(path)
        other = f"{path}.new"
        Path(other).write_bytes(self._content())
        os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
        os.replace(other, path)

    def _rename(self, files: list[str]) -> None:
        path = self._rng.choice(files)
        os.replace(path, os.path.join(os.path.dirname(path), f"r{self._rng.randrange(30)}.bmp"))

    def _relabel(self, files: list[str]) -> None:
        place = self._place()
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self._rng.choice(files), place)

    def _resplit(self, files: list[str]) -> None:
        """Into train, val and test, or out of them: the classes stay."""
        self._split = not self._split
        new = self.folder / "new"
        for path in files:
            parts = Path(path).relative_to(self.root).parts[-2:]
            split = self._rng.choice(SPLITS) if self._split else ""
            place = new / split / Path(*parts)
            while place.exists():  # of another split, under the same name
                place = place.with_name(f"m{self._rng.randrange(10_000)}.bmp")
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, place)
        shutil.rmtree(self.root)
        new.rename(self.root)

    def _swap(self, files: list[str]) -> None:
        a, b = self._rng.choice(files), self._rng.choice(files)
        if a != b:
            os.rename(a, f"{a}.swap")
            os.rename(b, a)
            os.rename(f"{a}.swap", b)

    def _swap_folders(self, files: list[str]) -> None:
        a, b = os.path.dirname(files[0]), os.path.dirname(files[-1])
        if a != b:
            os.rename(a, f"{a}.swap")
            os.rename(b, a)
            os.rename(f"{a}.swap", b)

    def _copy(self, files: list[str]) -> None:
        a, b = self._rng.choice(files), self._place()
        if len(files) < 14 and not (b.exists() and os.path.samefile(a, b)):
            b.parent.mkdir(parents=True, exist_ok=True)
            self._rng.choice((shutil.copy, shutil.copy2))(a, b)

    def _link(self, files: list[str]) -> None:
        a, b = self._rng.choice(files), self._place()
        if len(files) < 14 and not b.exists():
            b.parent.mkdir(parents=True, exist_ok=True)
            os.link(a, b)

    def _delete(self, files: list[str]) -> None:
        if len(files) > 4:
            os.unlink(self._rng.choice(files))

    def _break(self, files: list[str]) -> None:
        """Bytes that are no image; of the same size, and under the same name."""
        if len(self._broken(files)) < 3:
            write_in_place(self._rng.choice(files), self._rng.randbytes(78), keep_times=True)

    def _touch(self, files: list[str]) -> None:
        shift_s = self._rng.choice((0.0, -86_400.0, -0.001, 3_600.0))
        now_s = time.time_ns() / 1e9 + shift_s
        os.utime(self._rng.choice(files), (now_s, now_s))

    def _set_clock(self, files: list[str]) -> None:
        """This computer's clock jumps, often back; that of the file system does not."""
        self._clock_s = self._rng.choice((0.0, -86_400.0, -3.0, 86_400.0))

    def _wait(self, files: list[str]) -> None:
        """Longer than the clock's grain: what lies there counts as settled from here on."""
        time.sleep(0.015)

    # -- runs ----------------------------------------------------------------------------------------

    def _broken(self, files: list[str]) -> set[str]:
        return {path for path in files if self._key(path) not in self._known.number}

    def _key(self, path: str) -> bytes:
        return blake3(Path(path).read_bytes()).digest()

    def _extract(self, **options: Any) -> Any:
        self._calls.forwards = 0
        real = time.time
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda: real() + self._clock_s)
            stated = {"backbone": self._backbone, "allow_bad": True, **options}
            return extract(self.root, self.output, **stated)

    def _mirror(self, files: list[str], **options: Any) -> list[str]:
        """A run, and what is wrong with what it says and left."""
        had = self._had  # of the file as it was after the step before
        resumed = self.output.with_name("x.h5.parts").exists()
        found = self._extract(**options)
        broken = self._broken(files)
        keys = {self._stored(path): self._key(path) for path in files if path not in broken}
        rows = found.features
        at = {path: key.tobytes() for path, key in zip(rows.paths, rows.keys, strict=True)}
        new = len(set(keys.values()) - had)
        faults = []
        if {path: at.get(path) for path in keys} != keys:
            faults.append(f"keys {at}, expected {keys}")
        if not options.get("add") and len(at) != len(keys):
            faults.append(f"{len(at)} rows of {len(keys)} images")
        accounted = found.computed + found.reused + found.quarantined
        if not accounted == found.seen == len(files):
            faults.append(f"{accounted} accounted for, {found.seen} seen, {len(files)} are there")
        if found.quarantined != len(broken):
            faults.append(f"{found.quarantined} quarantined of {len(broken)}")
        if found.computed != self._calls.forwards or found.computed > new:
            faults.append(f"{found.computed} computed, {self._calls.forwards} forwards, {new} new")
        if not resumed and found.computed != new:
            faults.append(f"{found.computed} computed of {new} new ones")
        named = zip(rows.paths, rows.labels, rows.splits, strict=True)
        for path, label, split in named:
            parts = path.split("/")
            where = parts[0] if len(parts) == 3 else ""
            if path in keys and (label, split) != (parts[-2], where):
                faults.append(f"{path} is {label} in {split!r}")
        return faults

    def _stored(self, path: str) -> str:
        return escape(os.path.relpath(path, self.root))

    def _run(self, files: list[str]) -> list[str]:
        return self._mirror(files)

    def _run_add(self, files: list[str]) -> list[str]:
        return self._mirror(files, add=True)

    def _run_retry(self, files: list[str]) -> list[str]:
        return self._mirror(files, retry=True)

    def _run_rehash(self, files: list[str]) -> list[str]:
        return self._mirror(files, rehash=True)

    def _run_twice(self, files: list[str]) -> list[str]:
        faults = self._mirror(files)
        before = self.output.read_bytes()
        again = self._extract()
        if again.computed or self._calls.forwards or self.output.read_bytes() != before:
            faults.append(f"a second run computed {again.computed} and wrote {again.written}")
        return faults

    def _run_interrupted(self, files: list[str]) -> list[str]:
        """Ctrl-C at some forward; if none comes, the run ends as usual."""
        last = self._rng.randrange(1, 5)

        def interrupt(calls: Any) -> None:
            if calls.forwards == last:
                raise KeyboardInterrupt

        return self._cut(lambda: setattr(self._calls, "on_call", interrupt))

    def _run_cut(self, files: list[str]) -> list[str]:
        """The end comes when everything is computed, and nothing published yet."""

        def cut(*arguments: Any, **options: Any) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            return self._cut(lambda: patch.setattr(publish, "write", cut))

    def _cut(self, prepare: Callable[[], None]) -> list[str]:
        before = self.output.read_bytes() if self.output.exists() else b""
        try:
            prepare()
            self._extract(add=self._rng.random() < 0.3)
        except KeyboardInterrupt:
            now = self.output.read_bytes() if self.output.exists() else b""
            return [] if now == before else ["a run that was cut off changed the file"]
        finally:
            self._calls.on_call = None
        return []

    def _run_other_recipe(self, files: list[str]) -> list[str]:
        """Refused; or, at times, wished for: then the whole file is of that recipe."""
        if not self.output.exists():
            return []
        before = self.output.read_bytes()
        other = {"stub": "other", "other": "stub"}[self._backbone]
        try:
            self._extract(backbone=other)
            return ["another recipe was let in"]
        except bp.RecipeError:
            if self.output.read_bytes() != before:
                return ["a run that was refused changed the file"]
        if self._rng.random() < 0.3:
            self._backbone = other
            self._extract(force=True)
        return []

    # -- after each step -----------------------------------------------------------------------------

    def _wrong_rows(self) -> list[str]:
        """Rows of the published file that are not of their key's bytes; looked at when it is new."""
        if not self.output.exists():
            return []
        status = os.stat(self.output)
        now = (status.st_ino, status.st_mtime_ns, status.st_size)
        if now == self._looked:
            return []
        self._looked = now
        features = open_features(self.output)
        self.rows_checked += len(features)
        self._had = {key.tobytes() for key in features.keys}
        # The second backbone's features are 1,000 more, so that one of each cannot pass for the other.
        offset = 1000.0 if features.recipe["backbone"] == "other" else 0.0
        rows = np.asarray(features.features[:])
        colours, ones = rows[:, :3] - offset, rows[:, 3:]
        return self._known.wrong_rows(features.keys, np.hstack([colours, ones]))


RUNS_OF = [
    *("run",) * 4,
    *("run_add",) * 2,
    "run_retry",
    "run_rehash",
    *("run_twice",) * 2,
    *("run_interrupted",) * 2,
    "run_cut",
    "run_other_recipe",
]
CHANGES_OF = [
    *("add",) * 2,
    *("edit",) * 2,
    *("edit_keeping_times",) * 3,
    *("replace_keeping_times",) * 2,
    *("rename",) * 2,
    *("relabel",) * 2,
    *("swap",) * 2,
    *("copy",) * 2,
    "swap_folders",
    "resplit",
    "link",
    "delete",
    "break",
    "touch",
    "set_clock",
    "wait",
]
