"""Tables that are wrong somewhere: an error with line numbers, before any network, in little time."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bottleneck_probe.errors import InputError
from bottleneck_probe.images.find import find

FULL = {"rows": 100_000, "limit_s": 2.0}
SMALL = {"rows": 10_000, "limit_s": 2.0}

FILES = 200  # that exist; the table names them again and again, and many that do not


@dataclass(frozen=True)
class Case:
    """A table, and what must be said of it.

    Attributes
    ----------
    name : str
    text : bytes
    what : str
        A part of the error.
    where : str
        How the error's place ends.
    options : dict
        Of `find`; ``labels`` is replaced by the table.
    """

    name: str
    text: bytes
    what: str
    where: str
    options: dict[str, Any]


def cases(rows: int) -> list[Case]:
    """All faults, each near the end of a table of `rows` rows where it has a place."""
    good = [f"c/{i % FILES:04d}.png,{'ab'[i % FILES % 2]},train" for i in range(rows)]
    last = len(good)  # the line of the last row but one: the first line is the header

    def table(*changes: tuple[int, str], head: str = "path,label,split") -> bytes:
        lines = list(good)
        for line, text in changes:
            lines[line - 2] = text
        return "\n".join([head, *lines, ""]).encode()

    labels = {"labels": True}
    return [
        Case("empty", b"", "the table is empty", ".csv", {}),
        Case("no rows", b"path,label\n", "has no rows", ".csv", {}),
        Case(
            "no path",
            table(head="file,class,x").replace(b"c/", b"d/"),
            "found: file, class, x; expected: path",
            ".csv",
            {},
        ),
        Case("ragged", table((last, "c/1.png,a")), "another number of values", f"line {last}", {}),
        Case("NUL", table((last, "c/\0.png,a,")), "a NUL byte", f"line {last}", {}),
        Case("not UTF-8", table((last, "?")).replace(b"?", b"\xe9"), "not UTF-8", f" {last}", {}),
        Case("UTF-16", table().decode().encode("utf-16"), "UTF-16", ".csv", {}),
        Case("open quote", table((last, '"c/1.png,a,')), "cannot be read", f"line {last} on", {}),
        Case("empty path", table((last, ",a,")), "without a value", f"line {last}", {}),
        Case(
            "two labels",
            table((last, f"c/{(last - 2) % FILES:04d}.png,z,train")),
            "one path with two labels",
            f"lines {(last - 2) % FILES + 2}, {last}",
            {},
        ),
        Case(
            "two splits",
            table((last, good[last - 2].replace("train", "test"))),
            "one path with two splits",
            f"lines {(last - 2) % FILES + 2}, {last}",
            {},
        ),
        Case(
            "unknown split",
            table(*((line, good[line - 2] + "n") for line in range(last - 6, last + 1))),
            "unknown split in the column split: trainn",
            f"lines {', '.join(str(last - 6 + i) for i in range(5))} and 2 more",
            {},
        ),
        Case("column twice", table(head="path,label,path"), "of one name: path", ".csv", {}),
        Case("no such column", table(), "expected: lable", "--label-column", _column("lable")),
        Case("not 0 or 1", table(), "label columns with", "and", _column("label", "split")),
        Case("two files for one id", table((last, "c/twice,a,")), "two files", f"line {last}", {}),
        Case(
            "no row matches",
            table().replace(b"c/", b"d/d"),
            f"none of the table's {rows} rows names one of the {FILES + 2} images",
            "",
            {**labels, "path_column": "path"},
        ),
        Case(
            "labels contradict",
            table((last, f"c/{(last - 2) % FILES:04d}.png,z,train")),
            "one path with two labels",
            f"lines {(last - 2) % FILES + 2}, {last}",
            labels,
        ),
    ]


def _column(*names: str) -> dict[str, Any]:
    return {"label_columns": list(names)}


def run(folder: Path, tell: Callable[[str], None], *, rows: int, limit_s: float) -> dict[str, Any]:
    """Read every wrong table of `rows` rows, in at most `limit_s` seconds of processor time each."""
    from PIL import Image

    (folder / "c").mkdir(parents=True)
    for i in range(FILES):
        Image.new("RGB", (4, 4), (i, 0, 0)).save(folder / "c" / f"{i:04d}.png")
    for name in ("twice.png", "twice.jpg"):
        Image.new("RGB", (4, 4)).save(folder / "c" / name)
    wrong: list[str] = []
    took: dict[str, float] = {}
    for case in cases(rows):
        file = folder / "table.csv"
        file.write_bytes(case.text)
        options = dict(case.options)
        inputs: Any = file
        if options.pop("labels", False):
            inputs, options["labels"] = folder / "c", file
            options["root"] = folder
        started = time.process_time()
        try:
            find(inputs, **options)
            wrong.append(f"{case.name}: accepted")
        except InputError as error:
            if case.what not in error.what or case.where not in error.where:
                wrong.append(f"{case.name}: {error}")
            if case.where.startswith("line") and not error.where.endswith(case.where):
                wrong.append(f"{case.name}: {error.where}, expected {case.where}")
        took[case.name] = round(time.process_time() - started, 2)
        tell(f"{case.name}: {took[case.name]} s")
    slowest = max(took, key=lambda name: took[name])
    heavy = sorted({"torch", "timm", "onnxruntime", "openvino"} & set(sys.modules))
    return {
        "held": not wrong and took[slowest] <= limit_s,
        "told": f"{len(took)} faults in tables of {rows} rows: {len(took) - len(wrong)} said with their "
        f"lines, the slowest ({slowest}) in {took[slowest]} s of processor time",
        "wrong": wrong,
        "seconds": took,
        "loaded": heavy,
    }
