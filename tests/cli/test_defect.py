"""An exception that no user can mend: one message, exit code 1, and the traceback in a file."""

import json
import os

import pytest
from bottleneck_probe import usercache
from bottleneck_probe.cli import main as program
from bottleneck_probe.cli import reply


@pytest.fixture
def hidden(monkeypatch):
    """As users run it; other tests want to see exceptions."""
    monkeypatch.delenv("BOTTLENECK_TRACEBACK")
    monkeypatch.setattr(reply, "listen_for_signals", lambda: None)
    monkeypatch.setattr(reply, "_ignore_signals", lambda: None)


def work(reporter):
    raise KeyError("a name\n\x1b[31m")


def answer(as_json, work=work):
    with pytest.raises(SystemExit) as leaving:
        reply.answer("info", work, {"as_json": as_json, "quiet": True})
    return leaving.value.code


def test_people_get_a_message_and_the_file_of_the_traceback(hidden, capsys):
    assert answer(as_json=False) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: a defect of bottleneck-probe: KeyError: ")
    assert "Traceback" not in err
    assert "\x1b[31m" not in err.removeprefix("\x1b[31m")
    (line,) = [line for line in err.splitlines() if line.startswith("  where: ")]
    with open(line.removeprefix("  where: "), encoding="utf-8") as file:
        kept = file.read()
    assert "Traceback (most recent call last)" in kept
    assert "test_defect.py" in kept


def test_scripts_get_it_as_json(hidden, capsys):
    assert answer(as_json=True) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["exit_code"] == 1
    assert said["error"]["what"].startswith("a defect of bottleneck-probe: KeyError")
    assert os.path.isfile(said["error"]["where"])


def test_the_same_defect_is_kept_once(hidden, capsys):
    before = set(usercache.folder("defects").iterdir())
    for _ in range(3):
        answer(as_json=False)
    assert len(set(usercache.folder("defects").iterdir()) - before) <= 1


def test_without_a_place_to_write_it_says_how_to_see_the_traceback(
    hidden, capsys, monkeypatch, tmp_path
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "file" / "below"))
    assert answer(as_json=False) == 1
    err = capsys.readouterr().err
    assert "no traceback could be kept" in err
    assert "BOTTLENECK_TRACEBACK=1" in err


def test_who_asks_for_the_traceback_gets_the_exception(hidden, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_TRACEBACK", "1")
    with pytest.raises(KeyError):
        reply.answer("info", work, {"as_json": False, "quiet": True})


def test_one_while_the_answer_is_printed_is_told_too(hidden, capsys, monkeypatch):
    def show():
        raise ZeroDivisionError("nothing to show")

    def command(**options):
        reply.answer(
            "x", lambda reporter: reply.Reply(show=show), {"as_json": False, "quiet": True}
        )

    monkeypatch.setattr(program, "listen_for_signals", lambda: None)
    monkeypatch.setattr(program, "bottleneck", command)
    with pytest.raises(SystemExit) as leaving:
        program.main()
    assert leaving.value.code == 1
    err = capsys.readouterr().err
    assert "a defect of bottleneck-probe: ZeroDivisionError: nothing to show" in err
    assert "Traceback" not in err
    monkeypatch.setenv("BOTTLENECK_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        program.main()
