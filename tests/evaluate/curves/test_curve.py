"""The curve: sizes are those that trained, choices never see what they score, duplicates do no good."""

import dataclasses

import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate.curves import curve as module
from bottleneck_probe.evaluate.curves.curve import default_draws, learning_curve, with_draws
from bottleneck_probe.evaluate.protocol import make_problem, want


def material(n=160, d=12, gap=1.2, seed=0, k=2):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % k
    X = rng.normal(size=(n, d))
    X[np.arange(n), y] += gap
    return X.astype(np.float32), y.astype(np.int32)


def measured(X, y, *, metric="accuracy", head="ridge", repeats=2, classes=None, **options):
    classes = classes or [f"c{i}" for i in range(int(y.max()) + 1)]
    problem = make_problem(X, y, classes=classes, repeats=repeats, **options)
    problem = dataclasses.replace(problem, plan=with_draws(problem.plan, 6))
    return learning_curve(problem, want(head, metric=metric))


def test_more_images_score_better_and_the_interval_holds_the_score():
    found = measured(*material())
    assert (len(found.sizes), found.sizes[0], found.sizes[-1]) == (7, 10, 128)
    assert found.scores[-1] > found.scores[0] + 0.02
    assert (found.low < found.scores).all()
    assert (found.scores < found.high).all()
    assert found.n_now == found.n_scored == 160
    assert found.protocol == "cross-validation-5x2"
    assert found.draws.shape == (10, 7)


def test_jobs_train_on_nested_subsets_of_the_size_and_never_on_what_they_score(monkeypatch):
    seen = []
    original = module._Measurement._sweep

    def spy(self, jobs, grid):
        seen.append(list(jobs))
        return original(self, jobs, grid)

    monkeypatch.setattr(module._Measurement, "_sweep", spy)
    X, y = material(120)
    keys = np.arange(120, dtype=np.uint8)[:, None] // 2 * np.ones((1, 32), np.uint8)  # pairs
    found = measured(X, y, keys=keys)
    jobs = seen[-1]
    assert len(jobs) == 10 * len(found.sizes)
    for start in range(0, len(jobs), len(found.sizes)):
        before: set[int] = set()
        for job, size in zip(jobs[start:], found.sizes, strict=False):
            train = set(job.train.tolist())
            assert before <= train
            assert len({i // 2 for i in train}) == size
            assert not {i // 2 for i in train} & {i // 2 for i in job.test.tolist()}
            before = train


def test_noise_stays_at_chance_however_many_settings_are_tried():
    """Choosing by the scored rows would lift it: 12 settings on 40 images of noise."""
    lifted = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(60, 30)).astype(np.float32)
        found = measured(X, (np.arange(60) % 2).astype(np.int32), head="logistic")
        lifted.append(found.scores.mean())
    assert abs(np.mean(lifted) - 0.5) < 0.06


def test_the_choice_for_a_block_goes_by_the_other_blocks_alone():
    rng = np.random.default_rng(0)
    right = rng.random((4, 2, 3, 30)) < 0.5
    weights = np.full(30, 1 / 30)
    blocks = np.stack([np.arange(30) % 5, np.arange(30) // 6])
    chosen = module._cross_fitted(right, weights, blocks)
    for r in range(2):
        for block in range(5):
            mine = blocks[r] == block
            for s in range(3):
                score = right[:, :, s, ~mine].sum(axis=(1, 2))
                assert (chosen[r, s, mine] == score.argmax()).all()
    # What the block's own rows say makes no difference.
    changed = right.copy()
    changed[:, :, :, blocks[0] == 0] = rng.random((4, 2, 3, 6)) < 0.5
    again = module._cross_fitted(changed, weights, blocks)
    np.testing.assert_array_equal(again[0][:, blocks[0] == 0], chosen[0][:, blocks[0] == 0])


def test_a_test_set_is_scored_by_several_draws():
    X, y = material(200)
    splits = np.where(np.arange(200) < 140, "train", "test")
    found = measured(X, y, splits=splits)
    assert found.protocol == "holdout"
    assert (found.sizes[-1], found.n_now, found.n_scored) == (140, 140, 60)
    assert found.draws.shape == (6, 7)
    assert np.ptp(found.draws[:, 0]) > 0  # other beginnings
    # All train on everything in the end; only the setting may differ between parts of the test set.
    assert np.ptp(found.draws[:, -1]) == pytest.approx(0, abs=1e-12)


def test_groups_are_drawn_whole():
    """Features that name the group: with groups apart, more of them are needed, not more images."""
    rng = np.random.default_rng(0)
    groups = np.arange(200) // 10
    y = (groups % 2).astype(np.int32)
    X = (rng.normal(size=(20, 30))[groups] * 3 + rng.normal(size=(200, 30)) * 0.1).astype(
        np.float32
    )
    apart = measured(X, y, groups=groups)
    mixed = measured(X, y)
    assert mixed.scores[-1] > 0.95
    assert apart.scores[-1] < 0.8


def test_balanced_accuracy_counts_classes_alike():
    rng = np.random.default_rng(0)
    y = (np.arange(200) % 10 == 0).astype(np.int32)
    X = rng.normal(size=(200, 5)).astype(np.float32)
    plain, balanced = (
        measured(X, y, metric=m).scores[-1] for m in ("accuracy", "balanced_accuracy")
    )
    assert plain > 0.8
    assert abs(balanced - 0.5) < 0.1


def test_other_metrics_are_refused():
    with pytest.raises(FitError, match="macro_f1"):
        measured(*material(), metric="macro_f1")


def test_too_few_images_give_the_score_and_no_forecast():
    found = measured(*material(20))
    assert len(found.sizes) == 1
    assert found.forecast is None
    assert found.advice.kind == "unclear"
    assert "too few" in found.advice.sentence


def test_all_answers_right_keep_a_width():
    X, y = material(100, gap=40)
    found = measured(X, y)
    assert found.scores[-1] == 1
    assert found.low[-1] < 0.99
    assert found.forecast.low[-1] < 0.999


def test_the_same_seed_gives_the_same_curve():
    X, y = material(80)
    first, again = measured(X, y), measured(X, y)
    np.testing.assert_array_equal(first.draws, again.draws)
    assert first.advice.sentence == again.advice.sentence


def test_there_are_ten_draws_at_least():
    assert default_draws(50, held_out=False) * 5 == 50
    assert default_draws(500, held_out=False) * 5 == 20
    assert default_draws(5000, held_out=False) * 5 == 10
    assert default_draws(500, held_out=True) == 20


@pytest.mark.parametrize("head", ["logistic", "svm", "ncm", "knn"])
def test_any_head_has_a_curve(head):
    found = measured(*material(80, k=3), head=head, repeats=1)
    assert found.scores[-1] > 0.5


def test_the_interval_holds_the_accuracy_of_a_probe_of_that_size():
    """Science: of 25 curves from fresh data, the interval at the largest size holds the mean accuracy."""
    X_new, y_new = material(4000, seed=10_000)
    truth = []
    for seed in range(8):
        X, y = material(96, seed=500 + seed)
        means = np.stack([X[y == c].mean(axis=0) for c in (0, 1)])
        distance = ((X_new[:, None] - means) ** 2).sum(axis=2)
        truth.append(np.mean(distance.argmin(axis=1) == y_new))
    held = 0
    for seed in range(25):
        found = measured(*material(120, seed=seed), head="ncm")
        assert found.sizes[-1] == 96
        held += found.low[-1] <= np.mean(truth) <= found.high[-1]
    assert held >= 21
