"""Many folds solved as one batch score what each fold scores alone."""

import numpy as np
import pytest
import torch
from bottleneck_probe.heads import LogisticHead, shared_rows, stacked, sweep
from bottleneck_probe.heads.linear import fit_linear
from bottleneck_probe.heads.losses import Multinomial, SquaredHinge
from bottleneck_probe.heads.rotation import rotate
from bottleneck_probe.heads.scaling import fit_scaling
from bottleneck_probe.heads.shared_rows import Rows
from bottleneck_probe.heads.solver import minimise
from bottleneck_probe.heads.stacked import fold_of, solve_stack, stacks
from bottleneck_probe.heads.sweep import Job, sweep_each, sweep_linear
from bottleneck_probe.heads.validation import class_weights
from hypothesis import given, settings
from hypothesis import strategies as st

GRID = [{"C": float(C)} for C in np.logspace(-4, 1, 6)]
LOSSES = pytest.mark.parametrize(
    "loss", [Multinomial(), SquaredHinge()], ids=lambda loss: type(loss).__name__
)


def features(n, d, k, *, seed=0, offset=3.0):
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    X = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) / np.sqrt(np.arange(1, d + 1)))
    X[:, : min(k, d)] += 2 * np.eye(k)[y][:, :d]
    return (5 * X + offset).astype(np.float32), y


