"""Broken files of every kind among photographs: all accounted for, and no photograph's row changes.

``BOTTLENECK_TEST_DATA`` holds ``ants-bees`` and ``malformed``; without it both are made here. Two
extractions with the same engine and batch size, with the broken files and without.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL = {"backbone": None, "engine": "onnx", "batch_size": 8, "made": False}
SMALL = {"backbone": "stub", "engine": "eager", "batch_size": 4, "made": True}

MOST_BYTES = 1.5 * 1024**3
MOST_S_AN_IMAGE = 10.0
MOST_S = 60.0


def run(
    folder: Path,
    tell: Callable[[str], None],
    *,
    backbone: str | None,
    engine: str,
    batch_size: int,
    made: bool,
) -> dict[str, Any]:
    """Extract with the broken files and without, and compare."""
    import numpy as np
    from bottleneck_probe.cache.features import open as open_features

    data = os.environ.get("BOTTLENECK_TEST_DATA")
    if data and not made:
        photos = _names(Path(data) / "ants-bees")
        broken = _names(Path(data) / "malformed")
    else:
        photos, broken = _made(folder / "made")
    alone, mixed = folder / "alone", folder / "mixed"
    names = _copy(photos, alone, "")
    _copy(photos, mixed, "")
    # Among the photographs of each class, and in the order of paths between them.
    classes = sorted({Path(name).parent.as_posix() for name in names})
    bad = _copy(
        {
            f"{classes[i % len(classes)]}/{Path(name).name}": path
            for i, (name, path) in enumerate(sorted(broken.items()))
        },
        mixed,
        "",
    )
    found = {}
    for name in ("alone", "mixed"):
        settings = {
            "images": str(folder / name),
            "output": str(folder / f"{name}.h5"),
            "backbone": backbone,
            "engine": engine,
            "batch_size": batch_size,
        }
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(settings)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        found[name] = json.loads(done.stdout.splitlines()[-1])
        tell(f"{name}: {found[name]}")
    a, b = (open_features(folder / f"{name}.h5") for name in ("alone", "mixed"))
    place = {path: i for i, path in enumerate(b.paths)}
    wanted = [place[path] for path in a.paths if path in place]
    same = len(wanted) == len(names) == len(a) and (
        np.asarray(a.features).tobytes() == np.asarray(b.features)[wanted].tobytes()
    )
    quarantined = {path for path, _ in b.quarantine}
    ended = sorted([*b.paths, *quarantined])
    every = ended == sorted([*names, *bad])
    m = found["mixed"]
    every = every and m["computed"] + m["reused"] + m["quarantined"] == m["seen"] == len(ended)
    share_s = m["seconds"] - found["alone"]["seconds"]
    broken_s = sum(m["decode_s"].get(name, 0.0) for name in bad)
    slowest = max(m["decode_s"].items(), key=lambda item: item[1])
    held = (
        every
        and same
        and m["peak"] <= MOST_BYTES
        and slowest[1] <= MOST_S_AN_IMAGE
        and share_s <= MOST_S
    )
    return {
        "held": bool(held),
        "told": f"{len(bad)} broken files among {len(names)} photographs: "
        f"{m['computed']} computed + {m['reused']} reused + {m['quarantined']} quarantined = "
        f"{m['seen']} seen, {'every' if every else 'NOT every'} file accounted for; the photographs' "
        f"rows {'bitwise' if same else 'NOT'} as without them; peak memory {m['peak'] / 1e6:.0f} MB; "
        f"slowest image {slowest[1]:.2f} s; the broken files took {share_s:.1f} s more "
        f"({broken_s:.1f} s of decoding)",
        "accounted": every,
        "bitwise": same,
        "slowest": slowest,
        "runs": {
            name: {k: v for k, v in each.items() if k != "decode_s"} for name, each in found.items()
        },
    }


def _names(root: Path) -> dict[str, Path]:
    """Relative name to file."""
    return {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def _copy(files: dict[str, Path], root: Path, prefix: str) -> list[str]:
    names = []
    for name, path in files.items():
        target = root / (prefix + name)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
        names.append(prefix + name)
    return names


def _made(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Small pictures of five formats, and what is left of them after accidents."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(7)
    kinds = ("JPEG", "PNG", "GIF", "TIFF", "WEBP")
    for i in range(20):
        kind = kinds[i % len(kinds)]
        file = io.BytesIO()
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 36)).save(file, kind)
        data = bytearray(file.getvalue())
        suffix = kind.lower().replace("jpeg", "jpg")
        whole = folder / "photos" / ("ants", "bees")[i % 2] / f"{i:02d}.{suffix}"
        whole.parent.mkdir(parents=True, exist_ok=True)
        whole.write_bytes(data)
        cut = data[: int(rng.integers(0, len(data)))]
        flipped = bytearray(data)
        for at in rng.integers(8, len(data), 6):
            flipped[at] = int(rng.integers(256))
        for accident, content in (("cut", cut), ("flipped", flipped)):
            broken = folder / "broken" / f"{i:02d}-{accident}.{suffix}"
            broken.parent.mkdir(parents=True, exist_ok=True)
            broken.write_bytes(content)
    return _names(folder / "photos"), _names(folder / "broken")


def _extract(settings: dict[str, Any]) -> None:
    """What the child does: one extraction, its peak of memory, and the time of each image."""
    if settings["backbone"] == "stub":
        path = Path(__file__).parents[2] / "extraction" / "stub.py"
        spec = importlib.util.spec_from_file_location("stub", path)
        assert spec is not None
        assert spec.loader is not None
        stub = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(stub)
        stub.install(setattr, dict.__setitem__)
    from bottleneck_probe.extraction import prepare
    from bottleneck_probe.extraction.api import find_images
    from bottleneck_probe.extraction.api import run as extract
    from bottleneck_probe.reporter import Silent

    real, seconds = prepare.Preparer.decode, {}

    def decode(self: Any, prepared: Any) -> None:
        started = time.perf_counter()
        real(self, prepared)
        # By the clock on the wall: on a busy machine it says more than the image is to blame for.
        seconds[self._samples[prepared.index].path] = time.perf_counter() - started

    prepare.Preparer.decode = decode  # type: ignore[method-assign]
    images = find_images([settings["images"]])
    started = time.monotonic()
    result = extract(
        images,
        output=settings["output"],
        reporter=Silent(),
        backbone=settings["backbone"],
        engine=settings["engine"],
        batch_size=settings["batch_size"],
        precision="fp32",
        allow_bad=True,
    )
    print(
        json.dumps(
            {
                "seen": result.seen,
                "computed": result.computed,
                "reused": result.reused,
                "quarantined": result.quarantined,
                "seconds": time.monotonic() - started,
                "cpu_s": time.process_time(),
                "peak": _peak(),
                "decode_s": seconds,
            }
        )
    )


def _peak() -> int:
    """The most memory that this process has had, in bytes."""
    try:
        return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
    except OSError:  # not Linux
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    _extract(json.loads(sys.argv[1]))
