"""File names of any bytes: kept without loss in every format, read back in, shown in one line each."""

import csv
import io
import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import bottleneck_probe as bp
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.errors import BottleneckError, InputError
from bottleneck_probe.images.find import find
from bottleneck_probe.images.gather import entries_of
from bottleneck_probe.paths import escape, unescape
from bottleneck_probe.printable import printable
from click.testing import CliRunner
from common import load_stub
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows forbids most of these names")

NAMES = [
    "plain.png",
    "new\nerror: line.png",
    "cr\rlf\r\n.png",
    "tab\t and  spaces .png",
    " lead.png",
    "quote\"'`.png",
    "a,b;c|d.png",
    "\x1b[31mred\x1b[0m.png",
    "bell\x07 del\x7f.png",
    "\u202egnp.exe\u2066.png",
    unicodedata.normalize("NFC", "caf\u00e9.png"),
    unicodedata.normalize("NFD", "caf\u00e9.png"),
    "ant \U0001f41c \U0001f468\u200d\U0001f469\u200d\U0001f467.png",
    "line\u2028separator\x85.png",
    "50%.png",
    "50%25.png",
    "50%2525.png",
    "%41.png",
    "=cmd|' !A0.png",
    "-o.png",
    "+plus.png",
    "@at.png",
    "a[1]*?.png",
    "~home $HOME $(x).png",
    "back\\slash\\n.png",
    "<script>alert(1)</script>.png",
    "s3:bucket.png",
    "\udcff\udcfe not utf-8.png",
    "half \udced\udca0\udc80 surrogate.png",
    "x" * 251 + ".png",
    "\u00e9" * 125 + "x.png",
]
FOLDERS = ["ants", "bees\n\x1b[2J \udcff%"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of such files in two classes, half of them in each, and their features."""
    with pytest.MonkeyPatch.context() as patch:
        stub = load_stub()
        stub.install(patch.setattr, patch.setitem)
        folder = tmp_path_factory.mktemp("names")
        root = folder / "photos"
        for number, name in enumerate(NAMES):
            stub.paint(root / FOLDERS[number % 2] / name, number * 7 + 1)
        (root / "ants" / "torn\nwarning: none\x1b[1m.png").write_bytes(b"")
        cache = bp.extract(root, backbone="stub", output=folder / "x.h5", quiet=True)
        keys = {
            escape(os.path.relpath(os.path.join(place, name), root)): blake3(
                Path(place, name).read_bytes()
            ).digest()
            for place, _, names in os.walk(root)
            for name in names
            if not name.startswith("torn")
        }
        assert len(keys) == len(NAMES)
        probe = bp.fit(cache, head="ncm", quiet=True)
        probe.save(folder / "x.probe")
        yield SimpleNamespace(root=root, cache=cache, keys=keys, probe=probe, folder=folder)


def keys_of(found, root):
    """Stored path below `root` and key of the bytes there, of each sample without a fault."""
    return {
        escape(os.path.relpath(s.source, root)): blake3(Path(s.source).read_bytes()).digest()
        for s in found.samples
        if not s.fault
    }


def test_a_feature_file_holds_them_all(made):
    rows = zip(made.cache.paths, made.cache.keys, strict=True)
    assert {path: key.tobytes() for path, key in rows} == made.keys
    for path in made.cache.paths:
        path.encode("utf-8")
        assert (made.root / unescape(path)).is_file()
    assert made.cache.classes == ["ants", "bees\n\x1b[2J %FF%25"]
    assert [path for path, _ in made.cache.quarantine] == ["ants/torn\nwarning: none\x1b[1m.png"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_of_features_names_the_same_files(made, suffix):
    """Back in, `50%25.png` is the file `50%.png`, though there is one that is called so."""
    table = made.cache.to(made.folder / f"features{suffix}")
    found = find(table, root=made.root)
    assert keys_of(found, made.root) == made.keys
    joined = find(made.root, labels=table).samples
    assert all(s.label is not None for s in joined if not s.path.startswith("ants/torn"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_table_of_predictions_names_the_same_files(made, suffix):
    with pytest.MonkeyPatch.context() as patch:
        load_stub().install(patch.setattr, patch.setitem)
        table = made.probe.predict(made.root).to(made.folder / f"labels{suffix}")
    if suffix != ".jsonl":
        found = keys_of(find(table, root=made.root), made.root)
        assert {path: found.pop(path) for path in made.keys} == made.keys
        assert list(found) == ["ants/torn\nwarning: none\x1b[1m.png"]
        return
    lines = table.read_bytes().split(b"\n")
    assert len(lines) == len(NAMES) + 2  # with the torn one, and the end
    paths = [json.loads(line)["path"] for line in lines if line]
    assert set(paths) == {*made.keys, "ants/torn\nwarning: none\x1b[1m.png"}


@pytest.fixture
def listed(monkeypatch):
    """What `-` finds for a list on stdin."""

    def listed_(content, **options):
        buffer = SimpleNamespace(buffer=io.BytesIO(content))
        monkeypatch.setattr("bottleneck_probe.images.gather.sys.stdin", buffer)
        return find("-", **options)

    return listed_


def test_arrays_of_paths_and_lists_name_the_same_files(made, listed, monkeypatch):
    saved = np.load(made.cache.to(made.folder / "features.npz"), allow_pickle=False)
    assert {p: k.tobytes() for p, k in zip(saved["paths"], saved["keys"], strict=True)} == made.keys
    names = [os.fsencode(made.root / unescape(path)) for path in saved["paths"]]
    found = listed(b"".join(name + b"\0" for name in names), root=made.root)
    assert keys_of(found, made.root) == made.keys


def test_stored_paths_are_a_list_too(made, listed, monkeypatch):
    """As ``info --json`` and ``--to npz`` have them; the file of the very name goes first."""
    monkeypatch.chdir(made.root)
    unlike = [path for path in made.keys if "%25" not in path]
    assert any("%" in path for path in unlike)
    found = listed("\0".join(unlike).encode(), root=made.root)
    assert set(keys_of(found, made.root)) == set(unlike)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_list_of_lines_of_either_system(end):
    assert entries_of(f"a b.png{end}{end}c.png{end}".encode()) == [b"a b.png", b"c.png"]


def test_what_ends_with_nul_may_hold_anything_else():
    assert entries_of(b" \0a\nb\0\0\r\0") == [b" ", b"a\nb", b"\r"]
    assert entries_of(b"a\rb\nc\r\n") == [b"a\rb", b"c"]


def test_a_value_that_could_mean_two_files_is_an_error(tmp_path):
    for name in ("50%.png", "50%25.png"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "t.csv").write_text("path,label\n50%25.png,a\n")
    for how in ({}, {"labels": tmp_path / "t.csv"}):
        with pytest.raises(InputError, match=r"two (files|images) for one id") as caught:
            find(tmp_path if how else tmp_path / "t.csv", **how)
        assert caught.value.where.endswith("line 2")
    # All of the table together leaves one reading.
    (tmp_path / "t.csv").write_text("path,label\n50%25.png,a\n50%2525.png,b\n")
    found = find(tmp_path / "t.csv").samples
    assert [(Path(s.source).name, s.label) for s in found] == [("50%.png", "a"), ("50%25.png", "b")]
    (tmp_path / "t.csv").write_text("path,label\n50%25.png,a\n50%.png,b\n")
    found = find(tmp_path, labels=tmp_path / "t.csv").samples
    labels = {Path(s.source).name: s.label for s in found}
    assert labels == {"50%25.png": "a", "50%.png": "b"}


# What a terminal must not be sent, and what would begin another line.
RAW = {chr(c) for c in [*range(32), *range(127, 160)]} - {"\n"}
RAW |= set("\u202e\u2066\u2028\u200d")


def lines_of(result):
    text = result.stdout + result.stderr
    assert not RAW & set(text), sorted(RAW & set(text))
    lines = text.splitlines()
    assert not [line for line in lines if line.startswith(("line.png", "warning: none"))]
    return lines


def test_each_name_is_one_line_on_the_terminal(made, calls_here):
    x, probe = str(made.folder / "x.h5"), str(made.folder / "x.probe")
    run = CliRunner().invoke
    for command in (
        ["extract", str(made.root), "-o", x, "-v"],
        ["extract", str(made.root), "-o", x, "--strict"],
        ["info", x, "-v"],
        ["info", probe],
        ["score", probe, str(made.root)],
        ["predict", probe, str(made.root), "-o", str(made.folder / "p.csv")],
    ):
        result = run(bottleneck, command)
        lines = lines_of(result)
        if "-v" in command:
            shown = [line for line in lines if "torn" in line]
            assert shown == [r"  ants/torn\nwarning: none\x1b[1m.png: empty file"]
        if "--strict" in command:
            assert lines[0] == r"error: ants/torn\nwarning: none\x1b[1m.png: empty file"


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "no\nerror: such.h5"],
        ["extract", "no\nerror: such"],
        ["extract", "a\nerror: b.csv", "c"],
        ["info", "x.h5", "too\nerror: many"],
        ["extract", "x", "--framing", "\x1b[31m"],
        ["fit", "no\n\x1b[31m.h5"],
        ["predict", "no\n\u202e.probe", "x"],
        ["cache", "\x1b[31m"],
        ["\x1b[31m"],
    ],
    ids=lambda arguments: " ".join(arguments).encode("unicode_escape").decode(),
)
def test_an_error_that_repeats_a_name_stays_in_its_lines(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(bottleneck, arguments)
    assert result.exit_code in (1, 2)
    assert isinstance(result.exception, SystemExit)
    lines = lines_of(result)
    assert sum(line.lower().startswith("error:") for line in lines) == 1, lines


def test_an_error_keeps_the_name_as_it_is_for_programs():
    error = BottleneckError("no a\nb", where="c\x1b[m", next="d")
    assert error.to_dict() == {"what": "no a\nb", "expected": "", "where": "c\x1b[m", "next": "d"}
    assert str(error) == "no a\\nb\n  where: c\\x1b[m\n  next: d"


@pytest.fixture
def calls_here(monkeypatch):
    return load_stub().install(monkeypatch.setattr, monkeypatch.setitem)


@settings(deadline=None, max_examples=200)
@given(st.text())
def test_what_is_shown_is_one_line_without_controls(text):
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown.splitlines()) <= 1


ANY_NAME = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.text(min_size=1, max_size=20).map(lambda text: text.encode("utf-8", "replace")),
    st.text("%25Fa\n\r\"',;\\ =\t", min_size=1, max_size=12).map(str.encode),
).filter(lambda name: not set(name) & {0, ord("/")} and not name.startswith(b"."))


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(ANY_NAME, min_size=1, max_size=4, unique=True),
    suffix=st.sampled_from([".csv", ".npz"]),
)
def test_any_names_come_back_from_a_file(names, suffix, tmp_path_factory, listed):
    """Folder to features to a table or a list, and back to the same bytes."""
    folder = tmp_path_factory.mktemp("any")
    root = folder / "photos"
    root.mkdir()
    for number, name in enumerate(names):
        with open(os.path.join(os.fsencode(root), name + b".png"), "wb") as file:
            file.write(b"\x89PNG\r\n\x1a\n%d" % number)
    found = find(root)
    keys = keys_of(found, root)
    assert len(keys) == len(names)
    rows = bp.Features.from_arrays(
        np.eye(len(keys), 3, dtype=np.float32), None, [s.path for s in found.samples]
    )
    table = rows.to(folder / f"x{suffix}")
    if suffix == ".csv":
        again = find(table, root=root)
    else:
        stored = np.load(table, allow_pickle=False)["paths"]
        content = b"".join(os.fsencode(root / unescape(path)) + b"\0" for path in stored)
        again = listed(content, root=root)
    assert keys_of(again, root) == keys


LOCALE = """
import csv, io, json, os, runpy, sys
assert sys.getfilesystemencoding() == sys.argv[2], sys.getfilesystemencoding()
stub = runpy.run_path(sys.argv[1], run_name="stub")
stub["install"](setattr, dict.__setitem__)
from bottleneck_probe.engines import devices
devices.cpu_precisions = lambda: ("fp32",)
from bottleneck_probe.cli.main import bottleneck
for line in sys.stdin.read().splitlines():
    try:
        bottleneck(json.loads(line), prog_name="bottleneck")
    except SystemExit as leaving:
        print("exit", leaving.code, file=sys.stderr, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="locales of other systems are always UTF-8")
def test_an_ascii_locale_changes_nothing(made, tmp_path):
    """`LC_ALL=C` made names that are not ASCII other paths, so that all rows were removed."""
    before = (made.folder / "x.h5").read_bytes()
    stored = {path for path in made.keys if not path.isascii()}
    assert len(stored) >= 6
    with (tmp_path / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((p, "\u00e9") for p in sorted(stored))])
    probe, x, y = (str(tmp_path / name) for name in ("y.probe", "x.h5", "y.h5"))
    Path(x).write_bytes(before)
    commands = [
        ["extract", str(made.root), "-o", x, "-v"],
        ["extract", str(tmp_path / "t.csv"), "--root", str(made.root), "-o", y]
        + ["--backbone", "stub"],
        ["info", x, "-v"],
        ["info", x, "--json"],
        ["fit", x, "--head", "ncm", "-o", probe],
        ["predict", probe, str(made.root), "-o", str(tmp_path / "p.parquet")],
        ["predict", probe, str(made.root), "--json", "-o", str(tmp_path / "p.csv")],
        ["predict", probe, str(made.root)],
    ]
    place = Path(__file__).parent / "extraction" / "stub.py"
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", LOCALE, place, "ascii"],
        input="\n".join(json.dumps(command) for command in commands).encode(),
        capture_output=True,
        env={**environment, "PYTHONIOENCODING": "ascii:strict"},
        check=False,
    )
    said = done.stderr.decode("ascii")
    assert "Unicode" not in said, said
    codes = [line for line in said.splitlines() if line.startswith("exit ")]
    assert codes == [f"exit {code}" for code in (3, 0, 0, 0, 0, 3, 3, 3)], said
    assert "31 reused" in done.stdout.decode("utf-8")
    rows = bp.open(x)
    assert list(rows.paths) == list(made.cache.paths)
    assert rows.classes == made.cache.classes
    assert set(bp.open(y).paths) == stored
    assert bp.open(y).classes == ["\u00e9"]
    for name in ("p.parquet", "p.csv"):
        found = keys_of(find(tmp_path / name, root=made.root), made.root)
        assert made.keys.items() <= found.items()
        assert len(found) == len(made.keys) + 1