def jobs_of(n, *, folds=4, repeats=2, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(repeats):
        fold = rng.permutation(n) % folds
        found += [Job(np.flatnonzero(fold != f), np.flatnonzero(fold == f)) for f in range(folds)]
    return found


def one_by_one(loss, X, y, jobs, grid, k, **options):
    """Each job as a call of its own: there is nothing to share or to stack then."""
    for job in jobs:
        yield from sweep_linear(loss, X, y, [job], grid, n_classes=k, **options)


def assert_close(ours, theirs, share=0.02):
    assert ours.shape == theirs.shape
    assert np.array_equal(np.isneginf(ours), np.isneginf(theirs))
    ours, theirs = (np.where(np.isfinite(part), part, 0) for part in (ours, theirs))
    largest = np.maximum(np.abs(theirs).max(axis=(1, 2), keepdims=True), 1e-3)
    assert np.abs((ours - theirs) / largest).max() < share


@st.composite
def problems(draw):
    n, k = draw(st.integers(12, 40)), draw(st.integers(2, 4))
    d = draw(st.sampled_from([1, 3, 9, 30, 90]))
    seed = draw(st.integers(0, 10**6))
    X, y = features(n, d, k, seed=seed)
    rng = np.random.default_rng(seed)
    if draw(st.booleans()):
        X[:, rng.random(d) < 0.4] = 4  # as behind a ReLU
    if draw(st.booleans()):
        X[n // 2 :] = X[: n - n // 2]  # equal rows
    if draw(st.booleans()):
        y[y == k - 1] = np.where(np.arange((y == k - 1).sum()) < 2, k - 1, 0)  # a rare class
    jobs = jobs_of(n, folds=draw(st.integers(2, 5)), seed=seed)
    if draw(st.booleans()):
        jobs.append(Job(np.flatnonzero(y != 1), np.flatnonzero(y == 1)))
        jobs.append(Job(np.flatnonzero(y == 0), np.arange(n)))
    return X, y, jobs, k


@given(
    problems(),
    st.sampled_from(["scalar", "none", "l2", "l2-vissl", "standard"]),
    st.sampled_from([None, "balanced", {0: 3.0}, "both"]),
)
@settings(deadline=None, max_examples=20)
def test_many_folds_score_as_each_alone(problem, scaling, weight):
    X, y, jobs, k = problem
    loss = Multinomial()
    if scaling == "none":
        X = X / 10
    weights = [None, "balanced"] if weight == "both" else [weight]
    grid = [{**setting, "class_weight": w} for setting in GRID for w in weights]
    together = list(sweep_linear(loss, X, y, jobs, grid, n_classes=k, scaling=scaling))
    alone = list(one_by_one(loss, X, y, jobs, grid, k, scaling=scaling))
    assert len(together) == len(jobs)
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.dtype == np.float32
        # Both are within 3e-6 of the objective, no more; the next test solves tightly.
        assert_close(ours, theirs, 0.2)


@given(
    problems(),
    st.sampled_from(["scalar", "none", "l2"]),
    st.sampled_from([None, "balanced", {0: 3.0}]),
    st.sampled_from([Multinomial(), SquaredHinge()]),
)
@settings(deadline=None, max_examples=40)
def test_stacks_have_the_solutions_of_scaled_rows(problem, scaling, weight, loss):
    """In float64, where both can be solved tightly."""
    X, y, jobs, _ = problem
    X = X.astype(np.float64) / (10 if scaling == "none" else 1)
    folds = [fold_of(job.train, job.test, y) for job in jobs]
    rows, C = Rows(X, folds, scaling), np.array([1e-3, 0.1, 3.0])
    for part in stacks(folds, loss, len(C), X.shape[1], 4):
        mine = [folds[i] for i in part]
        k = len(mine[0].present)
        if k == 1:
            continue
        weights = [class_weights(weight, fold.indices, fold.present) for fold in mine]
        stack = rows.of(mine)
        options = {"tol": 1e-11, "certified": True, "max_iter": 5000}
        found = solve_stack(stack, mine, C, loss, weights, memory=10, **options)
        assert found.converged.all()
        for j, (fold, counts) in enumerate(zip(mine, weights, strict=True)):
            scaler = fit_scaling(scaling, X[fold.train])
            train, test = scaler.transform(X[fold.train]), scaler.transform(X[fold.test])
            one = fit_linear(train, fold.indices, C, loss, k, weights=counts, **options)
            assert found.objective[j] == pytest.approx(one.objective, rel=1e-9)
            ours = np.einsum("pqr,mr->pqm", found.weights[j], stack.test[j])
            theirs = np.einsum("pqd,md->pqm", one.coef, test) + one.intercept[..., None]
            assert ours == pytest.approx(theirs, abs=1e-3 * max(np.abs(theirs).max(), 1))


@pytest.mark.parametrize("scaling", ["scalar", "none"])
@pytest.mark.parametrize("d", [12, 200], ids=["shared axes", "inner products"])
@pytest.mark.parametrize("k", [2, 3])
def test_stacked_folds_score_as_one_tight_fit_after_the_other(scaling, d, k):
    X, y = features(40, d, k)
    X = X / 5
    jobs, grid = jobs_of(40), GRID[:5]
    theirs = sweep_each(lambda s: LogisticHead(**s), X, y, jobs, grid, n_classes=k, scaling=scaling)
    ours = sweep_linear(Multinomial(), X, y, jobs, grid, n_classes=k, scaling=scaling)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("scaling", ["scalar", "standard"])
def test_tensors_score_as_the_stack_does(scaling):
    X, y = features(30, 60, 3)
    here, there = (
        list(
            sweep_linear(
                Multinomial(), X, y, jobs_of(30), GRID, n_classes=3, scaling=scaling, device=device
            )
        )
        for device in ("cpu", "cpu:0")
    )
    for ours, theirs in zip(here, there, strict=True):
        assert_close(ours, theirs)


def test_equal_rows_score_alike_and_finite():
    X, y = np.full((20, 30), 7, np.float32), np.arange(20) % 2
    X[-1] = 8  # in three of four folds the training rows differ, in one they do not
    jobs = jobs_of(20, repeats=1)
    together = list(sweep_linear(Multinomial(), X, y, jobs, GRID, n_classes=2, scaling="scalar"))
    alone = list(one_by_one(Multinomial(), X, y, jobs, GRID, 2, scaling="scalar"))
    for ours, theirs in zip(together, alone, strict=True):
        assert np.isfinite(ours).all()
        assert ours == pytest.approx(theirs, abs=0.02)
    X[-1] = 7
    for scores in sweep_linear(Multinomial(), X, y, jobs, GRID, n_classes=2, scaling="scalar"):
        assert np.ptp(scores, axis=1).max() == 0


def test_a_row_far_from_all_others_does_not_blur_the_folds_without_it():
    X, y = features(30, 80, 2)
    far = X.copy()
    far[0] += 1e4
    job = [job for job in jobs_of(30) if 0 not in job.train]
    clean = list(one_by_one(Multinomial(), X, y, job, GRID, 2, scaling="scalar"))
    found = sweep_linear(Multinomial(), far, y, job, GRID, n_classes=2, scaling="scalar")
    for job_, ours, theirs in zip(job, found, clean, strict=True):
        others = job_.test != 0
        assert_close(ours[:, others], theirs[:, others])


def test_a_fold_is_scaled_by_its_own_training_rows():
    X, y = features(30, 50, 2, offset=40)
    folds = [fold_of(job.train, job.test, y) for job in jobs_of(30)]
    for fold, scale in zip(folds, map(Rows(X, folds, "scalar")._scale, folds), strict=True):
        assert scale == pytest.approx(fit_scaling("scalar", X[fold.train]).scale[0], rel=1e-9)


@pytest.mark.parametrize("d", [10, 100], ids=["shared axes", "inner products"])
def test_coordinates_keep_the_distances_of_scaled_rows(d):
    X, y = features(30, d, 2, offset=40)
    folds = [fold_of(job.train, job.test, y) for job in jobs_of(30, folds=7)]
    stack = Rows(X, folds, "scalar").of(folds)
    assert len({len(fold.train) for fold in folds}) == 2  # some are filled up
    for fold, A, test in zip(folds, stack.training, stack.test, strict=True):
        scaling = fit_scaling("scalar", X[fold.train])
        train = scaling.transform(X[fold.train]).astype(np.float64)
        others = scaling.transform(X[fold.test]) - train.mean(axis=0)
        train -= train.mean(axis=0)
        m = len(train)
        assert (A[:m, -1] == 1).all()
        assert not A[m:].any()
        inner = A[:m, :-1]
        tolerance = 1e-5 * np.abs(train @ train.T).max()
        assert inner @ inner.T == pytest.approx(train @ train.T, abs=tolerance)
        assert test[:, :-1] @ inner.T == pytest.approx(others @ train.T, abs=tolerance)


@pytest.mark.parametrize("largest", [1, 3000, 10**9])
def test_scores_do_not_depend_on_what_is_stacked(monkeypatch, largest):
    X, y = features(50, 90, 3)
    jobs = jobs_of(50)
    whole = list(sweep_linear(Multinomial(), X, y, jobs, GRID, n_classes=3, scaling="scalar"))
    monkeypatch.setattr(stacked, "_NUMBERS", largest)
    parts = list(sweep_linear(Multinomial(), X, y, jobs, GRID, n_classes=3, scaling="scalar"))
    for ours, theirs in zip(parts, whole, strict=True):
        assert_close(ours, theirs, 0.01)


def test_scores_of_stacks_do_not_depend_on_the_number_of_threads(monkeypatch):
    X, y = features(60, 90, 3)
    monkeypatch.setattr(stacked, "_NUMBERS", 3 * 45 * 6 * 3)
    found = []
    for cpus in (1, 3):
        monkeypatch.setattr("os.cpu_count", lambda cpus=cpus: cpus)
        found.append(
            list(
                sweep_linear(Multinomial(), X, y, jobs_of(60), GRID, n_classes=3, scaling="scalar")
            )
        )
    assert all(np.array_equal(a, b) for a, b in zip(*found, strict=True))


def test_without_room_for_inner_products_each_fold_has_its_own(monkeypatch):
    X, y = features(30, 90, 2)
    jobs = jobs_of(30)
    shared = list(sweep_linear(Multinomial(), X, y, jobs, GRID, n_classes=2, scaling="scalar"))
    monkeypatch.setattr(shared_rows, "_PRODUCTS", 10)
    monkeypatch.setattr(sweep, "Rows", type("Refused", (), {"suit": Rows.suit}))
    own = sweep_linear(Multinomial(), X, y, jobs, GRID, n_classes=2, scaling="scalar")
    for ours, theirs in zip(shared, own, strict=True):
        assert_close(ours, theirs)


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 4)), min_size=1, max_size=40),
    st.integers(1, 50),
)
@settings(deadline=None, max_examples=100)
def test_every_fold_is_in_one_stack_of_its_kind(sizes, n_settings):
    folds = []
    for n, k in sizes:
        y = np.arange(max(n, k)) % k
        folds.append(fold_of(np.arange(len(y)), np.arange(5), y))
    found = stacks(folds, Multinomial(), n_settings, 100, 4)
    assert sorted(i for part in found for i in part) == list(range(len(folds)))
    assert [part[0] for part in found] == sorted(part[0] for part in found)
    for part in found:
        assert part == sorted(part)
        assert len({len(folds[i].present) for i in part}) == 1
        lengths = [len(folds[i].train) for i in part]
        assert max(lengths) <= 2.25 * min(lengths)
    roomy = n_settings * 4 * 60 * len(folds) < 2**19
    kinds = {(len(fold.present), len(fold.train)) for fold in folds}
    assert not roomy or len({k for k, _ in kinds}) <= len(found)


