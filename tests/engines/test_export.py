"""Exported networks are made once, found by what decides them, and checked before use."""

import json
from dataclasses import replace

import pytest
from bottleneck_probe import usercache
from bottleneck_probe.backbones import registry
from bottleneck_probe.engines import export
from bottleneck_probe.reporter import Silent


@pytest.fixture
def exported(tmp_path, monkeypatch):
    """A user cache of its own, and an export that is instant and counted."""
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path))
    made = []

    def fake(backbone, reporter):
        made.append(backbone)
        return f"network {len(made)}".encode()

    monkeypatch.setattr(export, "_export", fake)
    return made


def test_a_network_is_exported_once(exported):
    backbone = registry.resolve()
    reporter = Silent()
    assert export.find(backbone) is None
    first = export.find_or_export(backbone, reporter)
    assert export.find_or_export(backbone, reporter) == first == export.find(backbone)
    assert len(exported) == 1
    assert len([note for note in reporter.notes if "exporting" in note]) == 1
    assert first.read_bytes() == b"network 1"


def test_what_is_before_the_network_does_not_decide_it_and_what_is_inside_does(exported):
    backbone = registry.resolve()
    first = export.find_or_export(backbone, Silent())
    for outside in ({"resize": 300}, {"interpolation": "nearest"}):
        assert export.find(backbone.with_preprocessing(**outside)) == first
    for inside in ({"crop": (192, 192)}, {"mean": (0.1, 0.5, 0.5)}, {"std": (0.2, 0.5, 0.5)}):
        assert export.find(backbone.with_preprocessing(**inside)) is None
    other = replace(backbone, weights=replace(backbone.weights, sha256="0" * 64))
    assert export.find(other) is None
    assert export.find_or_export(other, Silent()) != first


@pytest.mark.parametrize("damage", ["flip", "cut", "gone", "note", "list", "empty note"])
def test_a_damaged_network_is_not_used_but_made_again(damage, exported):
    backbone = registry.resolve()
    path = export.find_or_export(backbone, Silent())
    note = next(p for p in usercache.files() if p.suffix == ".json" and "networks" in p.parts)
    if damage == "flip":
        path.write_bytes(b"Network 1")
    elif damage == "cut":
        path.write_bytes(b"netw")
    elif damage == "gone":
        path.unlink()
    elif damage == "note":
        note.write_text(json.dumps({"other": 1}))
    elif damage == "list":
        note.write_text("[]")
    else:
        note.write_text("")
    assert export.find(backbone) is None
    again = export.find_or_export(backbone, Silent())
    assert len(exported) == 2
    assert again.read_bytes() == b"network 2"


def test_a_note_without_its_network_is_never_left(exported, monkeypatch):
    """Killed between the two files: the network is simply made again."""
    backbone = registry.resolve()
    real = usercache.write

    def cut_off(path, content):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(usercache, "write", cut_off)
    with pytest.raises(KeyboardInterrupt):
        export.find_or_export(backbone, Silent())
    assert export.find(backbone) is None
    monkeypatch.setattr(usercache, "write", real)
    assert export.find_or_export(backbone, Silent()).is_file()
