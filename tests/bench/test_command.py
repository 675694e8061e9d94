"""``bottleneck bench`` as a user runs it."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from bottleneck_probe.bench.photographs import jpeg

psutil = pytest.importorskip("psutil")


def _command(*arguments):
    return [sys.executable, "-m", "bottleneck_probe", "bench", *arguments]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for i in range(10):
        path = folder / ("ants" if i % 2 else "bees") / f"{i:02d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(jpeg(i, (120, 90)))
    return folder


@pytest.fixture(scope="module")
def measured(photos, tmp_path_factory):
    """One whole bench of an untrained network; the loop, timm, and two engines, each in its process."""
    place = tmp_path_factory.mktemp("place")
    for name in ("cwd", "tmp", "cache"):
        (place / name).mkdir()
    environment = {
        **os.environ,
        "TMPDIR": str(place / "tmp"),
        "BOTTLENECK_CACHE_DIR": str(place / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    asked = ["--images", "9", "--quick", "--engine", "onnx", "--precision", "fp32"]
    network = ["--backbone", "resnet18", "--weights", "none", "--device", "cpu"]
    ended = subprocess.run(
        _command(str(photos), *asked, *network, "--json", "--plot", "bench.svg"),
        cwd=place / "cwd",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return ended, place


def test_the_reply_is_one_object_with_a_row_for_everyone(measured):
    ended, _ = measured
    assert ended.returncode == 0, ended.stderr
    reply = json.loads(ended.stdout)
    assert (reply["schema_version"], reply["command"], reply["exit_code"]) == (1, "bench", 0)
    names = [each["name"] for each in reply["contestants"]]
    assert names == ["usual loop", "timm", "img2vec_pytorch", "eager fp32", "onnx fp32"]
    for each in reply["contestants"]:
        assert each["error"] == ""
        assert each["images"] == 9
        assert each["images_per_second"]["median"] > 0
        assert each["start_s"] > 0
        assert 5e7 < each["peak_memory_bytes"] < 8e9
    assert reply["contestants"][0]["ratio"]["median"] == 1.0
    assert reply["images"]["count"] == 9
    assert reply["ceilings"]["decode"]["each"]["ours"]["median"] > 0
    assert set(reply["ceilings"]["forward"]["fp32"]["each"]) == {"eager fp32", "onnx fp32"}
    assert reply["ceilings"]["error"] == ""


def test_all_who_took_part_computed_the_same(measured):
    """A contestant that computes something else is fast for nothing."""
    reply = json.loads(measured[0].stdout)
    for each in reply["contestants"]:
        assert each["cosine"]["images"] == 9
        if each["name"] == "img2vec_pytorch":  # it squashes the image, and its row says so
            assert "squashes" in each["note"]
            assert each["cosine"]["min"] > 0.8
        else:
            assert each["cosine"]["min"] >= 0.999


def test_nothing_is_left_but_the_picture(measured):
    _, place = measured
    assert [path.name for path in (place / "cwd").iterdir()] == ["bench.svg"]
    assert list((place / "tmp").glob("bottleneck-bench-*")) == []
    # The user's exported networks are neither used nor touched.
    assert list((place / "cache").rglob("*.onnx")) == []


def test_a_wrong_option_is_refused_before_anything_starts(photos, tmp_path):
    wrong = (
        (["--plot", "bench.bmp"], "cannot be drawn to"),
        (["--engine", "warp"], "does not run here"),
        (["--backbone", "resnet51"], "resnet51"),
    )
    for arguments, said in wrong:
        began = time.monotonic()
        ended = subprocess.run(
            _command(str(photos), "--device", "cpu", *arguments),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert ended.returncode == 1
        assert said in ended.stderr
        assert time.monotonic() - began < 60


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to send")
def test_ctrl_c_ends_every_process_and_leaves_nothing(photos, tmp_path):
    for name in ("cwd", "tmp"):
        (tmp_path / name).mkdir()
    command = subprocess.Popen(
        _command(str(photos), "--quick", "--engine", "eager", "--device", "cpu", "--json"),
        cwd=tmp_path / "cwd",
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with command:
        below = []
        until = time.monotonic() + 60
        while not below and time.monotonic() < until:
            below = psutil.Process(command.pid).children(recursive=True)
            time.sleep(0.05)
        assert below
        time.sleep(0.5)  # into the imports of the first contestant
        began = time.monotonic()
        command.send_signal(signal.SIGINT)
        out, _ = command.communicate(timeout=20)
    # 2 s, and as much again for a test machine that is busy.
    assert time.monotonic() - began < 4
    assert command.returncode == 130
    assert json.loads(out)["exit_code"] == 130
    _, alive = psutil.wait_procs(below, timeout=2)
    assert alive == []
    assert list((tmp_path / "cwd").iterdir()) == []
    assert list((tmp_path / "tmp").glob("bottleneck-bench-*")) == []


def test_made_photographs_have_the_size_that_was_asked_for():
    """They are what the bench runs on where no images are given."""
    import io

    from PIL import Image

    with Image.open(io.BytesIO(jpeg(0, (320, 240)))) as image:
        assert image.size == (320, 240)
        assert np.asarray(image).std() > 20
