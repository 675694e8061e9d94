"""`bp.curve`: plain data, a table, a picture, and errors before the work."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.errors import InputError


@pytest.fixture(scope="module")
def features():
    rng = np.random.default_rng(0)
    labels = np.array(["ant", "bee"] * 60)
    X = rng.normal(size=(120, 6)) + 1.2 * (labels == "ant")[:, None] * np.eye(6)[0]
    return bp.Features.from_arrays(X, labels, recipe={"backbone": "own"})


@pytest.fixture(scope="module")
def curve(features):
    return bp.curve(features, head="ridge", draws=5, quiet=True)


def test_it_is_plain_data(curve):
    data = json.loads(json.dumps(curve.to_dict()))
    assert data["points"][-1]["n"] == 96
    assert {"n", "score", "low", "high", "params"} == set(data["points"][0])
    assert [each["n"] for each in data["forecast"]] == [120, 240, 384]
    assert data["verdict"]["kind"] in ("more", "hardly", "unclear")
    assert data["advice"]
    assert set(data["law"]) == {"a", "b", "c"}
    assert curve.advice in repr(curve)
    assert curve.advice in curve._repr_html_()


def test_the_table_has_measured_and_forecast_rows(curve, tmp_path):
    curve.to(tmp_path / "c.csv")
    lines = (tmp_path / "c.csv").read_text().splitlines()
    assert lines[0] == "n,kind,score,low,high"
    assert len(lines) == 1 + len(curve.points) + len(curve.forecast)
    assert curve.to_pandas().kind.tolist().count("forecast") == 3


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_picture_is_the_same_every_time(curve, tmp_path, suffix):
    pytest.importorskip("matplotlib")
    first = curve.to(tmp_path / f"a.{suffix}").read_bytes()
    again = curve.to(tmp_path / f"b.{suffix}").read_bytes()
    assert first == again
    assert len(first) > 3000


def test_the_asked_for_points_are_answered(features):
    found = bp.curve(features, head="ridge", draws=5, points=0.5, quiet=True)
    if found.verdict["kind"] == "more":
        assert found.verdict["points"] == 0.005


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": "c.txt"}, "cannot be written"),
        ({"output": "nowhere/c.png"}, "cannot be written"),
        ({"points": 0}, "points"),
        ({"points": 100}, "points"),
        ({"draws": 0}, "draws"),
    ],
)
def test_faults_are_told_before_the_work(features, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        bp.curve(features, quiet=True, **options)


def test_groups_are_taken_as_fit_takes_them(features):
    found = bp.curve(features, head="ncm", draws=5, groups=np.arange(120) // 4, quiet=True)
    assert found.points[-1]["n"] % 4 == 0
