"""``bottleneck curve``, ``suspects`` and ``predict --abstain``: one JSON object, tables, exit codes."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from click.testing import CliRunner


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Two classes well apart, one label flipped."""
    rng = np.random.default_rng(0)
    labels = np.array(["ant", "bee"] * 100, object)
    X = np.abs(rng.normal(size=(200, 8)) + 3)
    X[:, 0] += 8 * (labels == "bee")
    labels[8] = "bee"
    path = tmp_path_factory.mktemp("features") / "own.h5"
    bp.Features.from_arrays(X, labels).save(path)
    return path


def run(*args):
    return CliRunner().invoke(bottleneck, [str(arg) for arg in args])


def test_curve_json(file, tmp_path):
    reply = run("curve", file, "--head", "ncm", "--json", "-o", tmp_path / "c.csv")
    data = json.loads(reply.stdout)
    assert reply.exit_code == data["exit_code"] == 0
    assert data["command"] == "curve"
    assert data["output"].endswith("c.csv")
    assert {"points", "forecast", "law", "advice", "verdict", "n_now", "seconds"} <= set(data)
    assert (tmp_path / "c.csv").exists()


def test_curve_table_ends_with_the_sentence(file):
    reply = run("curve", file, "--head", "ncm", "--draws", "5")
    assert reply.exit_code == 0
    assert "forecast" in reply.stdout
    assert "images" in reply.stdout.strip().splitlines()[-1]


def test_curve_tells_faults(file):
    assert run("curve", file, "-o", "c.txt").exit_code == 1
    assert run("curve", file, "--points", "0").exit_code == 2
    assert run("curve", "nowhere.h5").exit_code == 1


def test_suspects_json_and_list(file, tmp_path):
    reply = run("suspects", file, "--json", "-o", tmp_path / "s.csv")
    data = json.loads(reply.stdout)
    assert data["counts"]["label"] >= 1
    assert data["suspects"][0]["path"] == "008"
    assert data["suspects"][0]["suggested"] == "ant"
    assert (tmp_path / "s.csv").read_text().splitlines()[1].startswith("1,008,label,bee,ant,")


def test_suspects_table_says_that_nothing_was_changed(file):
    reply = run("suspects", file)
    assert reply.exit_code == 0
    assert "likely wrong label" in reply.stdout
    assert "nothing was changed" in reply.stdout


def test_predict_abstain(file, tmp_path):
    probe = tmp_path / "own.probe"
    assert run("fit", file, "-o", probe).exit_code == 0
    reply = run("predict", probe, file, "-o", tmp_path / "p.csv", "--json", "--abstain", "0.9")
    data = json.loads(reply.stdout)
    assert reply.exit_code == 0
    assert data["predicted"] + data["abstained"] + data["quarantined"] == data["seen"] == 200
    assert data["abstain"]["accuracy"] == 0.9
    assert data["unlike"] <= 10
    plain = json.loads(run("predict", probe, file, "-o", tmp_path / "p.csv", "--json").stdout)
    assert plain["abstain"] is None
    assert plain["abstained"] == 0
    # Without a number it is 0.95, and what is not possible is an error that names what is.
    bare = json.loads(
        run("predict", probe, file, "-o", tmp_path / "p.csv", "--json", "--abstain").stdout
    )
    assert bare["abstain"]["accuracy"] == 0.95
    refused = run("predict", probe, file, "-o", tmp_path / "p.csv", "--abstain", "0.9999")
    assert refused.exit_code == 1
    assert "is possible" in refused.stderr
    assert run("predict", probe, file, "--abstain", "2").exit_code == 2
