"""``bottleneck backbones``: what can be named, found by words, in one screen's width, at once."""

import json
import os
import subprocess
import sys

import pytest
from bottleneck_probe.backbones.catalogue import LINES
from bottleneck_probe.backbones.sources import sources
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner


def run(*arguments):
    result = CliRunner().invoke(bottleneck, ["backbones", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def names(*words):
    return [each["name"] for each in json.loads(run(*words, "--json"))["backbones"]]


def test_every_plain_name_and_every_source_is_listed():
    text = run()
    for line in LINES:
        assert f"{line.name} " in text
        assert line.facts.penultimate in text
    for source in sources().values():
        assert source.summary in text
    assert max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ResNet-50"], ["resnet50"]),
        (["lite", "4"], ["efficientnet_lite4"]),
        (["linear", "probe", "1024"], ["dinov2_vitl14"]),
        (["fc2", "bn"], ["vgg16_bn", "vgg19_bn"]),
        (["inception"], ["inception_v3"]),
        (["no such thing"], []),
    ],
)
def test_all_words_must_match_in_any_field(words, found):
    assert set(found) <= set(names(*words))
    if words[-1] not in ("4", "1024"):
        assert names(*words) == found


def test_nothing_found_is_said():
    text = run("no such thing")
    assert "no backbone with a plain name matches" in text
    assert "torchvision/NAME" in text


def test_json_has_everything_known():
    (found,) = (
        b for b in json.loads(run("dinov2", "--json"))["backbones"] if b["name"] == "dinov2_vits14"
    )
    assert found["feature_size"] == 384
    assert found["input_size"] == [518, 518]
    assert found["penultimate"].startswith("class token")
    assert (found["top1"], found["top1_source"][:12]) == (81.1, "linear probe")
    assert found["licence"] == "Apache-2.0"
    assert found["full_name"] == "timm/vit_small_patch14_dinov2.lvd142m"
    assert "dinov2_small" in found["aliases"]
    assert {"family", "parameters", "gmacs", "weights", "here", "packaged"} <= found.keys()


def test_weights_that_are_here_are_told_without_reading_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    here = {line.name for line in LINES if line.weights.here()}
    assert here <= {f"efficientnet_lite{i}" for i in range(3)}
    path = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not what its name says, and nobody looks")
    rows = {line.split()[0]: line for line in run().splitlines() if line.startswith("resnet")}
    assert rows["resnet18"].endswith("yes")
    assert rows["resnet34"].endswith("download")


def test_it_loads_nothing_heavy_and_waits_for_nobody(tmp_path):
    """It takes well under a second, as long as it does without these."""
    code = (
        "import atexit, sys\n"
        "waits = {'socket.getaddrinfo', 'socket.connect', 'subprocess.Popen'}\n"
        "asked = set()\n"
        "sys.addaudithook(lambda event, _: asked.add(event) if event in waits else None)\n"
        "heavy = {'torch', 'timm', 'torchvision', 'transformers', 'onnx', 'onnxruntime', 'openvino',\n"
        "    'scipy', 'sklearn', 'pandas', 'numba', 'h5py', 'PIL', 'fsspec', 'requests', 'aiohttp'}\n"
        "from bottleneck_probe.cli.main import bottleneck\n"
        "atexit.register(lambda: print('loaded:', heavy & set(sys.modules), 'asked:', asked))\n"
        "bottleneck(['backbones'])"
    )
    environment = os.environ | {"BOTTLENECK_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded: set() asked: set()"
