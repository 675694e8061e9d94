import warnings

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.presets import fair_lowshot, vissl_svm
from bottleneck_probe.presets.base import Setup
from bottleneck_probe.presets.one_vs_rest import envelope_ap, map_interval
from bottleneck_probe.presets.parts import divide
from hypothesis import given, settings
from hypothesis import strategies as st
from preset_data import Data, headline, make, plain_ap, run
from sklearn.metrics import average_precision_score
from sklearn.model_selection import StratifiedKFold
from sklearn.svm import LinearSVC


def machine(C: float) -> LinearSVC:
    return LinearSVC(C=C, class_weight={1: 2, -1: 1}, max_iter=2000, random_state=0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.booleans(), min_size=1, max_size=30).filter(any), st.integers(0, 9))
def test_average_precision_is_the_area_under_the_envelope(labels: list[bool], seed: int) -> None:
    positive = np.array(labels)
    scores = np.random.default_rng(seed).normal(size=len(labels))
    found = envelope_ap(positive, scores)
    assert found == pytest.approx(plain_ap(positive, scores))
    assert found >= average_precision_score(positive, scores) - 1e-12


def test_it_is_the_plain_loop() -> None:
    # With more features than this one the machines end before 2,000 iterations; short of it their
    # values would depend on the last bit of the features.
    data = make({"train": 30, "val": 8, "test": 40}, d=30)
    rows = np.flatnonzero(data.splits != "test")  # folds go by the order of the rows
    X, y = data.X[rows].astype(np.float64), data.y[rows]
    other, truth = data.part("test")
    X = X / (np.linalg.norm(X, axis=1, keepdims=True) + 1e-5)
    other = other / (np.linalg.norm(other, axis=1, keepdims=True) + 1e-5)
    costs, theirs, sklearns = [], [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for c in range(4):
            labels = np.where(y == c, 1, -1)
            best = (-1.0, 0.0)
            for C in (0.01, 0.1, 1, 2, 5, 10, 15, 20, 50, 100, 1000):
                found = np.mean(
                    [
                        average_precision_score(
                            labels[b] == 1, machine(C).fit(X[a], labels[a]).decision_function(X[b])
                        )
                        for a, b in StratifiedKFold(3).split(X, labels)
                    ]
                )
                if found > best[0]:
                    best = (float(found), C)
            values = machine(best[1]).fit(X, labels).decision_function(other)
            costs.append(best[1])
            theirs.append(plain_ap(truth == c, values))
            sklearns.append(average_precision_score(truth == c, values))
    result = run("vissl-svm", data)
    table = result.extra["preset"]["table"]
    assert [row["cost"] for row in table] == costs
    assert [row["AP"] for row in table] == pytest.approx(theirs)
    assert [row["AP (scikit-learn)"] for row in table] == pytest.approx(sklearns)
    assert headline(result)["mAP"] == pytest.approx(np.mean(theirs))
    first = result.extra["preset"]["headline"][0]
    assert 0 < first["low"] < first["value"] < first["high"] < 1
    assert result.n_train == len(X)


def test_two_classes_answer_as_the_larger_of_two_machines() -> None:
    data = make({"train": 20, "test": 20}, n_classes=2)
    result = run("vissl-svm", data)
    values = result.fitted.scores(data.X[result.oof.rows])
    np.testing.assert_allclose(
        np.exp(values[:, 1]) / np.exp(values).sum(axis=1),
        result.oof.repeat_probabilities[0][:, 1],
        atol=1e-6,
    )


def test_the_trap_of_ignored_labels_they_train_as_negatives(data: Data) -> None:
    X, y = data.part("train")
    setup = Setup(data.X, divide(data.y, data.classes, data.splits, None))
    targets = (y[:, None] == np.arange(4)).astype(int)
    ignored = np.where((targets == 0) & (np.arange(len(y))[:, None] % 3 == 0), -1, targets)
    first, second = (vissl_svm.train(X, each, setup) for each in (targets, ignored))
    np.testing.assert_array_equal(first.decide(X), second.decide(X))


def test_the_interval_of_a_perfect_ranking_has_a_width() -> None:
    positive = np.eye(3, dtype=bool)[np.arange(30) % 3]
    low, high = map_interval(positive, positive.astype(float), 0)
    assert low == pytest.approx(0.025 ** (1 / 30))
    assert high == pytest.approx(1)


def test_low_shot_is_the_plain_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fair_lowshot, "SHOTS", (1, 4))
    data = make({"train": 6, "test": 30}, n_classes=3)
    X, y = data.part("train")
    other, truth = data.part("test")
    X = X / (np.linalg.norm(X, axis=1, keepdims=True) + 1e-5)
    other = other / (np.linalg.norm(other, axis=1, keepdims=True) + 1e-5)
    costs = [10.0**e for e in range(-7, 3)] + [0.5**e for e in range(4, 20)]
    result = run("fair-lowshot", data)
    for row in result.extra["preset"]["table"]:
        k = row["k"]
        found = np.zeros((5, len(costs)))
        for draw in range(5):
            drawn = fair_lowshot.draw_rows(y, k, np.random.default_rng([0, draw, k]))
            assert np.bincount(y[drawn]).tolist() == [k, k, k]
            for j, C in enumerate(costs):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found[draw, j] = np.mean(
                        [
                            plain_ap(
                                truth == c,
                                machine(C)
                                .fit(X[drawn], np.where(y[drawn] == c, 1, -1))
                                .decision_function(other),
                            )
                            for c in range(3)
                        ]
                    )
        best = found.mean(axis=0).argmax()
        assert row["cost"] == pytest.approx(costs[best])
        for name in ("mean", "min", "max"):
            assert row[name] == pytest.approx(getattr(np, name)(found[:, best]))
        assert row["sd"] == pytest.approx(found[:, best].std())
        assert row["mean, cost by the other draws"] <= row["mean"] + 1e-12


def test_the_trap_of_low_shot_the_test_labels_choose_the_cost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other test labels, another cost: so does the source, and the number is the best of 26."""
    monkeypatch.setattr(fair_lowshot, "SHOTS", (4,))
    data = make({"train": 6, "test": 30}, n_classes=3)
    first = run("fair-lowshot", data)
    (row,) = first.extra["preset"]["table"]
    assert row["mean"] == pytest.approx(max(first.choice["scores"]))
    rows = data.splits == "test"
    costs = {first.params["C"]}
    for seed in range(5):
        y = data.y.copy()
        y[rows] = np.random.default_rng(seed).permutation(y[rows])
        costs.add(run("fair-lowshot", data._replace(y=y)).params["C"])
    assert len(costs) > 1
    assert any("test mAP" in trap for trap in first.extra["preset"]["traps"])


def test_a_k_above_the_smallest_class_is_skipped() -> None:
    result = run("fair-lowshot", make({"train": 3, "test": 5}, n_classes=2))
    assert [row["k"] for row in result.extra["preset"]["table"]] == [1, 2]
    assert result.protocol == "fair-lowshot-like"


def test_a_class_smaller_than_the_folds_is_told() -> None:
    with pytest.raises(FitError, match="2 training images"):
        run("vissl-svm", make({"train": 2, "test": 5}))