def test_stacks_are_bounded():
    y = np.arange(400) % 2
    folds = [fold_of(np.arange(300), np.arange(300, 400), y)] * 100
    few = max(map(len, stacks(folds, Multinomial(), 1, 1000, 2)))
    assert few * 300 * 301 <= stacked._MATRICES
    many = max(map(len, stacks(folds, Multinomial(), 45, 5, 2)))
    assert many * 45 * 300 <= stacked._NUMBERS
    wide = max(map(len, stacks(folds, Multinomial(), 10, 5, 1000)))
    assert wide * 10 * 100 * 1000 <= stacked._SCORES
    assert min(few, many, wide) > 1


def stack_of(kind, k, *, seed=0):
    """Three fits of 12, 9 and 12 samples as one stack, and alone."""
    rng = np.random.default_rng(seed)
    A, y, weights = np.zeros((3, 12, 6)), np.zeros((3, 12), np.intp), np.zeros((3, 12))
    alone = []
    for j, n in enumerate((12, 9, 12)):
        own = rotate(rng.normal(size=(n, 5)) + 2 * np.arange(n)[:, None] % k).training
        A[j, :n] = own
        y[j, :n] = np.arange(n) % k
        weights[j, :n] = rng.uniform(0.5, 2, n)
        alone.append((own, y[j, :n], weights[j, :n]))
    if kind == "torch":
        A, y, weights = map(torch.as_tensor, (A, y, weights))
    return A, y, weights, alone


