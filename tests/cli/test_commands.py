"""The commands as a user types them: what is on stdout, what on stderr, and the exit code."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.evaluate.metrics import METRICS
from click.testing import CliRunner
from PIL import Image

COLOURS = {"green": (30, 160, 60), "red": (170, 40, 40)}


def run(*arguments, stdin=None):
    return CliRunner().invoke(bottleneck, [str(a) for a in arguments], input=stdin)


def reply(result) -> dict:
    """The one JSON object on stdout; fails if there is anything else."""
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """Two classes of 8 noisy pictures each, a broken one, and a file that is no image."""
    folder = tmp_path_factory.mktemp("cli") / "photos"
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.clip(np.array(colour) + rng.normal(0, 30, (48, 64, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i}.png")
    (folder / "red" / "broken.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture(scope="module")
def features(photos) -> Path:
    result = run("extract", photos, "-o", photos.parent / "photos.h5", "--engine", "eager")
    assert result.exit_code == 3, result.output
    return photos.parent / "photos.h5"


@pytest.fixture(scope="module")
def probe(features) -> Path:
    result = run("fit", features)
    assert result.exit_code == 0, result.output
    return features.with_name("photos-logistic.probe")


def test_extract_accounts_for_every_input(photos, features):
    result = run("extract", photos, "-o", features, "--json")
    data = reply(result)
    assert result.exit_code == data["exit_code"] == 3
    assert (data["schema_version"], data["command"], data["error"]) == (1, "extract", None)
    assert (data["seen"], data["computed"], data["reused"], data["quarantined"]) == (17, 0, 16, 1)
    assert (data["ignored"], data["removed"], data["features"]) == (1, 0, [16, 1280])
    assert data["output"] == str(features)
    for name in ("fingerprint", "recipe", "environment", "engine", "precision"):
        assert data[name]
    assert data["seconds"] >= 0
    assert data["images_per_second"] > 0


def test_extract_tells_people_what_was_quarantined_and_why(photos, features):
    result = run("extract", photos, "-o", features)
    assert "17 images seen: 0 computed, 16 reused, 1 quarantined" in result.stdout
    assert "red/broken.jpg: empty file" in result.stdout


def test_a_rate_that_is_kept_makes_it_exit_0(photos, features):
    assert run("extract", photos, "-o", features, "--allow-bad-rate", "0.1").exit_code == 0
    assert run("extract", photos, "-o", features, "--allow-bad-rate", "0.01").exit_code == 1


def test_an_error_has_four_parts_in_json_and_no_traceback(photos, features):
    result = run("extract", photos, "-o", features, "--resize", "300", "--json")
    data = reply(result)
    assert result.exit_code == data["exit_code"] == 1
    assert set(data["error"]) == {"what", "expected", "where", "next"}
    assert "preprocessing.resize" in data["error"]["expected"]
    people = run("extract", photos, "-o", features, "--resize", "300")
    assert people.stdout == ""
    assert people.stderr.startswith("error: ")
    assert "Traceback" not in people.stderr


def test_strict_names_the_first_bad_image(photos, tmp_path):
    result = run("extract", photos, "-o", tmp_path / "x.h5", "--engine", "eager", "--strict")
    assert result.exit_code == 1
    assert "red/broken.jpg: empty file" in result.stderr
    assert not (tmp_path / "x.h5").exists()


def test_strict_gives_the_counts_known_so_far(photos, tmp_path):
    result = run(
        "extract", photos, "-o", tmp_path / "x.h5", "--engine", "eager", "--strict", "--json"
    )
    data = reply(result)
    assert result.exit_code == data["exit_code"] == 1
    assert (data["seen"], data["ignored"], data["quarantined"]) == (17, 1, 1)
    assert 0 <= data["kept"] <= 17
    # Where all is known already, all of it is told.
    known = ("extract", photos, "-o", tmp_path / "known.h5", "--engine", "eager")
    run(*known)
    data = reply(run(*known, "--strict", "--json"))
    assert (data["seen"], data["ignored"], data["quarantined"]) == (17, 1, 1)


@pytest.mark.parametrize("output", ["/", "//", "./", "../"])
def test_an_output_without_a_name_is_an_error(photos, output, tmp_path, monkeypatch):
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    for more in ([], ["--dry-run"]):
        result = run("extract", photos, "-o", output, "--json", *more)
        assert result.exit_code == 1
        error = reply(result)["error"]
        assert error["what"] == f"{output} has no name of its own"
        assert all(error.values())
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "below"]


@pytest.mark.skipif(not hasattr(os, "pathconf"), reason="Windows has no say in it")
def test_a_name_too_long_for_its_parts_is_told_before_any_work(photos, tmp_path):
    most = os.pathconf(tmp_path, "PC_NAME_MAX")
    name = "x" * (most - 3) + ".h5"
    for more in ([], ["--dry-run"]):
        result = run("extract", photos, "-o", tmp_path / name, "--json", *more)
        assert result.exit_code == 1
        error = reply(result)["error"]
        assert f"the name has {most} bytes" in error["what"]
        assert f"at most {most - 6}," in error["expected"]
        assert all(error.values())
    assert list(tmp_path.iterdir()) == []
    # The longest one that is allowed does work.
    output = tmp_path / name[6:]
    assert run("extract", photos, "-o", output, "--engine", "eager").exit_code == 3
    assert output.exists()


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("e.h5", b"", "is empty"),
        ("e.H5", b"path,label\n", "is not an HDF5 file"),
        ("e.probe", b"", "it is empty"),
        ("e.probe", b"path,label\n", "is no probe"),
    ],
)
def test_info_says_what_is_wrong_with_a_file(tmp_path, name, content, what):
    (tmp_path / name).write_bytes(content)
    result = run("info", tmp_path / name, "--json")
    assert result.exit_code == 1
    assert what in reply(result)["error"]["what"]


def test_info_knows_a_probe_by_its_content(probe, tmp_path):
    (tmp_path / "named.h5").write_bytes(probe.read_bytes())
    assert run("info", tmp_path / "named.h5").exit_code == 0


def test_dry_run_computes_and_writes_nothing(photos, tmp_path):
    output = tmp_path / "x.h5"
    result = run("extract", photos, "-o", output, "--engine", "eager", "--dry-run", "--json")
    data = reply(result)
    assert (data["seen"], data["to_compute"], data["reused"]) == (17, 17, 0)
    assert data["disk_bytes"] > 17 * 1280 * 4
    assert data["images_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


def test_dry_run_knows_what_is_cached(photos, features):
    data = reply(run("extract", photos, "-o", features, "--dry-run", "--rehash", "--json"))
    # The broken one may have been mended: only decoding it tells.
    assert (data["to_compute"], data["reused"], data["seconds"]) == (1, 16, 0)


def test_fit_prints_the_score_beside_the_baseline_and_the_protocol(features, tmp_path):
    result = run("fit", features, "-o", tmp_path / "p.probe")
    assert result.exit_code == 0
    assert re.search(r"nested-5x10: 16 images", result.stdout)
    assert re.search(r"accuracy +\d\.\d{3} +\d\.\d{3} to \d\.\d{3} +0\.500", result.stdout)
    assert "true \\ predicted" in result.stdout


def test_fit_json_has_what_the_contract_names(features, tmp_path):
    data = reply(run("fit", features, "-o", tmp_path / "p.probe", "--json"))
    assert data["head"] == "logistic"
    assert data["classes"] == ["green", "red"]
    assert (data["n_train"], data["n_test"], data["protocol"]) == (16, 16, "nested-5x10")
    for group in ("metrics", "baseline"):
        for name in ("accuracy", "balanced_accuracy", "macro_f1"):
            metric = data[group][name]
            assert set(metric) == {"value", "low", "high", "level", "method"}
            assert 0 <= metric["low"] <= metric["value"] <= metric["high"] <= 1
            assert metric["low"] < metric["high"]
    assert data["params"]["C"] > 0


def test_fit_does_not_write_over_a_probe_unless_forced(features, probe):
    before = probe.read_bytes()
    result = run("fit", features)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert probe.read_bytes() == before
    assert run("fit", features, "--force").exit_code == 0
    assert probe.read_bytes() == before, "same file, same seed"


def test_predict_gives_csv_on_stdout_and_nothing_else_there(photos, probe):
    result = run("predict", probe, photos, "--engine", "eager")
    lines = result.stdout.splitlines()
    assert result.exit_code == 3
    assert lines[0] == "path,status,label,probability,p_green,p_red,reason"
    assert len(lines) == 1 + 17
    assert [line for line in lines if "quarantined" in line] == [
        "red/broken.jpg,quarantined,,,,,empty file"
    ]


def test_predict_keeps_the_order_of_a_list(photos, probe, tmp_path):
    names = [str(photos / "red" / "5.png"), str(photos / "green" / "2.png")]
    result = run("predict", probe, "-", "--engine", "eager", stdin="\n".join(names))
    assert [line.split(",")[0] for line in result.stdout.splitlines()[1:]] == [
        "red/5.png",
        "green/2.png",
    ]


def test_predict_json_needs_a_file_for_the_table(photos, probe, tmp_path):
    assert run("predict", probe, photos, "--json").exit_code == 2
    output = tmp_path / "preds.csv"
    data = reply(run("predict", probe, photos, "-o", output, "--json", "--engine", "eager"))
    assert (data["seen"], data["predicted"], data["quarantined"]) == (17, 16, 1)
    assert (data["ignored"], data["output"]) == (1, str(output))
    assert len(output.read_text().splitlines()) == 18


def test_predict_reuses_features(photos, probe, features, monkeypatch):
    monkeypatch.setattr("bottleneck_probe.engines.select.start", _must_not_run)
    assert run("predict", probe, photos, "--features", features).exit_code == 3
    assert run("predict", probe, features).exit_code == 3


def _must_not_run(*_):
    raise AssertionError("an engine was started")


def test_score_leaves_out_what_the_probe_was_trained_on(photos, probe, tmp_path):
    result = run("score", probe, photos, "--engine", "eager")
    assert result.exit_code == 1
    assert "trained on all 16 labelled images" in result.stderr
    for name, colour in COLOURS.items():
        (tmp_path / "new" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (50 + i, 50), colour).save(tmp_path / "new" / name / f"{i}.png")
    data = reply(run("score", probe, tmp_path / "new", "--engine", "eager", "--json"))
    assert data["n"] == 6
    assert np.sum(data["confusion"]) == 6
    assert list(data["metrics"]) == list(METRICS)


def test_a_class_that_nobody_guessed_has_no_precision_in_json(photos, probe, tmp_path):
    """Not NaN, which is no JSON."""
    for name in COLOURS:
        (tmp_path / "new" / name).mkdir(parents=True)
        for i in range(2):
            picture = Image.new("RGB", (50 + i, 50 if name == "red" else 60), COLOURS["green"])
            picture.save(tmp_path / "new" / name / f"{i}.png")
    data = reply(run("score", probe, tmp_path / "new", "--engine", "eager", "--json"))
    assert [each["precision"] for each in data["per_class"]].count(None) == 1


def test_info_tells_what_a_feature_file_and_a_probe_hold(features, probe):
    data = reply(run("info", features, "--json"))
    assert data["features"] == [16, 1280]
    assert data["classes"] == {"green": 8, "red": 8}
    assert data["quarantine"] == [{"path": "red/broken.jpg", "reason": "empty file"}]
    assert "efficientnet_lite0" in run("info", features).stdout
    assert reply(run("info", probe, "--json"))["protocol"] == "nested-5x10"
    assert "nested-5x10" in run("info", probe).stdout


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz"])
def test_info_exports(features, tmp_path, kind):
    target = tmp_path / f"x.{kind}"
    assert run("info", features, "--to", kind, "-o", target).exit_code == 0
    wanted = np.asarray(bp.open(features).features)
    if kind == "npz":
        found = np.load(target)["features"]
    else:
        import pandas

        table = pandas.read_csv(target) if kind == "csv" else pandas.read_parquet(target)
        found = table[[f"f{i}" for i in range(1280)]].to_numpy(np.float32)
    np.testing.assert_array_equal(found, wanted)


def test_cache_where_and_clear(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTTLENECK_CACHE_DIR", str(tmp_path / "own"))
    (tmp_path / "own" / "networks").mkdir(parents=True)
    (tmp_path / "own" / "networks" / "a.onnx").write_bytes(b"x" * 100)
    assert reply(run("cache", "where", "--json"))["bytes"] == 100
    assert str(tmp_path / "own") in run("cache", "where").stdout
    assert reply(run("cache", "clear", "--json"))["files"] == 1
    assert reply(run("cache", "where", "--json"))["bytes"] == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(shell):
    result = run("completion", shell)
    assert result.exit_code == 0
    assert "_BOTTLENECK_COMPLETE" in result.stdout


def test_completion_completes(monkeypatch):
    monkeypatch.setenv("_BOTTLENECK_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "bottleneck ext")
    monkeypatch.setenv("COMP_CWORD", "1")
    result = CliRunner().invoke(bottleneck, [], prog_name="bottleneck")
    assert "extract" in result.output


@pytest.mark.parametrize("name", sorted(bottleneck.commands))
def test_every_command_has_help(name):
    result = run(name, "--help")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) > 4


@pytest.mark.parametrize(
    "arguments", [["extract"], ["fit", "a.h5", "--seed", "x"], ["nonsense"], ["extract", "--bad"]]
)
def test_wrong_usage_is_exit_2(arguments):
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["extract", "nowhere/"],
        ["fit", "nowhere.h5"],
        ["predict", "nowhere.probe", "x", "-o", "y.csv"],
        ["score", "nowhere.probe", "x"],
        ["info", "nowhere.h5"],
    ],
    ids=lambda a: a[0],
)
def test_what_is_not_there_is_exit_1_in_json_too(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*arguments, "--json")
    assert result.exit_code == reply(result)["exit_code"] == 1
    assert "nowhere" in reply(result)["error"]["what"]


def test_control_characters_of_a_name_do_not_reach_the_terminal(photos, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "good.png")
    (folder / "a\x1b[31m.jpg").write_bytes(b"")
    result = run("extract", folder, "-o", tmp_path / "x.h5", "--engine", "eager")
    assert "\x1b" not in result.stdout + result.stderr
    assert "a\\x1b[31m.jpg" in result.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_says_what_it_kept_and_goes_on(tmp_path, number):
    rng = np.random.default_rng(1)
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(600):
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    command = [
        *(sys.executable, "-m", "bottleneck_probe", "extract", str(folder)),
        *(
            "-o",
            str(tmp_path / "x.h5"),
            "--engine",
            "eager",
            "--precision",
            "fp32",
            "--batch-size",
            "1",
        ),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as child:
        while "engine eager" not in (line := child.stderr.readline()):
            assert line, "it ended before an engine was chosen"
        while not list(tmp_path.glob("x.h5.parts/*.h5")) and child.poll() is None:
            time.sleep(0.05)  # until the first shard is sealed
        child.send_signal(number)
        _, said = child.communicate(timeout=60)
    if child.returncode == 0:
        pytest.skip("this machine computed 600 images before the first shard was due")
    assert child.returncode == 130
    kept, total = map(int, re.search(r"kept (\d+) of (\d+)", said).groups())
    assert total == 600
    assert 0 < kept <= 600
    # The signal may come while all is done and the file is being published.
    assert kept == 600 or not (tmp_path / "x.h5").exists()
    done = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, timeout=120, env=os.environ
    )
    data = json.loads(done.stdout)
    assert data["reused"] == kept
    assert data["computed"] == 600 - kept
