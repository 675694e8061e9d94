"""How the files beside this one were made: ``python make.py FOLDER``, an empty one."""

import json
import sys
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe.cache.shards import Shards
from PIL import Image

OPTIONS = {
    "engine": "eager",
    "batch_size": 4,
    "device": "cpu",
    "precision": "fp32",
    "layer": ["penultimate", "blocks.0"],
    "quiet": True,
}


def paint(root: Path) -> None:
    """Four small pictures of each of two classes, and a broken one."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:40, 0:56]
    for split in ("train", "test"):
        for name, colour in (("ants", (30, 160, 60)), ("bees é", (170, 40, 40))):
            for i in range(2):
                folder = root / split / name / ("near" if i else "")
                folder.mkdir(parents=True, exist_ok=True)
                waves = 40 * np.sin(x / (3 + i) + rng.random()) + 30 * np.cos(y / 5)
                pixels = np.clip(np.array(colour) + waves[..., None], 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    (root / "train" / "ants" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nxx")


def main() -> None:
    """Write all files into the folder that is named."""
    out = Path(sys.argv[1])
    paint(out / "photos")
    found = bp.extract(out / "photos", output=out / "feature-file-1.h5", **OPTIONS)
    recorded = {"recipe": found.recipe, "environment": found.environment}
    shards = Shards(out / "shards-1", found.fingerprint, **recorded)
    shards.append(found.keys[:3], np.asarray(found.features[:3]), found.phash[:3])
    shards.seal()
    bp.extract(out / "photos", output=f"{out}/directory-1/", **OPTIONS)
    probe = bp.fit(found, folds=2, repeats=1, quiet=True)
    probe.save(out / "probe-3.probe")
    outputs = {name: np.asarray(found.output(name).features[:]) for name in found.outputs}
    known = {
        "content": found.features.stored.identity,
        "fingerprint": found.fingerprint,
        "outputs": found.outputs,
        "paths": found.paths.tolist(),
        "labels": found.labels.tolist(),
        "splits": found.splits.tolist(),
        "quarantine": found.quarantine,
        "keys": [key.tobytes().hex() for key in found.keys],
        "phash": [int(value) for value in found.phash],
        "meta": {name: list(column) for name, column in found.meta.items()},
        "sums": {name: X.sum(axis=1, dtype=np.float64).tolist() for name, X in outputs.items()},
        "first": outputs[found.outputs[0]][0, :4].tolist(),
        "answers": probe.predict_proba(outputs[found.outputs[0]]).tolist(),
        "accuracy": probe.metrics["accuracy"]["value"],
    }
    text = json.dumps(known, indent=1, ensure_ascii=False)
    (out / "known.json").write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
