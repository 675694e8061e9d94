"""A model trains alike alone, beside others, compiled and in PyTorch, and as PyTorch's own modules do."""

import numpy as np
import pytest
import torch
from bottleneck_probe.heads import MLPHead
from bottleneck_probe.heads.mlp.batch import train_batch
from bottleneck_probe.heads.mlp.kernel import train_one
from bottleneck_probe.heads.mlp.training import Course, alive, threshold
from bottleneck_probe.heads.validation import class_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn


def blobs(n=70, d=23, k=3, seed=0):
    """Classes that overlap, in a number of features that no vector width divides."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(n) % k)
    return (rng.normal(size=(n, d)) + 0.8 * np.eye(k, d)[y]).astype(np.float32), y


def training(X, y, **options):
    return MLPHead(**options).prepare(X, y, np.unique(y))


def largest_difference(a, b):
    pairs = zip(
        (a.first, a.first_bias, a.second, a.second_bias),
        (b.first, b.first_bias, b.second, b.second_bias),
        strict=True,
    )
    return max(np.abs(one - other).max() for one, other in pairs)


def by_modules(t, epochs):
    """The plain loop: modules, AdamW, autograd, in float64; the same start, rows and masks."""
    hidden, d = t.first.shape
    first, second = nn.Linear(d, hidden).double(), nn.Linear(hidden, t.k).double()
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(t.first))
        second.weight.copy_(torch.from_numpy(t.second))
        first.bias.zero_()
        second.bias.zero_()
    optimiser = torch.optim.AdamW(
        [
            {"params": [first.weight, second.weight], "weight_decay": t.weight_decay},
            {"params": [first.bias, second.bias], "weight_decay": 0.0},
        ],
        lr=t.learning_rate,
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.2, patience=5, threshold=1e-4, min_lr=1e-5
    )
    each = nn.CrossEntropyLoss(reduction="none")
    X, y = torch.from_numpy(t.X).double(), torch.from_numpy(t.y)
    weight = torch.from_numpy(t.weight).double()
    step, losses = 0, []
    for _ in range(epochs):
        for rows in torch.from_numpy(t.order()).split(t.batch_size):
            step += 1
            units = torch.relu(first(X[rows]))
            mask = torch.from_numpy(alive(t.mask_seed, step, len(rows), hidden, t.dropout))
            logits = second(units * mask / (threshold(t.dropout) / 2**24))
            optimiser.zero_grad()
            (each(logits, y[rows]) * weight[rows]).mean().backward()
            optimiser.step()
        with torch.no_grad():
            found = each(second(torch.relu(first(X[t.judged]))), y[t.judged])
            loss = float((found * weight[t.judged]).sum() / weight[t.judged].sum())
        losses.append(loss)
        schedule.step(loss)
    weights = [w.detach().numpy() for w in (first.weight, first.bias, second.weight, second.bias)]
    return weights, losses


@pytest.mark.parametrize(
    "train", [train_one, lambda t: train_batch([t])[0]], ids=["kernel", "batch"]
)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.3, "dropout": 0.0, "init": "xavier"},
        {"class_weight": "balanced", "hidden": 21, "batch_size": 7, "init": "lecun"},
    ],
    ids=["plain", "decay", "weights"],
)
def test_the_steps_are_those_of_modules_and_autograd(train, options):
    X, y = blobs()
    y[y == 2] = np.where(np.arange((y == 2).sum()) % 3 == 0, 2, 1)  # not balanced
    # A loss that falls in each epoch keeps the last weights, which are the ones to compare.
    options = {"learning_rate": 3e-4, "max_epochs": 4, **options}
    found = train(training(X, y, **options))
    expected, losses = by_modules(training(X, y, **options), 4)
    assert losses == sorted(losses, reverse=True)
    for ours, theirs in zip(
        (found.first, found.first_bias, found.second, found.second_bias), expected, strict=True
    ):
        assert np.abs(ours - theirs).max() < 2e-5  # Adam's step is 3e-4
    assert np.abs(found.first - training(X, y, **options).first).max() > 1e-3


@settings(deadline=None, max_examples=12)
@given(
    n=st.integers(6, 60),
    d=st.integers(1, 70),
    k=st.integers(2, 5),
    hidden=st.integers(1, 140),
    size=st.one_of(st.just("auto"), st.integers(1, 40)),
    dropout=st.sampled_from([0.0, 0.3, 0.5, 0.9]),
    weight=st.sampled_from([None, "balanced"]),
    seed=st.integers(0, 99),
)
def test_kernel_and_batch_agree(n, d, k, hidden, size, dropout, weight, seed):
    X, y = blobs(n, d, k, seed)
    options = {
        "hidden": hidden,
        "batch_size": size,
        "dropout": dropout,
        "class_weight": weight,
        "random_state": seed,
        "weight_decay": 0.1,
        "max_epochs": 2,
    }
    one, other = train_one(training(X, y, **options)), train_batch([training(X, y, **options)])[0]
    # A gradient of nearly 0 may round to either sign, which moves a weight by a whole step of Adam.
    assert np.abs(one.first - other.first).mean() < 1e-5
    assert np.abs(one.scores(X) - other.scores(X)).max() < 1e-2


def test_a_model_in_a_batch_is_the_model_alone():
    """Other folds, rates, sizes and seeds beside it; models that stop earlier leave the batch."""
    various = []
    for fold in range(3):
        X, y = blobs(60 + fold, seed=fold)
        various += [
            (X, y, {"learning_rate": rate, "random_state": seed, "dropout": dropout, "hidden": h})
            for rate, seed, dropout, h in (
                (1e-3, 0, 0.5, 24),
                (1e-2, 1, 0.2, 24),
                (3e-2, 2, 0.0, 16),
            )
        ]
    shared = {"max_epochs": 30, "patience": 4}
    together = train_batch([training(X, y, **o, **shared) for X, y, o in various])
    assert len({t.epochs for t in together}) > 2
    for (X, y, options), found in zip(various, together, strict=True):
        alone = train_batch([training(X, y, **options, **shared)])[0]
        assert found.epochs == alone.epochs
        assert largest_difference(found, alone) < 1e-4
        assert np.abs(found.scores(X) - alone.scores(X)).max() < 1e-3


def test_a_model_that_left_keeps_its_best_weights():
    X, y = blobs(60)
    short = training(X, y, max_epochs=3)
    long = training(X, y, max_epochs=12)
    found = train_batch([short, long])
    assert (found[0].epochs, found[1].epochs) == (3, 12)
    assert largest_difference(found[0], train_batch([training(X, y, max_epochs=3)])[0]) < 1e-6
    assert largest_difference(found[0], found[1]) > 1e-3


@given(
    st.lists(st.sampled_from([0.5, 0.7, 0.69999, 0.9, 1.0, float("nan")]), max_size=60),
    st.sampled_from([1e-3, 5e-2, 1e-5, 1e-6]),
)
@settings(deadline=None, max_examples=60)
def test_the_rate_falls_as_in_pytorch(losses, rate):
    weight = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([weight], lr=rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.2, patience=5, threshold=1e-4, min_lr=min(1e-5, rate), eps=0.0
    )
    ours = Course(rate, 100, 15)
    for loss in losses:
        ours.after(loss)
        schedule.step(loss)
        assert ours.rate == optimiser.param_groups[0]["lr"]


def test_training_stops_after_patience_and_at_the_last_epoch():
    way = Course(1e-3, 5, 2)
    assert [way.after(loss) for loss in (1.0, 0.5, 0.6)] == [True, True, False]
    assert not way.over
    way.after(0.49999)  # less than a ten-thousandth better is no better
    assert way.over
    assert way.converged
    way = Course(1e-3, 1, 2)
    way.after(1.0)
    assert way.over
    assert not way.converged


def test_dropout_leaves_out_its_share_and_no_two_steps_alike():
    masks = np.stack([alive(7, step, 64, 128, 0.3) for step in range(1, 41)])
    assert masks.mean() == pytest.approx(0.7, abs=0.003)
    assert masks.mean(axis=(0, 1)).std() < 0.02  # no unit is spared
    assert masks.mean(axis=(0, 2)).std() < 0.02  # no row is
    flat = masks.reshape(40, -1) - masks.mean()
    correlation = np.corrcoef(flat)[np.triu_indices(40, 1)]
    assert np.abs(correlation).max() < 0.06  # 780 pairs of 8,192: 4 sd are 0.044
    assert not np.array_equal(alive(7, 1, 4, 8, 0.5), alive(8, 1, 4, 8, 0.5))
    assert alive(7, 1, 4, 8, 0.0).all()


def test_class_weights_move_the_answers_to_the_rare_class():
    rng = np.random.default_rng(0)
    y = (np.arange(200) < 20).astype(int)
    X = rng.normal(size=(200, 5)) + 1.2 * y[:, None] * np.eye(5)[0]
    plain, balanced = (
        MLPHead(class_weight=w, random_state=1).fit(X, y).predict(X).mean()
        for w in (None, "balanced")
    )
    assert balanced > plain + 0.1
    assert class_weights("balanced", y, np.unique(y)).mean() == pytest.approx(1)
