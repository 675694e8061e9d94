"""The targets of the fuzzer on their seeds and on some damaged ones; atheris goes on from there."""

import importlib
import random
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TARGETS = sorted(path.stem for path in (HERE / "targets").glob("*.py") if path.stem[0] != "_")

sys.path[:0] = [str(HERE), str(HERE.parent / "faults")]


@pytest.mark.parametrize("name", TARGETS)
def test_a_reader_takes_anything(name, capsys):
    module = importlib.import_module(f"targets.{name}")
    seeds = [*getattr(module, "seeds", list)(), b"", b"\0", b"\xff" * 300][:25]
    rng = random.Random(name)
    for seed in seeds:
        module.target(seed)
    for _ in range(25):
        data = bytearray(rng.choice(seeds) or b"\0")
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        module.target(bytes(data))


def test_all_readers_of_files_of_others_are_there():
    assert {"features", "manifest", "probes", "tables", "tars"} <= set(TARGETS)
