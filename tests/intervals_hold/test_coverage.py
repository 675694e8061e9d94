"""The coverage experiment in a small form: a few draws hold, and it goes on where it stopped."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

SCRIPT = Path(__file__).with_name("experiment.py")
_spec = importlib.util.spec_from_file_location("coverage_experiment", SCRIPT)
experiment = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = experiment  # dataclasses look their module up
_spec.loader.exec_module(experiment)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Draws of 30 digits each, as pixels: ten classes of 3 images."""
    folder = tmp_path_factory.mktemp("coverage")
    return folder, experiment.run([("pixels", "logistic", 30, 6)], folder, 1, 600)


def test_intervals_of_few_draws_hold(drawn):
    """6 draws of a steep learning curve: with 5 folds instead of 3, and no slope, few of them held."""
    rows = drawn[1]["pixels", "logistic", 30]
    for metric in experiment.SHOWN:
        found = experiment.summarise(rows, 30, metric)
        assert found.draws == 6
        assert found.held >= 4
        assert found.width < 2
        assert found.bias < 0.02  # pessimistic is allowed
        assert found.bias > -0.25


def without_code(found):
    """The draws, whichever version of the code made them."""
    return {key: [row | {"code": ""} for row in rows] for key, rows in found.items()}


def test_it_goes_on_where_it_stopped(drawn, monkeypatch):
    folder, found = drawn
    file = folder / "pixels-logistic-30.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:3]) + "\n" + lines[3][:40])  # killed while writing
    made = []

    def draw(population, n, number, head):
        made.append(number)
        return json.loads(lines[number])

    monkeypatch.setattr(experiment, "draw", draw)
    again = experiment.run([("pixels", "logistic", 30, 6)], folder, 1, 600)
    assert made == [3, 4, 5]
    assert without_code(again) == without_code(found)
    experiment.run([("pixels", "logistic", 30, 6)], folder, 1, 600)
    assert made == [3, 4, 5]


def test_the_summary_counts_what_it_says():
    rows = [
        {"metrics": {"accuracy": [0.8, 0.7, 0.9, truth]}}
        for truth in (0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
    ]
    found = experiment.summarise(rows, 50, "accuracy")
    assert (found.draws, found.held, found.below, found.above) == (6, 3, 1, 2)
    exact = binomtest(3, 6).proportion_ci(method="exact")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high))
    assert found.bias == pytest.approx(0.8 - np.mean([0.6, 0.7, 0.8, 0.9, 0.95, 1.0]))
    wilson = binomtest(40, 50).proportion_ci(method="wilson")
    assert found.width == pytest.approx(0.2 / (wilson.high - wilson.low))
    line = experiment.table({("pixels", "knn", 50): rows}, ["accuracy"]).splitlines()[-1]
    assert line.startswith("| pixels | knn | 50 | accuracy |")
    assert "3 of 6 (50.0%)" in line


def test_a_draw_takes_each_class_in_its_share():
    y = np.repeat([0, 1, 2], [500, 500, 1000])
    rows = experiment.within_classes(y, 30, np.random.default_rng(0))
    assert np.bincount(y[rows]).tolist() in ([8, 7, 15], [7, 8, 15])
    assert len(set(rows.tolist())) == 30


def test_the_command_shows_its_help():
    found = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True)
    assert found.returncode == 0
    assert "--full" in found.stdout
