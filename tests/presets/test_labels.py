"""`vissl-svm` on several labels an image, VOC07's own form."""

import warnings

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.presets import vissl_svm
from bottleneck_probe.presets.labels import evaluate_labels
from preset_data import plain_ap
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC

NAMES = ["cat", "dog", "sofa"]


def data(seed: int = 0, n: int = 120, d: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets with some to be ignored, and splits."""
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.normal(0.3, 1, (n, d)), 0).astype(np.float32)
    targets = (X @ rng.normal(0, 1, (d, 3)) + rng.normal(0, 1, (n, 3)) > 0.5).astype(float)
    targets[rng.random((n, 3)) < 0.1] = np.nan
    return X, targets, np.where(np.arange(n) < n // 2, "train", "test")


def test_it_is_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vissl_svm, "COSTS", (0.01, 0.1, 1.0))
    X, targets, splits = data()
    unit = X.astype(np.float64)
    unit = unit / (np.linalg.norm(unit, axis=1, keepdims=True) + 1e-5)
    train, test = splits == "train", splits == "test"
    result = evaluate_labels(X, targets, names=NAMES, splits=splits)

    def machine(C: float) -> LinearSVC:
        return LinearSVC(C=C, class_weight={1: 2, -1: 1}, max_iter=2000, random_state=0)

    expected = []
    for c in range(3):
        labels = np.where(targets[train, c] == 1, 1, -1)  # ignored ones train as negatives
        found = {}
        for C in (0.01, 0.1, 1.0):
            folds = []
            for a, b in StratifiedKFold(3).split(unit[train], labels):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    fitted = machine(C).fit(unit[train][a], labels[a])
                values = fitted.decision_function(unit[train][b])
                folds.append(average_precision_score(labels[b] == 1, values))
            found[C] = np.mean(folds)
        cost = max(found, key=lambda C: found[C])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values = machine(cost).fit(unit[train], labels).decision_function(unit[test])
        known = ~np.isnan(targets[test, c])  # and take no part in the test
        expected.append((cost, plain_ap(targets[test, c][known] == 1, values[known])))
    table = result.extra["preset"]["table"]
    assert [row["cost"] for row in table] == [cost for cost, _ in expected]
    assert [row["AP"] for row in table] == pytest.approx([ap for _, ap in expected])
    first = result.extra["preset"]["headline"][0]
    assert first["value"] == pytest.approx(np.mean([ap for _, ap in expected]))
    assert first["low"] < first["value"] < first["high"]
    assert result.metrics["map"]["value"] <= first["value"] + 1e-9
    kept = result.fitted.predict_proba(X[test])
    np.testing.assert_allclose(kept, result.oof.repeat_predictions[0], atol=1e-6)


def test_fit_keeps_a_probe_of_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vissl_svm, "COSTS", (0.1, 1.0))
    X, targets, splits = data(1)
    features = bp.Features.from_arrays(
        X, targets=targets, classes=NAMES, splits=splits.tolist(), task="multilabel"
    )
    probe = bp.fit(features, preset="vissl-svm", output=tmp_path / "voc.probe", quiet=True)
    assert probe.protocol == "vissl-svm-like"  # features from arrays
    again = bp.load(tmp_path / "voc.probe")
    assert again.extra["preset"]["headline"][0]["name"] == "mAP"
    np.testing.assert_array_equal(again.predict_proba(X), probe.predict_proba(X))


def test_other_presets_say_that_they_know_one_class_an_image() -> None:
    X, targets, splits = data()
    features = bp.Features.from_arrays(
        X, targets=targets, classes=NAMES, splits=splits.tolist(), task="multilabel"
    )
    with pytest.raises(FitError, match="one class each"):
        bp.fit(features, preset="dinov2", quiet=True)


def test_a_label_on_no_training_image_is_refused() -> None:
    X, targets, splits = data()
    targets[splits == "train", 1] = 0
    with pytest.raises(FitError, match="dog: on none, or on all"):
        evaluate_labels(X, targets, names=NAMES, splits=splits)
