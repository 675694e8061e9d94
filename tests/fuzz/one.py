"""Fuzz one reader with atheris: ``python tests/fuzz/one.py TARGET SECONDS FOLDER``.

A target is a module of ``targets/`` with ``target(data: bytes)``, which raises nothing, and perhaps
``seeds() -> list[bytes]``. What it has found lies in FOLDER afterwards and is gone on with the next time.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# One input may take so long, a child that hangs included, and so much memory.
LONGEST_S = 100
MEMORY_MB = 3000


def main() -> None:
    """Go on until the time is over or something raises."""
    import atheris

    name, seconds, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3]).resolve()
    sys.path.insert(0, str(HERE))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with atheris.instrument_imports(include=["bottleneck_probe"]):
        module = importlib.import_module(f"targets.{name}")
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(getattr(module, "seeds", list)()):
        (corpus / f"seed-{number}").write_bytes(seed)
    flags = [f"-max_total_time={seconds}", f"-timeout={LONGEST_S}", f"-rss_limit_mb={MEMORY_MB}"]
    flags += [f"-artifact_prefix={folder}/{name}-", "-print_final_stats=1", "-max_len=65536"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], module.target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
