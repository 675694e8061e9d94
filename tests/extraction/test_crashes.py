"""Decoders that take the process with them: the next run finds out which image it was."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import bottleneck_probe as bp
import pytest
from bottleneck_probe.extraction.journal import Journal, Verdict, journal_path
from bottleneck_probe.images.limits import Limits
from bottleneck_probe.images.trial import Trial
from PIL import Image

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
STUB = Path(__file__).with_name("stub.py")

# Python imports this when it starts: in the command, and in the process that decodes alone.
DEADLY = """
import ctypes, os, signal, time
from pathlib import Path
from PIL import PngImagePlugin

real = PngImagePlugin.PngImageFile._open

def _open(self):
    data = self.fp.getvalue()
    if b"SEGV" in data:
        ctypes.string_at(0)
    if b"KILL" in data:
        os.kill(os.getpid(), signal.SIGKILL)
    if b"ONCE" in data:
        flag = Path(os.environ["DEADLY_FLAG"])
        if not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    if b"HANG" in data:
        time.sleep(60)
    if b"HUNGRY" in data:
        bytearray(6 << 30)
    real(self)

PngImagePlugin.PngImageFile._open = _open
"""


@pytest.fixture
def deadly(tmp_path, monkeypatch):
    """Lets processes started from here die of some images."""
    folder = tmp_path / "deadly"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.setenv("DEADLY_FLAG", str(tmp_path / "flag"))
    monkeypatch.syspath_prepend(str(folder))


def mark(path, how):
    """Write an image that `DEADLY` knows: text behind the end of a PNG is no part of the picture."""
    path.write_bytes(path.read_bytes() + how)


@pytest.fixture
def command(tmp_path):
    def run(*options):
        line = [sys.executable, str(STUB), "0", "60", "extract", "photos", "-o", "x.h5"]
        line += ["--backbone", "stub", "--engine", "eager", "--workers", "2", "--json", *options]
        done = subprocess.run(
            line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        reply = json.loads(done.stdout) if done.stdout else None
        return done.returncode, reply, done.stderr

    return run


def test_an_image_that_crashes_the_decoder_is_found_and_quarantined(
    stub, photos, command, deadly, tmp_path
):
    root = photos(12)
    bad = root / "ants" / "00004.png"
    mark(bad, b"SEGV")
    code, reply, _ = command()
    assert (code, reply) == (-signal.SIGSEGV, None)
    journal = journal_path(tmp_path / "x.h5")
    assert "ants/00004.png" in Journal(journal).suspects
    code, reply, said = command()
    assert code == 3
    assert (reply["seen"], reply["quarantined"]) == (12, 1)
    assert reply["computed"] + reply["reused"] == 11
    assert "ants/00004.png: decoder crashed (signal 11)" in said
    assert bp.open(tmp_path / "x.h5").quarantine == [
        ("ants/00004.png", "decoder crashed (signal 11)")
    ]
    # Not tried again, whatever its name is now, also if all files are read.
    code, reply, said = command()
    assert (code, reply["reused"], said.count("decoder crashed")) == (3, 11, 0)
    bad.rename(root / "bees" / "renamed.png")
    code, reply, _ = command("--rehash")
    assert (code, reply["computed"], reply["quarantined"]) == (3, 0, 1)
    # Tried again if asked for, in a process of its own; and mended it is an image as any other.
    code, _, said = command("--retry")
    assert code == 3
    assert "bees/renamed.png: decoder crashed (signal 11)" in said
    stub.paint(root / "bees" / "renamed.png", 700)
    code, reply, _ = command("--retry")
    assert (code, reply["computed"], reply["quarantined"]) == (0, 1, 0)


def test_what_is_killed_from_outside_holds_nothing_against_an_image(
    photos, command, deadly, tmp_path
):
    """The process that tries an image may be killed from outside as well."""
    root = photos(8)
    mark(root / "bees" / "00003.png", b"ONCE")
    journal = journal_path(tmp_path / "x.h5")
    with Journal(journal) as kept:
        kept.suspects = ["bees/00003.png", "ants/00002.png", "ants/gone.png"]
    code, reply, said = command()
    assert (tmp_path / "flag").exists()
    assert (code, reply["computed"], reply["quarantined"]) == (0, 8, 0)
    assert "crashed" not in said
    assert not journal.exists()


def test_several_crashes_at_once_are_all_found(photos, command, deadly, tmp_path):
    root = photos(10)
    for name in ("ants/00000.png", "ants/00002.png", "bees/00001.png"):
        mark(root / name, b"KILL")
    codes = []
    while (result := command("--allow-bad"))[0] < 0 and len(codes) < 5:
        codes.append(result[0])
    assert 1 <= len(codes) <= 3
    code, reply, _ = result
    assert (code, reply["quarantined"]) == (3, 3)
    assert (
        "killed, most likely because memory ran out" in bp.open(tmp_path / "x.h5").quarantine[0][1]
    )


@pytest.mark.parametrize("how", ["SEGV", "HANG", "HUNGRY", "", "broken"])
def test_one_image_alone(stub, deadly, tmp_path, how):
    path = stub.paint(tmp_path / "a.png", 5)
    content = path.read_bytes()[: 20 if how == "broken" else None] + how.encode()
    good = stub.paint(tmp_path / "b.png", 6).read_bytes()
    limits = Limits(max_pixels=1000, decode_timeout_s=0.2)
    with Trial(limits) as trial:
        reasons = [trial.reason(each) for each in (good, content, good)]
    assert reasons[::2] == [None, None]
    expected = {
        "SEGV": "decoder crashed (signal 11)",
        "HANG": "decoding took over 0.2 s",
        "HUNGRY": "needs more memory than 0.5 GB to decode",
        "": None,
        "broken": None,
    }
    assert reasons[1] == expected[how]


def test_a_journal_names_the_last_image_of_each_thread(tmp_path):
    path = tmp_path / ".x.journal"
    journal = Journal(path)
    threads = [journal.thread(), journal.thread()]
    verdict = Verdict("ab" * 32, "d", "decoder crashed (signal 11)", {"pillow": "13"})
    journal.verdicts[verdict.key] = verdict
    journal.suspects = ["old"]
    names = ["a\nb", 'c"d', "\u00e9", "e"]
    for i, name in enumerate(names):
        journal.take_up(threads[i % 2], name)
    # As a killed process leaves it.
    found = Journal(path)
    assert sorted(found.suspects) == ["e", "old", "\u00e9"]
    assert found.verdicts == {verdict.key: verdict}
    with found:
        found.cleared()
    assert Journal(path).suspects == []
    with found:
        found.verdicts.clear()
    assert not path.exists()


def test_a_journal_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr("bottleneck_probe.extraction.journal._MOST_BYTES", 1000)
    journal = Journal(tmp_path / "j")
    for i in range(500):
        journal.take_up(1 + i % 3, f"image {i}")
        assert (tmp_path / "j").stat().st_size < 1200
    assert sorted(Journal(tmp_path / "j").suspects) == ["image 497", "image 498", "image 499"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]\n[1]\nnull\n",
        b'["at", 1]\n["crashed", "zz", 1, 2, 3]',
        b"[",
        b"[" * 100_000,
        b'["at", 1, "\\ud800a"]',
        b'["at", 1, "a\\u0000"]',
        b'["crashed", "%s", "a", "\\ud800", {}]' % (b"0" * 64),
        b'["crashed", "%s\\n", "a", "b", {}]' % (b"0" * 64),
        b'["crashed", "%s", "a", "b", {"c": [[]]}]' % (b"0" * 64),
    ],
)
def test_whatever_lies_there_is_no_error(calls, photos, tmp_path, content):
    path = journal_path(tmp_path / "x.h5")
    path.write_bytes(content + b'\n["at", 2, "ours.png"]\n')
    journal = Journal(path)
    assert (journal.suspects, journal.verdicts) == (["ours.png"], {})
    bp.extract(photos(2), output=tmp_path / "x.h5", backbone="stub", quiet=True)
    assert not path.exists()


def test_a_journal_that_cannot_be_written_is_left_out(tmp_path):
    journal = Journal(tmp_path / "missing" / "j")
    with journal:
        journal.take_up(journal.thread(), "a")
    assert not (tmp_path / "missing").exists()


def test_it_lies_beside_a_directory_and_behind_a_link(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "link.h5").symlink_to(tmp_path / "cache" / "x.h5")
    assert journal_path(tmp_path / "cache") == tmp_path / ".cache.journal"
    assert journal_path(tmp_path / "link.h5") == tmp_path / "cache" / ".x.h5.journal"


def test_a_name_of_255_bytes_has_a_journal(tmp_path):
    path = journal_path(tmp_path / ("x" * 255))
    assert len(path.name) < 250
    with Journal(path) as journal:
        journal.take_up(1, "a")
        assert path.exists()


def test_a_run_that_ends_in_order_leaves_no_journal(calls, photos, tmp_path):
    bp.extract(photos(4), output=tmp_path / "x.h5", backbone="stub", quiet=True)
    assert not journal_path(tmp_path / "x.h5").exists()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "new.png")
    calls.on_call = lambda calls: (_ for _ in ()).throw(RuntimeError("a defect"))
    with pytest.raises(RuntimeError):
        bp.extract(tmp_path / "photos", output=tmp_path / "x.h5", backbone="stub", quiet=True)
    assert not journal_path(tmp_path / "x.h5").exists()
