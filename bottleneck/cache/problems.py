"""What a check has found, in sentences: scans and rows in, `Problem` out."""

from __future__ import annotations

from itertools import pairwise

from ..texts import Texts
from .examination import Examination
from .layout import Rows
from .report import Problem
from .scanning import Scan

SHOWN = 20


def problems_of_examination(found: Examination) -> list[Problem]:
    """What is wrong with a file that was examined."""
    listed = [
        Problem("root attributes" if "root attribute" in fault else "structure", fault)
        for fault in found.faults
    ]
    for each in found.scans.values():
        listed += problems_of(each)
    return listed


def problems_of(found: Scan) -> list[Problem]:
    """What is wrong with one dataset."""
    if found.fault:
        return [Problem(found.name, found.fault)]
    unreadable = set(found.unreadable)
    problems = []
    for low, high in found.bad_ranges():
        lost = low // found.block_rows in unreadable
        what = "cannot be read" if lost else "differ from their checksum"
        problems.append(Problem(found.name, what, (low, high)))
    for row in found.not_finite[:SHOWN]:
        problems.append(Problem(found.name, "NaN or infinity", (row, row)))
    if len(found.not_finite) > SHOWN:
        more = len(found.not_finite) - SHOWN
        problems.append(Problem(found.name, f"NaN or infinity in {more} more rows"))
    return problems


def row_problems(rows: Rows) -> list[Problem]:
    """What of the columns contradicts the specification, though each value is as it was written."""
    problems: list[Problem] = []
    paths, views = Texts.of(rows.paths), rows.views()
    if not paths.ascending():
        keys = rows.keys
        previous = None
        for row, path in enumerate(paths):
            place = (path.encode("utf-8", "surrogatepass"), int(views[row]))
            if previous is not None and place <= previous:
                what = "stands twice" if place == previous else "is out of order"
                problems.append(Problem("paths", what, (row, row), path))
            elif previous and place[0] == previous[0] and (keys[row] != keys[row - 1]).any():
                what = "has another key than the view before it"
                problems.append(Problem("keys", what, (row, row), path))
            previous = place
            if len(problems) >= SHOWN:
                break
    present = {path for path, _ in rows.quarantine}
    if present:
        for path in sorted(present.intersection(paths))[:SHOWN]:
            problems.append(Problem("quarantine", "stands among the rows as well", None, path))
    listed = sorted(path for path, _ in rows.quarantine)
    for path in [a for a, b in pairwise(listed) if a == b][:SHOWN]:
        problems.append(Problem("quarantine", "stands twice in the quarantine", None, path))
    return problems
