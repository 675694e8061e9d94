"""Stored paths: nothing is lost, nothing collides, whatever the system's separator is."""

import os
from types import SimpleNamespace

import pytest
from bottleneck_probe import paths
from hypothesis import example, given, settings
from hypothesis import strategies as st

# A file name as the system hands it over: any bytes but the separator and NUL.
NAMES = st.binary(min_size=1, max_size=20).filter(lambda b: b"\0" not in b)


@settings(deadline=None, max_examples=300)
@given(NAMES)
def test_any_bytes_come_back(name: bytes):
    text = os.fsdecode(name)
    stored = paths.escape(text)
    stored.encode("utf-8")  # h5py refuses surrogates
    assert os.fsencode(paths.unescape(stored)) == name


@settings(deadline=None, max_examples=300)
@given(NAMES, NAMES)
def test_two_names_never_become_one(a: bytes, b: bytes):
    assert (paths.escape(a) == paths.escape(b)) == (a == b)


@pytest.mark.parametrize("byte", [b for b in range(256) if b not in (0, 0x2F)])
def test_every_single_byte(byte: int):
    name = b"x" + bytes([byte]) + b"%41.jpg"
    assert os.fsencode(paths.unescape(paths.escape(name))) == name


def test_spellings_of_one_letter_stay_apart():
    """NFC and NFD are two files on Linux, so they are two stored paths."""
    assert paths.escape("caf\u00e9") != paths.escape("cafe\u0301")
    assert paths.unescape(paths.escape("cafe\u0301")) == "cafe\u0301"


def test_windows_separators_are_stored_as_slashes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paths.os, "sep", "\\")
    assert paths.escape("ants\\1 100%.jpg") == "ants/1 100%25.jpg"
    assert paths.unescape("ants/1 100%25.jpg") == "ants\\1 100%.jpg"


@settings(deadline=None, max_examples=200)
@given(NAMES)
def test_a_locale_of_ascii_gives_the_same_stored_path(name: bytes):
    """There every byte above 127 comes as a surrogate of its own, and must go back as one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ASCII_NAMES", True)
        listed = name.decode("ascii", "surrogateescape")
        assert paths.escape(listed) == paths.escape(name)
        assert paths.unescape(paths.escape(listed)) == listed


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec=None, exclude_characters="\0\\/"), min_size=1, max_size=8))
@example("half \ud83d\ude00 \udc80")
def test_a_name_of_windows_may_hold_half_a_character(name: str):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "os", SimpleNamespace(name="nt", sep="\\"))
        stored = paths.escape(name)
        stored.encode("utf-8")
        # Two halves beside each other are one character to Windows.
        whole = name.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        assert paths.unescape(paths.escape(whole)) == whole


def test_a_backslash_is_a_letter_elsewhere():
    if os.sep == "/":
        assert paths.escape("a\\b.jpg") == "a\\b.jpg"


def test_order_is_by_bytes_not_by_locale():
    names = ["b", "a", "B", "\u00e9", "z", "\U0001f41c", "\uffff"]
    assert sorted(names, key=paths.order) == sorted(names, key=lambda n: n.encode())
    assert sorted(names, key=paths.order)[:3] == ["B", "a", "b"]
