"""What crash safety costs a fresh extraction, measured inside of one run: sealing, syncing, publishing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Photographs: BOTTLENECK_TEST_DATA/ants-bees if it is there, else pictures that the bench makes.
FULL = {"images": 1000, "runs": 3}
SMALL = {"images": 24, "runs": 1}


def run(folder: Path, tell: Callable[[str], None], *, images: int, runs: int) -> dict[str, Any]:
    """Extract `images` photographs with the default backbone, `runs` times; the median run counts."""
    os.environ["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    photos = _photos(folder, images)
    found = []
    for number in range(runs):
        output = folder / f"{number}.h5"
        done = subprocess.run(
            [sys.executable, __file__, str(photos), str(output)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found.append(json.loads(done.stdout.splitlines()[-1]))
        tell(f"{found[-1]}")
    shares = sorted(found, key=lambda each: each["all"])
    middle = shares[len(shares) // 2]
    return {
        "held": middle["all"] <= 0.03 and middle["fsync"] <= 0.02 and middle["hash"] <= 0.05,
        "told": f"of {middle['seconds']:.1f} s for {images} images ({middle['shards']} shards): "
        f"crash safety {middle['all']:.2%}, of that fsync {middle['fsync']:.2%}; "
        f"hashing images, shards and rows {middle['hash']:.2%}; publishing as a whole "
        f"{middle['publish']:.2%}",
        "runs": found,
    }


def _photos(folder: Path, count: int) -> Path:
    """A folder of `count` photographs that all differ: links and, where these run out, noise."""
    photos = folder / "photos"
    data = os.environ.get("BOTTLENECK_TEST_DATA")
    found = sorted(Path(data).glob("ants-bees/**/*.jpg")) if data else []
    for i, path in enumerate(found[:count]):
        target = photos / path.parent.name / f"{i:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(path)
    if len(found) < count:
        from bottleneck_probe.bench import photographs

        for i in range(len(found), count):
            target = photos / "made" / f"{i:05d}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(photographs.jpeg(i, (500, 375)))
    return photos


class Clock:
    """Adds up what some functions take: by the clock on the wall, or of the thread's own processor."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.sealing = False

    def watch(self, owner: Any, name: str, label: str, now: Callable[[], float]) -> None:
        """Have a function of a module or class timed from now on."""
        real = getattr(owner, name)

        def timed(*args: Any, **options: Any) -> Any:
            if label == "seal":
                self.sealing = True
            started = now()
            try:
                return real(*args, **options)
            finally:
                taken = now() - started
                if label == "seal":
                    self.sealing = False
                for each in (label, f"{label} to publish") if not self.sealing else (label,):
                    self.seconds[each] = self.seconds.get(each, 0.0) + taken
                    self.calls[each] = self.calls.get(each, 0) + 1

        setattr(owner, name, timed)


def measure(photos: str, output: str) -> dict[str, Any]:
    """One extraction, and the shares of its time.

    Sealing goes on beside the computing and mostly costs it nothing; here all of it counts, and of
    publishing what an unsafe program would not do: reading the shards once more, and syncing.
    """
    import h5py  # noqa: F401 (its import is not the price of safety)
    from bottleneck_probe.cache import checksums, media, sealed, shards
    from bottleneck_probe.extraction import job, prepare
    from bottleneck_probe.extraction.api import find_images, run_all
    from bottleneck_probe.reporter import Silent

    clock = Clock()
    wall, own = time.perf_counter, time.thread_time
    # Each under the name by which its caller finds it.
    clock.watch(shards.Shards, "seal", "seal", wall)
    clock.watch(os, "fsync", "fsync", wall)
    clock.watch(job.sealed, "load_all", "load", wall)
    clock.watch(job.sealed, "discard_all", "discard", wall)
    clock.watch(job, "_published", "publish", wall)
    clock.watch(prepare, "key_of", "hash", own)
    clock.watch(shards, "name_of", "hash", own)
    clock.watch(shards, "digest_of", "hash", own)
    clock.watch(sealed, "digest_of", "hash", own)
    clock.watch(checksums, "digests", "hash", own)
    assert media.os is os
    found = find_images([photos])
    started = wall()
    (result,) = run_all(found, output=output, reporter=Silent(), backbone=None)
    seconds = wall() - started
    assert result.computed == len(found.samples)
    of = {name: taken / seconds for name, taken in clock.seconds.items()}
    return {
        "seconds": round(seconds, 2),
        "images": result.computed,
        "shards": clock.calls["seal"],
        "fsyncs": clock.calls["fsync"],
        "all": of["seal"] + of["load"] + of["discard"] + of["fsync to publish"],
        "fsync": of["fsync"],
        "hash": of["hash"],
        "publish": of["publish"],
        "seal": of["seal"],
    }


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
