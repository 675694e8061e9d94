"""``bottleneck bench --heads``: both sides do the same work, and the check would notice if not."""

import dataclasses
import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.bench.heads import (
    grids,
    material,
    networks,
    run,
    stream,
    strengths,
    tables,
)
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.errors import InputError
from click.testing import CliRunner


@pytest.fixture(scope="module")
def small():
    return material.made(90, 40, 3, new=30)


@pytest.fixture
def fast(monkeypatch):
    """Every contest on few rows."""
    contests = tuple(
        dataclasses.replace(each, shape=(80, 24, each.shape[2])) for each in run.CONTESTS
    )
    monkeypatch.setattr(run, "CONTESTS", contests)
    monkeypatch.setattr(networks, "_EPOCHS", 3)


def test_made_features_look_like_pooled_ones(small):
    assert small.shape == (90, 40, 3)
    assert small.X.dtype == np.float32
    assert small.X.min() >= 0
    values = np.linalg.svd(small.X - small.X.mean(axis=0), compute_uv=False)
    assert np.square(values[:10]).sum() > 0.5 * np.square(values).sum()
    again = material.made(90, 40, 3, new=30)
    assert np.array_equal(again.X_new, small.X_new)
    test = np.concatenate([test for _, test in small.folds])
    assert sorted(test) == list(range(90))


def test_grids_of_both_sides_choose_alike(small, monkeypatch):
    monkeypatch.setattr(grids, "C_LOGISTIC", 10.0 ** np.linspace(-4, 0, 4))
    monkeypatch.setattr(grids, "C_RBF", 10.0 ** np.linspace(0, 1, 2))
    ours, usual = grids.logistic_here(small), grids.logistic_usual(small)
    assert ours.scores == pytest.approx(usual.scores, abs=0.03)
    assert grids.check_logistic(small, ours, usual).same
    ours, usual = grids.rbf_here(small), grids.rbf_usual(small)
    assert grids.check_rbf(small, ours, usual).same
    wrong = dataclasses.replace(ours, predicted=(ours.predicted + 1) % 3)
    assert not grids.check_rbf(small, wrong, usual).same


def test_a_check_of_the_logistic_grid_notices_another_c_and_another_answer(small, monkeypatch):
    monkeypatch.setattr(grids, "C_LOGISTIC", np.array([1e-3, 1e-1]))
    ours, usual = grids.logistic_here(small), grids.logistic_usual(small)
    other = dataclasses.replace(ours, params={"C": 7.0})
    assert "against" in grids.check_logistic(small, other, usual).told
    assert not grids.check_logistic(small, other, usual).same
    wrong = dataclasses.replace(ours, predicted=(ours.predicted + 1) % 3)
    assert not grids.check_logistic(small, wrong, usual).same


def test_ridge_of_both_sides_chooses_alike(small):
    ours, usual = strengths.here(small), strengths.usual(small)
    assert strengths.check(small, ours, usual).same
    assert not strengths.check(small, dataclasses.replace(ours, alpha=3.0), usual).same


def test_the_loop_of_trainings_learns(small, monkeypatch):
    monkeypatch.setattr(networks, "_EPOCHS", 20)
    accuracy = networks._train(
        *(small.standardised[0], small.y, small.standardised[0]),
        n_classes=3,
        learning_rate=1e-2,
        dropout=0.2,
    )
    assert np.mean(accuracy == small.y) > 0.8
    assert networks.check(small, np.array([0.9, 0.5]), np.array([0.4, 0.91])).same
    assert not networks.check(small, np.array([0.9]), np.array([0.8])).same


def test_ratios_are_of_the_runs_of_one_round(fast):
    bench = run.run(None, run.Options(work=("ridge",), repeats=3))
    (row,) = bench["contests"]
    ours, usual = row["seconds"]["runs"], row["usual_seconds"]["runs"]
    assert len(ours) == 3
    assert row["ratio"]["runs"] == pytest.approx([b / a for a, b in zip(ours, usual, strict=True)])
    assert row["reached"] == (row["seconds"]["median"] <= 0.1)
    assert row["same"] is True
    assert (row["rows"], row["features"], row["classes"]) == (80, 24, 10)


