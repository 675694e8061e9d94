"""Every command that takes a feature file takes a directory of features, with the same answer."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache.directory import building
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner


def run(*arguments):
    return CliRunner().invoke(bottleneck, [str(argument) for argument in arguments])


@pytest.fixture
def both(tmp_path, monkeypatch):
    """The same rows as a file and as a directory."""
    monkeypatch.setattr(building, "SHARD_ROWS", 17)
    rng = np.random.default_rng(0)
    labels = [("ants", "bees")[i % 2] for i in range(80)]
    X = rng.normal(size=(80, 5)) + np.array([[2.0 * (label == "ants")] for label in labels])
    own = bp.Features.from_arrays(
        X, labels, [f"{i:03d}" for i in range(80)], meta={"site": [str(i % 3) for i in range(80)]}
    )
    own.save(tmp_path / "one.h5")
    own.save(f"{tmp_path / 'many'}/")
    return tmp_path / "one.h5", f"{tmp_path / 'many'}/"


def replies(both, *arguments):
    found = []
    for each in both:
        result = run(*(each if argument is None else argument for argument in arguments), "--json")
        assert result.exit_code == 0, result.output
        found.append(json.loads(result.stdout))
    return found


def test_info(both):
    one, many = replies(both, "info", None)
    assert many.pop("directory") == {
        "shards": 5,
        "bytes": pytest.approx(1.2e5, rel=0.5),
        "dead_rows": 0,
    }
    assert one.pop("file") != many.pop("file")
    assert one == many
    assert "5 shards" in run("info", both[1]).stdout


def test_exports_are_the_same(both, tmp_path):
    for form in ("csv", "npz"):
        texts = []
        for i, each in enumerate(both):
            target = tmp_path / f"{i}.{form}"
            assert run("info", each, "--to", form, "-o", target).exit_code == 0
            texts.append(target.read_bytes() if form == "csv" else dict(np.load(target)))
        if form == "csv":
            assert texts[0] == texts[1]
        else:
            assert all((texts[0][name] == texts[1][name]).all() for name in texts[0])


def test_fit_gives_the_same_probe_and_predict_the_same_answers(both, tmp_path):
    one, many = replies(both, "fit", None, "--head", "ncm")
    assert one["metrics"] == many["metrics"]
    probes = [tmp_path / "one-ncm.probe", tmp_path / "many-ncm.probe"]
    assert probes[0].read_bytes() == probes[1].read_bytes()
    tables = [run("predict", probes[0], each).stdout for each in both]
    assert tables[0] == tables[1]
    assert tables[0].count("\n") == 81


def test_joined_rows_count_once(both):
    result = run("fit", *both, "--head", "ncm", "-o", f"{both[1]}/../joined.probe", "--json")
    assert json.loads(result.stdout)["n_train"] == 80


def test_verify(both):
    one, many = replies(both, "verify", None)
    assert (one["exit_code"], many["exit_code"]) == (0, 0)


def test_a_folder_of_anything_else(tmp_path):
    result = run("fit", tmp_path)
    assert result.exit_code == 1
    assert "is a folder without manifest.json" in result.stderr
    assert "bottleneck extract" in result.stderr
