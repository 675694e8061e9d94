"""What was found, in sentences: short even where nearly everything is wrong."""

import numpy as np
from bottleneck_probe.cache.examination import Examination
from bottleneck_probe.cache.problems import (
    SHOWN,
    problems_of,
    problems_of_examination,
    row_problems,
)
from bottleneck_probe.cache.report import Problem
from bottleneck_probe.cache.scanning import Scan


def test_a_dataset_that_could_not_be_looked_at_is_one_problem():
    found = Scan("keys", 100, 10, True, bad=[1, 2], not_finite=[4], fault="HDF5 crashed")
    assert problems_of(found) == [Problem("keys", "HDF5 crashed")]


def test_blocks_that_differ_or_cannot_be_read_are_named_by_rows():
    found = Scan("features", 100, 16, True, bad=[0, 1, 6], unreadable=[6], not_finite=[40])
    assert problems_of(found) == [
        Problem("features", "differ from their checksum", (0, 31)),
        Problem("features", "cannot be read", (96, 99)),
        Problem("features", "NaN or infinity", (40, 40)),
    ]


def test_of_many_rows_that_are_no_numbers_the_first_are_named_and_the_others_counted():
    found = Scan("features", 100, 16, not_finite=list(range(SHOWN)))
    assert [each.rows for each in problems_of(found)] == [(row, row) for row in range(SHOWN)]
    found.not_finite += [50, 51, 52]
    listed = problems_of(found)
    assert len(listed) == SHOWN + 1
    assert listed[-1] == Problem("features", "NaN or infinity in 3 more rows")


def test_what_an_examination_found_comes_with_its_place():
    found = Examination(
        scans={"keys": Scan("keys", fault="it cannot be read"), "labels": Scan("labels", 5, 5)},
        faults=["mine stands twice in the file", "the root attribute root is missing"],
    )
    assert problems_of_examination(found) == [
        Problem("structure", "mine stands twice in the file"),
        Problem("root attributes", "the root attribute root is missing"),
        Problem("keys", "it cannot be read"),
    ]


def test_rows_in_order_have_no_problem(rows):
    assert row_problems(rows(50)) == []


def test_rows_that_contradict_the_specification_are_named(rows):
    columns = rows(6)
    columns.paths = ["a", "c", "b", "b", "d", "d"]
    columns.view = np.array([0, 0, 0, 0, 0, 1], np.int32)
    columns.quarantine = [("c", "torn"), ("x", "torn"), ("x", "empty")]
    assert row_problems(columns) == [
        Problem("paths", "is out of order", (2, 2), "b"),
        Problem("paths", "stands twice", (3, 3), "b"),
        Problem("keys", "has another key than the view before it", (5, 5), "d"),
        Problem("quarantine", "stands among the rows as well", None, "c"),
        Problem("quarantine", "stands twice in the quarantine", None, "x"),
    ]


def test_of_a_column_in_no_order_at_all_the_first_rows_are_enough(rows):
    columns = rows(3 * SHOWN)
    columns.paths = columns.paths[::-1]
    columns.quarantine = 2 * [(path, "torn") for path in columns.paths]
    listed = row_problems(columns)
    assert [(each.dataset, each.rows) for each in listed[:SHOWN]] == [
        ("paths", (row, row)) for row in range(1, SHOWN + 1)
    ]
    assert [each.dataset for each in listed[SHOWN:]] == ["quarantine"] * 2 * SHOWN
