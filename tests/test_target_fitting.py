"""Several labels for an image, or a number: from the table to the prediction."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.errors import BottleneckError, FitError
from click.testing import CliRunner
from PIL import Image

NAMES = ["bee", "ant", "cow"]


def run(*arguments):
    return CliRunner().invoke(bottleneck, [str(a) for a in arguments])


def problem(n: int = 60, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 10)).astype(np.float32)
    Z = X[:, :3] + 0.3 * rng.normal(size=(n, 3))
    return X, (Z > [0, 0.4, 0.8]).astype(float), Z[:, 0] * 4 + 10


@pytest.fixture(scope="module")
def labels() -> bp.Features:
    X, Y, _ = problem()
    Y[0] = np.nan
    Y[1, 1] = np.nan
    return bp.Features.from_arrays(X, targets=Y, classes=NAMES)


@pytest.fixture(scope="module")
def numbers() -> bp.Features:
    X, _, y = problem()
    return bp.Features.from_arrays(X, targets=y)


@pytest.fixture(scope="module")
def label_probe(labels: bp.Features) -> bp.Probe:
    return bp.fit(labels, repeats=1, quiet=True)


@pytest.fixture(scope="module")
def number_probe(numbers: bp.Features) -> bp.Probe:
    return bp.fit(numbers, repeats=1, quiet=True)


def test_the_task_is_that_of_the_features(label_probe: bp.Probe, number_probe: bp.Probe):
    assert (label_probe.task, label_probe.head) == ("multilabel", "logistic")
    assert label_probe.classes == ["ant", "bee", "cow"]
    assert label_probe.metrics["map"]["value"] > 0.8 > label_probe.baseline["map"]["value"]
    assert [row["label"] for row in label_probe.per_class] == label_probe.classes
    assert (number_probe.task, number_probe.head) == ("regression", "ridge")
    assert number_probe.metrics["r2"]["value"] > 0.8
    assert "map 0." in repr(label_probe)
    assert "r2 0." in repr(number_probe)
    assert "same for all" in label_probe._repr_html_()


def test_probabilities_are_those_of_each_label_and_not_shares(label_probe, labels):
    p = label_probe.predict_proba(labels.features)
    assert p.shape == (60, 3)
    assert (p > 0).all()
    assert (p < 1).all()
    assert (np.abs(p.sum(axis=1) - 1) > 0.05).any()


def test_the_same_probe_comes_back_from_its_file(label_probe, number_probe, labels, tmp_path):
    for probe in (label_probe, number_probe):
        back = bp.load(probe.save(tmp_path / f"{probe.task}.probe"))
        assert back.to_bytes() == probe.to_bytes()
        assert back.task == probe.task
        np.testing.assert_array_equal(back.thresholds, probe.thresholds)
        np.testing.assert_array_equal(
            back.predict_proba(labels.features), probe.predict_proba(labels.features)
        )
        assert back.metrics == probe.metrics
        np.testing.assert_array_equal(back.oof.y, probe.oof.y)
    assert set(np.unique(label_probe.oof.y)) == {-1, 0, 1}


def test_the_same_input_gives_the_same_bytes(labels, label_probe):
    assert bp.fit(labels, repeats=1, quiet=True).to_bytes() == label_probe.to_bytes()


def test_answers_are_the_labels_from_their_thresholds_on(label_probe, labels):
    found = label_probe.predict(labels)
    assert found.columns() == [
        "path", "status", "label", "probability", "p_ant", "p_bee", "p_cow", "reason",
    ]  # fmt: skip
    for text, p in zip(found.labels, found.probabilities, strict=True):
        yes = [
            n for n, x, t in zip(found.classes, p, label_probe.thresholds, strict=True) if x >= t
        ]
        assert text == "|".join(yes)
    assert any("|" in text for text in found.labels)
    assert "" in found.labels
    table = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert [row["label"] for row in table] == found.labels
    assert table[3]["p_bee"] == repr(float(found.probabilities[3, 1]))


def test_a_number_has_its_interval(number_probe, numbers, tmp_path):
    found = number_probe.predict(numbers)
    assert found.columns() == ["path", "status", "value", "low", "high", "reason"]
    table = list(csv.DictReader(io.StringIO(found.to_csv())))
    values = np.array([[float(row[n]) for n in ("low", "value", "high")] for row in table])
    np.testing.assert_allclose(np.diff(values, axis=1), number_probe.extra["residual"])
    truth = numbers.targets[:, 0]
    assert np.mean((values[:, 0] <= truth) & (truth <= values[:, 2])) >= 0.85
    lines = found.to(tmp_path / "p.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["value"] == values[0, 1]
    assert found.to_pandas()["value"].tolist() == values[:, 1].tolist()


def test_scores_of_other_images(label_probe, number_probe):
    X, Y, y = problem(50, seed=9)
    X2 = X.copy()
    found = label_probe.score(bp.Features.from_arrays(X2, targets=Y, classes=NAMES))
    assert found["n"] == 50
    assert found["metrics"]["map"]["low"] < found["metrics"]["map"]["value"]
    assert "cross-validated" not in found["metrics"]["map"]["method"]
    some = label_probe.score(bp.Features.from_arrays(X, targets=Y[:, 1:2], classes=["ant"]))
    assert [row["n"] for row in some["per_class"]] == [50, 0, 0]
    value = number_probe.score(bp.Features.from_arrays(X, targets=y))
    from sklearn.metrics import r2_score

    ours = number_probe.predict_proba(X)[:, 0]
    assert value["metrics"]["r2"]["value"] == pytest.approx(r2_score(np.float32(y), ours))


def test_images_that_a_probe_was_trained_on_are_not_scored(label_probe, labels):
    with pytest.raises(FitError, match="trained on all 59"):
        label_probe.score(labels)


def test_labels_that_a_probe_does_not_know_are_named(label_probe, number_probe):
    X, Y, y = problem(8, seed=4)
    with pytest.raises(FitError, match="does not know the labels dog"):
        label_probe.score(bp.Features.from_arrays(X, targets=Y[:, :1], classes=["dog"]))
    with pytest.raises(BottleneckError, match="of the task regression, not multilabel"):
        label_probe.score(bp.Features.from_arrays(X, targets=y))
    with pytest.raises(BottleneckError, match="labels that are no numbers"):
        number_probe.score(bp.Features.from_arrays(X, ["x"] * 8))


def test_classes_are_read_as_lists_or_numbers_when_it_is_asked_for():
    X, Y, y = problem()
    texts = ["|".join(n for n, v in zip(NAMES, row, strict=True) if v) or "|" for row in Y]
    probe = bp.fit(bp.Features.from_arrays(X, texts), task="multilabel", repeats=1, quiet=True)
    direct = bp.fit(bp.Features.from_arrays(X, targets=Y, classes=NAMES), repeats=1, quiet=True)
    np.testing.assert_array_equal(probe.predict_proba(X), direct.predict_proba(X))
    whole = [str(round(v)) for v in y]
    assert bp.fit(
        bp.Features.from_arrays(X, whole), task="regression", repeats=1, quiet=True
    ).task == ("regression")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"head": "svm"}, "the head svm cannot do multilabel"),
        ({"sanity": True}, "--sanity is for images of one class each"),
        ({"preset": "dinov2"}, "--preset dinov2 is for images of one class each"),
        ({"head_options": {"gamma": 1.0}}, "no option 'gamma'"),
        ({"task": "regression"}, "of the task multilabel, not regression"),
        ({"task": "ranking"}, "no task 'ranking'"),
    ],
)
def test_what_is_not_there_for_several_labels_is_said(labels, options: dict, told: str):
    with pytest.raises(BottleneckError, match=told):
        bp.fit(labels, quiet=True, **options)


def test_a_stated_setting_is_taken(labels):
    assert bp.fit(labels, head_options={"C": 0.5}, repeats=1, quiet=True).params == {"C": 0.5}


def test_groups_of_a_column_are_kept_apart(tmp_path):
    X, Y, _ = problem()
    patients = [f"p{i // 5}" for i in range(60)]
    made = bp.Features.from_arrays(X, targets=Y, classes=NAMES, meta={"patient": patients})
    probe = bp.fit(made, groups="patient", repeats=1, quiet=True)
    for patient in range(12):
        assert len(set(probe.oof.folds[patient * 5 : patient * 5 + 5])) == 1


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """Noise with a red tint, a green one, both or none, of some brightness, and tables of it."""
    folder = tmp_path_factory.mktemp("targets")
    rng = np.random.default_rng(0)
    rows = []
    for i in range(28):
        tint = rng.random(2) < 0.5
        light = rng.uniform(0, 60)
        pixels = rng.integers(0, 60, (40, 40, 3)) + int(light)
        pixels[..., :2] += (tint * 110).astype(int)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02}.png")
        rows.append((f"{i:02}.png", *tint.astype(int), f"{light:.2f}"))
    text = "path,red,green,light\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    (folder / "table.csv").write_text(text)
    return folder


def test_from_a_table_to_a_prediction(pictures: Path):
    """Labels, then a number of the same images, whose features are not computed again."""
    file = pictures / "shapes.h5"
    table = pictures / "table.csv"
    columns = ("--label-column", "red", "--label-column", "green")
    first = run("extract", table, *columns, "-o", file, "--engine", "eager", "--json")
    assert first.exit_code == 0, first.output
    shown = json.loads(run("info", file, "--json").stdout)
    assert shown["task"] == "multilabel"
    assert set(shown["classes"]) == {"green", "red"}
    fitted = run("fit", file, "--repeats", "1", "--folds", "3", "--json")
    assert fitted.exit_code == 0, fitted.output
    reply = json.loads(fitted.stdout)
    assert reply["task"] == "multilabel"
    assert set(reply["metrics"]) == {"map", "auroc", "micro_f1", "macro_f1", "log_loss"}
    assert reply["metrics"]["map"]["value"] > 0.9
    probe = pictures / "shapes-logistic.probe"
    predicted = run("predict", probe, file)
    answers = list(csv.DictReader(io.StringIO(predicted.stdout)))
    truth = list(csv.DictReader(io.StringIO(table.read_text())))
    said = ["|".join(n for n in ("green", "red") if row[n] == "1") for row in truth]
    assert np.mean([a["label"] == t for a, t in zip(answers, said, strict=True)]) > 0.8

    again = run("extract", table, "--label-column", "light", "-o", file, "--engine", "eager")
    assert "28 images seen: 0 computed, 28 reused" in again.output
    assert "taken as a quantity" in again.output
    fitted = run("fit", file, "--repeats", "1", "--folds", "3")
    assert fitted.exit_code == 0, fitted.output
    assert "Spearman" in fitted.stdout
    assert "of its prediction in 90 % of cases" in fitted.stdout
    probe = pictures / "shapes-ridge.probe"
    assert run("predict", probe, file).stdout.startswith("path,status,value,low,high,reason\n")
    shown = run("info", probe)
    assert "ridge (alpha" in shown.stdout
    assert "R2" in shown.stdout
    scored = run("score", probe, table, "--label-column", "light", "--features", file)
    assert scored.exit_code == 1
    assert "trained on all 28" in scored.output


def test_rows_that_are_kept_keep_their_labels_and_other_tasks_do_not_mix(pictures: Path):
    file = pictures / "added.h5"
    lines = (pictures / "table.csv").read_text().splitlines()
    (pictures / "first.csv").write_text("\n".join(lines[:11]))
    (pictures / "second.csv").write_text("\n".join([lines[0], *lines[11:21]]))
    common = ("-o", file, "--engine", "eager", "--label-column", "red")
    run("extract", pictures / "first.csv", *common, "--label-column", "green")
    more = run("extract", pictures / "second.csv", *common, "--task", "multilabel", "--add")
    assert more.exit_code == 0, more.output
    targets = bp.open(file).targets
    assert bp.open(file).classes == ["green", "red"]
    assert not np.isnan(targets[:10]).any()
    assert np.isnan(targets[10:, 0]).all()
    mixed = run("extract", pictures / "second.csv", *common, "--add", "--task", "regression")
    assert mixed.exit_code == 1
    assert "different labels" in mixed.output


def test_a_learning_curve_of_several_labels_is_refused_in_words(pictures: Path, labels):
    file = labels.save(pictures / "curve.h5")
    found = run("curve", file)
    assert found.exit_code == 1
    assert "a learning curve is for images of one class each" in found.output
    found = run("compare", file, file)
    assert found.exit_code == 1
    assert "a comparison is for images of one class each" in found.output
