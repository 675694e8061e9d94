"""Single bits of values are flipped in a feature file: does `verify` find every one?

Which bits those are is known from the whole file: the numbers lie where HDF5 says, and each text is
looked for among the bytes. So nothing has to read a damaged file but `verify` itself.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FULL = {"flips": 1000, "rows": 3000}
SMALL = {"flips": 6, "rows": 300}

Spans = dict[str, list[tuple[int, int]]]


def run(folder: Path, tell: Callable[[str], None], *, flips: int, rows: int) -> dict[str, Any]:
    """Flip one bit at a time, a third each in features, other numbers and texts."""
    from bottleneck_probe.cache.verifying import verify

    rng = np.random.default_rng(13)
    missed: list[dict[str, Any]] = []
    counts: dict[str, int] = {}
    named = 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        whole = Path(scratch) / "whole.h5"
        _write(whole, rows)
        assert verify(whole).ok
        data = bytearray(whole.read_bytes())
        spans = value_spans(whole)
        kinds = list(spans)
        damaged = Path(scratch) / "damaged.h5"
        for number in range(flips):
            kind = kinds[number % len(kinds)]
            start, stop = spans[kind][int(rng.integers(len(spans[kind])))]
            at, bit = int(rng.integers(start, stop)), int(rng.integers(8))
            data[at] ^= 1 << bit
            damaged.write_bytes(data)
            data[at] ^= 1 << bit
            report = verify(damaged)
            counts[kind] = counts.get(kind, 0) + 1
            if report.ok:
                missed.append({"kind": kind, "byte": at, "bit": bit})
            named += any(problem.dataset != "structure" for problem in report.problems)
            damaged.unlink()
            if number % 50 == 49:
                tell(f"{number + 1} of {flips} bits flipped, {len(missed)} missed")
    found = sum(counts.values()) - len(missed)
    listed = ", ".join(f"{n} in {kind}" for kind, n in counts.items())
    return {
        "held": not missed,
        "told": f"{found:,} of {flips:,} flipped bits were found ({listed}); of {named:,} it was said "
        "in which dataset",
        "missed": missed,
    }


def value_spans(path: Path) -> Spans:
    """Where the values of a file lie: bytes by kind."""
    import h5py

    data = path.read_bytes()
    spans: Spans = {"features": [], "other numbers": [], "texts": []}
    texts: set[bytes] = set()
    with h5py.File(path) as h5:

        def collect(name: str, item: object) -> None:
            if not isinstance(item, h5py.Dataset) or not item.size:
                return
            if item.dtype.kind == "O":
                texts.update(bytes(value) for value in item[()])
                return
            start = item.id.get_offset()
            large = name == "features" or name.startswith("layers/")
            spans["features" if large else "other numbers"].append(
                (start, start + item.id.get_storage_size())
            )

        h5.visititems(collect)
        texts.update(str(value).encode() for value in h5.attrs.values() if isinstance(value, str))
    # A short text could be found where it is none.
    for text in sorted(text for text in texts if len(text) >= 5):
        at = data.find(text)
        while at >= 0:
            spans["texts"].append((at, at + len(text)))
            at = data.find(text, at + 1)
    return spans


def _write(path: Path, n: int) -> None:
    from bottleneck_probe.cache.format import Header, Layer, Rows, write
    from bottleneck_probe.recipe import fingerprint

    rng = np.random.default_rng(0)
    outputs = [{"node": "penultimate", "pooling": "none"}, {"node": "layer3", "pooling": "avg"}]
    recipe = {"modality": "image", "backbone": "resnet50", "precision": "fp32", "outputs": outputs}
    header = Header(
        recipe, {"engine": "eager", "batch_size": 4}, fingerprint(recipe, outputs[0]), "/photos"
    )
    rows = Rows(
        paths=[f"ants/{i:06}.jpg" for i in range(n)],
        keys=rng.integers(0, 256, (n, 32), np.uint8),
        labels=rng.integers(-1, 3, n).astype(np.int32),
        splits=[("train", "val", "test")[i % 3] for i in range(n)],
        classes=["carpenter", "forager", "weaver"],
        meta={"weight": rng.random(n), "folder": [f"nest {i:05}" for i in range(n)]},
        quarantine=[("ants/broken.jpg", "truncated after 75 %")],
        phash=rng.integers(0, 1 << 63, n).astype(np.uint64),
    )
    features = rng.standard_normal((n, 64)).astype(np.float32)
    layer = Layer(outputs[1], fingerprint(recipe, outputs[1]), [features[:, :16]])
    write(path, header, rows, [features], [layer])
