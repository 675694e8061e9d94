"""All heads on the same folds: the head is chosen where the score cannot see it."""

import numpy as np
import pytest
from bottleneck_probe.evaluate import evaluate
from bottleneck_probe.evaluate.all_heads import evaluate_all, explain, heads_for
from bottleneck_probe.evaluate.protocol import make_problem, want
from bottleneck_probe.heads import HEADS

FAST = [name for name in ("ncm", "ridge", "logistic", "knn", "svm") if name in HEADS]


def data(n=90, gap=2.0, seed=0, k=2, d=12):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % k).astype(np.int32)
    return (rng.normal(size=(n, d)) + gap * np.eye(k, d)[y]).astype(np.float32), y


def run(X, y, names=FAST, splits=None, repeats=2, metric="accuracy"):
    problem = make_problem(
        X, y, classes=[str(c) for c in range(y.max() + 1)], splits=splits, repeats=repeats
    )
    return evaluate_all(problem, [want(name, metric=metric) for name in names], metric=metric)


def test_each_head_scores_as_it_does_alone():
    X, y = data()
    found = run(X, y)
    for result in found.results:
        alone = evaluate(X, y, classes=["0", "1"], head=result.head, repeats=2)
        assert result.metrics == alone.metrics
        assert result.params == alone.params
        assert np.array_equal(result.oof.probabilities, alone.oof.probabilities)


def test_each_outer_fold_is_scored_by_the_head_that_was_taken_without_it():
    X, y = data(gap=1.0)
    found = run(X, y)
    inside = found.result.extra["heads"]["inside"]
    assert sum(inside.values()) == 10
    position = {r.head: r.oof.repeat_probabilities for r in found.results}
    for repeat in range(2):
        for fold in range(5):
            rows = found.result.oof.repeat_folds[repeat] == fold
            mine = found.result.oof.repeat_probabilities[repeat][rows]
            assert any(np.array_equal(mine, p[repeat][rows]) for p in position.values())
    assert found.result.head == found.results[found.taken].head
    assert found.result.params == found.results[found.taken].params


def test_the_score_of_the_one_taken_is_not_the_best_of_all():
    """On noise the best of many heads looks better than chance; the score of the procedure does not."""
    best, honest = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X, y = rng.normal(size=(40, 30)).astype(np.float32), (np.arange(40) % 2).astype(np.int32)
        found = run(X, y, repeats=1)
        best.append(max(r.metrics["accuracy"]["value"] for r in found.results))
        honest.append(found.result.metrics["accuracy"]["value"])
    assert np.mean(best) > np.mean(honest) + 0.02
    assert np.mean(honest) < 0.53


def test_optimism_is_that_of_the_best_of_all_settings_of_all_heads():
    found = run(*data(gap=1.2))
    tuned = [r.optimism["tuned"] for r in found.results]
    assert found.result.optimism == {
        "metric": "accuracy",
        "tuned": max(tuned),
        "settings": sum(r.optimism["settings"] for r in found.results),
    }


def test_a_head_that_is_far_better_is_taken_and_equals_go_to_the_simplest():
    rng = np.random.default_rng(0)
    y = (np.arange(160) % 2).astype(np.int32)
    # Two rings: no linear head can tell them apart.
    angle, radius = rng.uniform(0, 2 * np.pi, 160), 1 + 2 * y + 0.1 * rng.normal(size=160)
    X = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).astype(np.float32)
    found = run(X, y, names=["logistic", "svm", "svm-rbf"], repeats=1)
    assert found.result.head == "svm-rbf"
    assert found.result.metrics["accuracy"]["value"] > 0.95
    assert "take svm-rbf: it scores highest" in found.sentence
    assert (
        "shown to be worse: logistic and svm" in found.sentence or "logistic, svm" in found.sentence
    )
    X, y = data(gap=6.0)
    found = run(X, y)
    simplest = min((HEADS[name].simplicity, name) for name in FAST)[1]
    assert found.result.head == simplest


def test_with_a_test_set_the_choice_is_made_without_it():
    X, y = data(120, gap=1.2)
    splits = np.where(np.arange(120) < 70, "train", "test")
    found = run(X, y, splits=splits)
    other = y.copy()
    other[70:] = 1 - other[70:]
    assert run(X, other, splits=splits).result.head == found.result.head
    assert found.result.protocol == "holdout"
    assert found.result.metrics == found.results[found.taken].metrics


def test_small_and_large_sets_leave_heads_out_and_say_so():
    names, notes = heads_for(30)
    assert "mlp" not in names
    assert any("mlp" in note for note in notes)
    names, notes = heads_for(20_000)
    assert "svm-rbf" not in names
    assert any("svm-rbf" in note for note in notes)
    names, notes = heads_for(400)
    assert (set(names), notes) == (set(HEADS), [])
    assert [HEADS[name].simplicity for name in names] == sorted(HEADS[n].simplicity for n in names)


def test_one_head_is_taken_without_a_test():
    X, y = data(40)
    assert explain(run(X, y, names=["logistic"]).results, [], 0, "accuracy") == (
        "take logistic: no other was tried"
    )


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_f1"])
def test_the_comparison_goes_by_the_metric(metric):
    X, y = data(80)
    found = run(X, y, metric=metric)
    assert found.result.extra["heads"]["metric"] == metric


def test_a_choice_by_ranking_is_compared_by_accuracy():
    found = run(*data(60), names=["ridge", "logistic"], metric="auroc")
    assert found.result.extra["heads"]["metric"] == "accuracy"
    assert found.result.optimism["metric"] == "auroc"