def test_a_contest_that_fails_says_why_and_the_others_go_on(fast, monkeypatch):
    def broken(material):
        raise RuntimeError("no memory")

    broken_one = dataclasses.replace(run.CONTESTS[-1], name="broken", usual=broken)
    monkeypatch.setattr(run, "CONTESTS", (broken_one, run.CONTESTS[-1]))
    both = run.Options(work=("broken", "ridge"), repeats=1)
    monkeypatch.setattr(run, "NAMES", both.work)
    first, second = run.run(None, both)["contests"]
    assert first["error"] == "RuntimeError: no memory"
    assert first["seconds"] is None
    assert first["reached"] is None
    assert second["error"] == ""
    assert second["same"] is True


def test_a_file_gives_its_labelled_rows(tmp_path, small):
    names = ["ant", "bee", "fly"]
    labels = [names[i] for i in small.y] + [None] * 3
    X = np.concatenate([small.X, small.X[:3] + 1])
    path = tmp_path / "own.h5"
    bp.Features.from_arrays(X, labels).save(path)
    found = material.of_file(path)
    assert found.shape == (72, 40, 3)
    assert len(found.X_new) == 18
    bench = run.run(str(path), run.Options(work=("ridge",), repeats=1))
    assert bench["features"] == str(path)
    assert bench["contests"][0]["rows"] == 72


def test_a_file_with_hardly_any_labels_is_refused(tmp_path):
    path = tmp_path / "own.h5"
    bp.Features.from_arrays(np.eye(6), ["a", "b", None, None, "a", "b"]).save(path)
    with pytest.raises(InputError, match="4 labelled rows in 2 classes"):
        run.run(str(path))


def test_an_unknown_row_is_refused():
    with pytest.raises(InputError, match="'boosting'"):
        run.run(None, run.Options(work=("boosting",)))


def test_the_command_prints_json_a_table_and_markdown(fast):
    asked = ["bench", "--heads", "--work", "ridge", "--repeats", "1"]
    reply = json.loads(CliRunner().invoke(bottleneck, [*asked, "--json"]).stdout)
    assert (reply["command"], reply["exit_code"]) == ("bench", 0)
    assert [each["name"] for each in reply["contests"]] == ["ridge"]
    assert "ridge, leave-one-out, 20 strengths" in CliRunner().invoke(bottleneck, asked).stdout
    text = CliRunner().invoke(bottleneck, [*asked, "--to", "md", "--quiet"]).stdout
    assert text.count("| --- |") == 2 or "| --- |" in text
    assert "both choose alpha" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--heads", "--engine", "onnx"], "--engine does not go with --heads"),
        (["--heads", "a.h5", "b.h5"], "one feature file"),
        (["--work", "ridge"], "--work goes with --heads"),
    ],
)
def test_options_of_the_other_bench_are_usage_errors(arguments, said):
    ended = CliRunner().invoke(bottleneck, ["bench", *arguments])
    assert ended.exit_code == 2
    assert said in ended.stderr


def test_streaming_is_measured_in_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(stream, "QUICK", (3000, 32, 4))
    (row,) = run.run(None, run.Options(work=("stream",), quick=True))["contests"]
    assert (row["rows"], row["features"], row["classes"]) == (3000, 32, 4)
    assert row["seconds"]["median"] > 0
    assert row["same"] is True
    assert row["reached"] in (True, None)
    bench = {"contests": [row], "options": {"repeats": 1, "quick": True}, "seconds": 3.0}
    assert tables.rows(bench)[0][4:6] == ["-", "-"]
    assert any("1,300,000 rows" in line for line in tables.notes(bench))


def test_a_failed_row_has_a_place_in_the_table():
    row = {
        "name": "rbf",
        "work": "RBF",
        "against": "SVC",
        "rows": 2000,
        "features": 1280,
        "classes": 3,
        "seconds": None,
        "usual_seconds": None,
        "ratio": None,
        "target": {"ratio": 5.0},
        "reached": None,
        "same": None,
        "check": "",
        "error": "MemoryError: ",
    }
    bench = {"contests": [row], "options": {"repeats": 1, "quick": True}, "seconds": 3.0}
    assert tables.rows(bench) == [["RBF", "2,000 x 1,280", "3", "failed", "", "", "", ""]]
    assert any("MemoryError" in line for line in tables.notes(bench))
    assert any("--quick" in line for line in tables.notes(bench))
