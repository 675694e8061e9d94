"""A signal at an awkward moment: never lost, never a traceback, always 130."""

import gc
import json
import os
import signal
import sys
import weakref

import click
import pytest
from bottleneck_probe import interrupts
from bottleneck_probe.cli import main as cli
from bottleneck_probe.cli import reply
from bottleneck_probe.errors import InputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

OPTIONS = {"as_json": True, "quiet": False}


@pytest.fixture(autouse=True)
def _nothing_noted():
    yield
    interrupts.forget()


def interrupted(*unused):
    os.kill(os.getpid(), signal.SIGINT)


def code_of(work, capsys):
    """How `answer` ends, and what it says."""
    with pytest.raises(SystemExit) as leaving:
        reply.answer("extract", work, OPTIONS)
    return leaving.value.code, json.loads(capsys.readouterr().out)


def test_in_the_work(capsys):
    code, said = code_of(interrupted, capsys)
    assert (code, said["exit_code"], said["error"]["what"]) == (130, 130, "interrupted")


def test_while_the_command_prepares(capsys, monkeypatch):
    from bottleneck_probe.report import terminal

    monkeypatch.setattr(terminal, "TerminalReporter", lambda quiet: interrupted())
    code, _ = code_of(lambda reporter: pytest.fail("the work began"), capsys)
    assert code == 130


def test_right_after_the_work_failed(capsys, monkeypatch):
    real = reply._ignore_signals

    def late():
        monkeypatch.setattr(reply, "_ignore_signals", real)
        interrupted()

    def work(reporter):
        monkeypatch.setattr(reply, "_ignore_signals", late)
        raise InputError("something is wrong")

    code, said = code_of(work, capsys)
    assert code == 130
    assert said["error"]["what"] == "interrupted"


def test_before_any_command_has_begun(capsys, monkeypatch):
    """click would print "Aborted!" and end with 1, as for an error."""
    monkeypatch.setattr(click.Group, "invoke", interrupted)
    monkeypatch.setattr(sys, "argv", ["bottleneck", "backbones"])
    with pytest.raises(SystemExit) as leaving:
        cli.main()
    assert leaving.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_in_a_callback_whose_exceptions_python_drops(capsys):
    class Thing:
        pass

    def work(reporter):
        thing = Thing()
        kept = weakref.ref(thing, interrupted)
        del thing
        gc.collect()
        assert kept() is None
        interrupts.check()  # as the loop of a run does at each tick
        pytest.fail("the signal was lost")

    code, _ = code_of(work, capsys)
    assert code == 130
    assert "Traceback" not in capsys.readouterr().err
