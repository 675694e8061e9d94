"""The table of faults in README.md names tests and experiments that are there."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = HERE.parent
_NAME = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")
ROWS = [
    line
    for line in (HERE / "README.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "---" not in line and "shown by" not in line
]


@cache
def functions(file: Path) -> frozenset[str]:
    """Names of the functions of a module, those of its classes included."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip()[:50])
def test_what_shows_a_row_is_there(row):
    shown = _NAME.findall(row.split("|")[-2])
    assert shown, f"nothing shows {row}"
    for file, name in shown:
        assert (TESTS / file).is_file(), f"{file}: no such file"
        assert not name or name in functions(TESTS / file), f"{file} has no {name}"
        assert name.startswith("test_") or "/experiments/" in file


def test_every_experiment_is_in_the_table():
    named = {Path(file).stem for row in ROWS for file, _ in _NAME.findall(row)}
    there = {path.stem for path in (HERE / "experiments").glob("*.py")}
    assert there <= named
