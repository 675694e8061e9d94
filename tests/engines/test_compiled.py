"""Compiling: refused early without a compiler, kept whole or made again, quiet."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from bottleneck_probe import EngineError
from bottleneck_probe.engines import compiled
from bottleneck_probe.engines.compiled import CompiledEngine
from bottleneck_probe.reporter import Silent

sys.path.insert(0, str(Path(__file__).parent))
from small import small_backbone


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def start(batch_size=2, **options):
    return CompiledEngine(
        small_backbone(), device="cpu", batch_size=batch_size, reporter=Silent(), **options
    )


def test_without_a_compiler_nothing_is_begun(own_cache, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(compiled, "load", lambda *arguments: pytest.fail("a network is loaded"))
    with pytest.raises(EngineError, match=r"no C\+\+ compiler") as caught:
        start()
    assert "g++" in caught.value.next
    assert "--engine compile" in caught.value.where


def test_what_the_compiler_says_is_told_and_settings_are_put_back(own_cache, monkeypatch, tmp_path):
    mine = str(
        tmp_path / "mine"
    )  # PyTorch itself makes a relative one absolute, when first imported
    import torch._inductor

    def fail(*arguments, **options):
        assert os.environ["TORCHINDUCTOR_CACHE_DIR"] != mine
        print("a line that --json must not see")
        raise ValueError("\n\ninternal compiler error\nmore")

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", mine)
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", fail)
    threads = torch.get_num_threads()
    with pytest.raises(EngineError, match="internal compiler error") as caught:
        start()
    assert "--engine eager" in caught.value.next
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == mine
    assert torch.get_num_threads() == threads


def test_only_a_whole_package_of_the_same_network_is_found(own_cache, tmp_path):
    package, identity = tmp_path / "network.pt2", {"backbone": "x", "batch_size": 2}
    package.write_bytes(b"machine code")
    assert compiled._find(identity) is None
    compiled._publish(package, identity)
    found = compiled._find(identity)
    assert found.read_bytes() == b"machine code"
    assert compiled._find({**identity, "batch_size": 4}) is None
    found.write_bytes(b"machine c0de")
    assert compiled._find(identity) is None
    for note in found.parent.glob("*.json"):
        note.write_text(json.dumps({"sha256": 7}))
    assert compiled._find(identity) is None


def test_what_decides_the_machine_code_decides_the_name(own_cache, monkeypatch):
    engine = CompiledEngine.__new__(CompiledEngine)
    engine.device, engine.batch_size, engine.precision = "cpu", 2, "fp32"
    backbone = small_backbone()
    names = {compiled._note_path(engine._identity(backbone)).name}
    engine.precision = "bf16"
    names.add(compiled._note_path(engine._identity(backbone)).name)
    engine.batch_size = 3
    names.add(compiled._note_path(engine._identity(backbone)).name)
    monkeypatch.setattr(compiled.devices, "cpu_flags", lambda: frozenset({"avx2"}))
    names.add(compiled._note_path(engine._identity(backbone)).name)
    monkeypatch.setattr(torch, "__version__", "2.99")
    names.add(compiled._note_path(engine._identity(backbone)).name)
    names.add(compiled._note_path(engine._identity(small_backbone(seed=1))).name)
    assert len(names) == 6


def test_precisions_that_a_device_lacks_are_refused(own_cache):
    with pytest.raises(EngineError, match="does not compute in fp16 on cpu"):
        start(precision="fp16")