@LOSSES
@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("started", [False, True])
def test_problems_of_a_stack_end_where_each_alone_does(loss, k, kind, started):
    A, y, weights, alone = stack_of(kind, k)
    owner, C = np.array([0, 0, 1, 2, 2]), np.array([0.01, 10.0, 0.3, 0.1, 100.0])
    start = None
    if started:  # the last one is worse than nothing
        start = np.random.default_rng(1).normal(size=(5, loss.outputs(k), 6)) * 1e-2
        start[-1] *= 1e6
        start = torch.as_tensor(start) if kind == "torch" else start
    options = {"tol": 1e-12, "certified": True, "max_iter": 2000}
    together = minimise(A, y, C, loss, k, weights=weights, owner=owner, start=start, **options)
    assert together.converged.all()
    for i, (j, strength) in enumerate(zip(owner, C, strict=True)):
        own, labels, counts = alone[j]
        one = minimise(own, labels, np.array([strength]), loss, k, weights=counts, **options)
        assert together.objective[i] == pytest.approx(one.objective[0], rel=1e-10)
        ours, theirs = np.asarray(together.weights[i]), one.weights[0]
        if isinstance(loss, Multinomial) and k > 2:  # one number for all intercepts is free
            ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
        assert ours == pytest.approx(theirs, abs=1e-4)


@LOSSES
@pytest.mark.parametrize("q", [1, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_problems_may_have_classes_and_weights_of_their_own(loss, q, weighted):
    rng = np.random.default_rng(0)
    logits, y = rng.normal(size=(3, q, 6)), rng.integers(max(q, 2), size=(3, 6))
    weights = rng.uniform(0, 2, size=(3, 6)) if weighted else None
    together = loss(logits, y, weights)
    for i in range(3):
        alone = loss(logits[i : i + 1], y[i], None if weights is None else weights[i])
        for ours, theirs in zip(together, alone, strict=True):
            assert ours[i] == pytest.approx(theirs[0], rel=1e-12)


def test_bad_starts_in_a_stack_are_not_used():
    A, y, weights, _ = stack_of("numpy", 3)
    C, owner = np.ones(3), np.arange(3)
    options = {"weights": weights, "owner": owner, "tol": 1e-10, "certified": True}
    plain = minimise(A, y, C, Multinomial(), 3, max_iter=1000, **options)
    wild = 1e3 * np.random.default_rng(1).normal(size=(3, 3, 6))
    found = minimise(A, y, C, Multinomial(), 3, max_iter=1000, start=wild, **options)
    assert np.array_equal(found.iterations, plain.iterations)
    assert found.weights == pytest.approx(plain.weights, rel=1e-9)
