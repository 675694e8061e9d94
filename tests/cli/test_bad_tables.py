"""Tables and tars that are wrong, from the command: exit code 1 with the lines, before any network."""

import io
import json
import os
import tarfile
from pathlib import Path

import bottleneck_probe as bp
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner
from common import load

# Each is a table of 400 rows that is wrong near its end.
tables = load(
    Path(__file__).parents[1] / "faults" / "experiments" / "tables.py", "bottleneck_wrong_tables"
)
CASES = {case.name: case for case in tables.cases(400)}


@pytest.fixture
def extract(calls, tmp_path, monkeypatch):
    """The command with the stub, and its answer."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        command = ["extract", *map(str, arguments), "--backbone", "stub", "-o", "out/x.h5"]
        result = CliRunner().invoke(bottleneck, [*command, "--json"])
        assert result.exception is None or isinstance(result.exception, SystemExit)
        answer = json.loads(result.stdout)
        assert answer["exit_code"] == result.exit_code
        return answer

    return run


def contents(folder):
    """Every file below a folder, with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def images(stub, tmp_path):
    """The files that those tables name."""
    for number in range(tables.FILES):
        stub.paint(tmp_path / "c" / f"{number:04d}.png", number)
    for name in ("twice.png", "twice.jpg"):
        stub.paint(tmp_path / "c" / name, 1)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_table_is_exit_1_before_any_network(name, images, extract, calls, tmp_path):
    case, options = CASES[name], dict(CASES[name].options)
    (tmp_path / "table.csv").write_bytes(case.text)
    arguments = ["table.csv"]
    if options.pop("labels", False):
        arguments = ["c", "--labels", "table.csv", "--root", "."]
    for column in options.pop("label_columns", []):
        arguments += ["--label-column", column]
    if "path_column" in options:
        arguments += ["--path-column", options.pop("path_column")]
    assert not options
    before = contents(tmp_path)
    answer = extract(*arguments)
    assert answer["exit_code"] == 1
    assert case.what in answer["error"]["what"]
    assert case.where in answer["error"]["where"]
    assert calls.started == 0
    assert contents(tmp_path) == before


def test_paths_of_a_table_are_read_and_never_a_place_to_write(extract, stub, tmp_path):
    """Absolute ones and those that leave the folder: rows are relative to the common parent."""
    here, there = (stub.paint(tmp_path / name / "x.png", i) for i, name in enumerate("hi"))
    table = here.with_name("t.csv")
    table.write_text(f"path,label\nx.png,1\n../i/x.png,2\n../gone.png,3\n{there},2\n")
    before = contents(tmp_path)
    answer = extract(table)
    assert (answer["exit_code"], answer["computed"], answer["quarantined"]) == (3, 2, 1)
    found = bp.open("out/x.h5")
    assert found.header.root == str(tmp_path)
    assert list(found.paths) == ["h/x.png", "i/x.png"]
    assert found.quarantine == [("gone.png", "no such file")]
    after = contents(tmp_path)
    assert before.items() <= after.items()
    assert {path.parent for path in after if path not in before} == {tmp_path / "out"}


def test_a_row_that_repeats_is_told_and_computed_once(calls, stub, tmp_path):
    """Its label is text as it was written."""
    stub.paint(tmp_path / "1.png", 1)
    (tmp_path / "t.csv").write_text("path,label\n1.png,007\n./1.png,007\n")
    command = ["extract", f"{tmp_path / 't.csv'}", "-o", f"{tmp_path / 'x.h5'}"]
    result = CliRunner().invoke(bottleneck, [*command, "--backbone", "stub"])
    assert (result.exit_code, calls.forwards) == (0, 1)
    assert "1 image seen: 1 computed" in result.stdout
    assert "1 row repeats" in result.stderr
    assert bp.open(tmp_path / "x.h5").classes == ["007"]


def test_files_that_are_missing_are_exit_3_and_too_many_are_exit_1(extract, stub, tmp_path):
    lines = ["path", *(stub.paint(tmp_path / f"{i}.png", i).name for i in range(20))]
    (tmp_path / "t.csv").write_text("\n".join([*lines, "gone.png"]))
    answer = extract("t.csv")
    assert (answer["exit_code"], answer["quarantined"]) == (3, 1)
    assert bp.open("out/x.h5").quarantine == [("gone.png", "no such file")]
    before = contents(tmp_path / "out")
    (tmp_path / "t.csv").write_text("\n".join([*lines, *(f"gone/{i}.png" for i in range(11))]))
    answer = extract("t.csv")
    assert answer["exit_code"] == 1
    assert "11 of 31 images cannot be used" in answer["error"]["what"]
    assert answer["error"]["next"].startswith("wrong --root?")
    assert contents(tmp_path / "out") == before


@pytest.fixture
def packed(stub, tmp_path):
    """A tar of ten images and of members that nobody may have; its bytes."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:

        def add(name, content=b"", kind=tarfile.REGTYPE):
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/passwd"
            tar.addfile(member, io.BytesIO(content))

        for number in range(10):
            image = stub.paint(tmp_path / "p.png", number).read_bytes()
            add(f"ants/{number}.png", image)
        for name in ("/abs.png", "../out.png", "ants/9.png"):
            add(name, image)
        for name, kind in (
            ("link.png", tarfile.SYMTYPE),
            ("hard.png", tarfile.LNKTYPE),
            ("dev.png", tarfile.CHRTYPE),
            ("pipe.png", tarfile.FIFOTYPE),
        ):
            add(name, kind=kind)
    (tmp_path / "p.png").unlink()
    return file.getvalue()


def test_a_tar_of_a_stranger_is_exit_3_and_nothing_is_unpacked(packed, extract, tmp_path):
    (tmp_path / "p.tar").write_bytes(packed)
    answer = extract("p.tar")
    assert answer["exit_code"] == 3
    assert answer["computed"] + answer["quarantined"] == answer["seen"]
    reasons = dict(bp.open("out/x.h5").quarantine)
    for name, words in (
        ("%2Fabs.png", "absolute"),
        ("%2E%2E/out.png", "leads out"),
        ("ants/9.png", "two members of this name"),
        ("link.png", "a link"),
        ("hard.png", "a hard link"),
        ("dev.png", "a device"),
    ):
        assert words in reasons[f"p.tar/{name}"], (name, reasons)
    assert sorted(os.listdir(tmp_path)) == ["out", "p.tar"]
    assert not (tmp_path.parent / "out.png").exists()


def test_a_tar_that_is_cut_is_exit_1_and_keeps_what_precedes(packed, extract, calls, tmp_path):
    (tmp_path / "p.tar").write_bytes(packed[: 6 * 1024 + 520])
    answer = extract("p.tar")
    assert answer["exit_code"] == 1
    assert "a tar ends too early" in answer["error"]["what"]
    assert not (tmp_path / "out" / "x.h5").exists()
    assert list((tmp_path / "out" / "x.h5.parts").glob("*.h5"))
    calls.forwards = 0
    answer = extract("p.tar", "--allow-bad")
    assert (answer["exit_code"], answer["computed"], calls.forwards) == (3, 0, 0)
    assert answer["reused"] == 6
