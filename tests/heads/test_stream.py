"""A head trained in slices comes near the exact one, in bounded memory, from any sliceable array."""

import h5py
import numpy as np
import pytest
from bottleneck_probe.heads.logistic import LogisticHead
from bottleneck_probe.heads.scaling import fit_scaling
from bottleneck_probe.heads.stream import StreamedLogistic, working_bytes
from bottleneck_probe.heads.stream.rows import hold_out
from sklearn.preprocessing import StandardScaler


def features(n=4000, d=20, k=3, *, seed=0, gap=1.0):
    """Rows in the order of their classes, as in a feature file."""
    rng = np.random.default_rng(seed)
    y = np.sort(np.arange(n) % k)
    X = 3 * rng.normal(size=(n, d)) + 5
    X[:, :k] += 3 * gap * np.eye(k)[y]
    return X.astype(np.float16), y


class Watched:
    """An array that remembers the largest slice that was asked for."""

    def __init__(self, array):
        self.array, self.shape, self.largest = array, array.shape, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        part = self.array[rows]
        self.largest = max(self.largest, len(part))
        return part


SCALERS = {
    "standard": StandardScaler().fit,
    "scalar": lambda rows: fit_scaling("scalar", rows),
    "none": lambda rows: fit_scaling("none", rows),
}


def exact_on_the_same_rows(head, X, y):
    """`LogisticHead` on the rows that trained `head`, scaled by them; and X scaled so."""
    held = np.isin(np.arange(len(y)), head.held_out_rows_)
    scaler = SCALERS[head.scaling](X[~held].astype(float))
    exact = LogisticHead(C=head.C).fit(scaler.transform(X[~held].astype(float)), y[~held])
    return exact, scaler.transform(X.astype(float)), head.scaling_.scale


@pytest.mark.parametrize("k", [2, 3])
def test_it_comes_near_the_exact_solution(k):
    X, y = features(k=k)
    head = StreamedLogistic(C=0.01, max_epochs=40, held_out=0.1).fit(X, y)
    exact, scaled, _ = exact_on_the_same_rows(head, X, y)
    # The samples overlap: a third of all answers is wrong, and many are close.
    assert np.mean(head.predict(X) == exact.predict(scaled)) > 0.965
    assert np.abs(head.predict_proba(X) - exact.predict_proba(scaled)).mean() < 0.012


@pytest.mark.parametrize("scaling", ["standard", "scalar", "none"])
def test_the_penalty_is_the_one_of_C(scaling):
    """Strongly penalised, where an optimiser's own idea of weight decay would show.

    Features of very different widths: by one scale for all, the penalty falls on them unequally.
    """
    X, y = features()
    X = (X * np.geomspace(0.03, 3, X.shape[1])[np.argsort(np.arange(X.shape[1]) % 5)]).astype("f4")
    head = StreamedLogistic(C=1e-4, max_epochs=40, held_out=0.1, scaling=scaling).fit(X, y)
    exact, _, spread = exact_on_the_same_rows(head, X, y)
    ours, theirs = head.coef_ * spread, exact.coef_
    assert np.linalg.norm(ours) == pytest.approx(np.linalg.norm(theirs), rel=0.05)
    assert np.linalg.norm(ours - theirs) < 0.2 * np.linalg.norm(theirs)


def test_held_out_rows_choose_among_values_of_C():
    X, y = features(2000, gap=0.5)
    head = StreamedLogistic(C=(1e-6, 1e-2), held_out=0.2, max_epochs=5).fit(X, y)
    alone = [StreamedLogistic(C=C, held_out=0.2, max_epochs=5).fit(X, y) for C in (1e-6, 1e-2)]
    scores = [one.history_[-1].accuracy[0] for one in alone]
    better = alone[int(np.argmax(scores))]
    assert head.C_ == better.C_
    assert head.coef_ == pytest.approx(better.coef_, abs=1e-6)
    assert head.history_[0].loss.shape == (2,)


def test_it_never_reads_more_than_a_few_thousand_rows_at_once():
    X, y = features(20_000, 4)
    watched = Watched(X)
    StreamedLogistic(C=0.1, max_epochs=1).fit(watched, y)
    assert watched.largest <= 4096


def test_a_dataset_of_a_file_gives_what_the_array_gives(tmp_path):
    X, y = features(1000)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        stored = file.create_dataset("features", data=X)
        there = StreamedLogistic(C=0.1, max_epochs=2).fit(stored, y)
    here = StreamedLogistic(C=0.1, max_epochs=2).fit(X, y)
    assert np.array_equal(there.coef_, here.coef_)


def test_rows_that_take_no_part_change_nothing():
    X, y = features(1000)
    rows = np.arange(1000) % 3 > 0
    head = StreamedLogistic(C=0.1, max_epochs=2).fit(X, y, rows=rows)
    other = X.copy()
    other[~rows] = np.inf
    again = StreamedLogistic(C=0.1, max_epochs=2).fit(other, np.where(rows, y, 9), rows=rows)
    assert np.array_equal(head.coef_, again.coef_)
    assert again.classes_.tolist() == [0, 1, 2]


def test_what_is_not_finite_is_named_by_its_row():
    X, y = features(5000)
    X[4321, 2] = np.inf
    with pytest.raises(ValueError, match="row 4321"):
        StreamedLogistic(C=0.1).fit(X, y)


def test_too_little_memory_is_refused_before_anything_is_read():
    watched = Watched(np.zeros((10, 1280), np.float16))
    with pytest.raises(ValueError, match="max_bytes is 1,000"):
        StreamedLogistic(max_bytes=1000).fit(watched, np.arange(10) % 2)
    assert watched.largest == 0
    assert working_bytes(1280, 1000, 4) < 2**30


def test_the_state_predicts_the_same():
    X, y = features(1000)
    head = StreamedLogistic(C=(0.1, 1.0), max_epochs=2).fit(X, np.array(["a", "b", "c"])[y])
    again = StreamedLogistic.from_state(*head.to_state())
    assert np.array_equal(again.predict_proba(X), head.predict_proba(X))
    assert np.array_equal(again.predict(X), head.predict(X))


def test_one_class_is_refused():
    with pytest.raises(ValueError, match="one class"):
        StreamedLogistic().fit(np.ones((5, 2)), np.zeros(5))


def test_rows_of_a_group_are_held_out_together():
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(4), 500)
    groups = np.arange(2000) // 5  # tiles of an image
    held = hold_out(codes, 0.1, rng, groups)
    assert set(held.reshape(-1, 5).sum(axis=1)) == {0, 5}
    assert np.bincount(codes[held]).tolist() == [50] * 4


def test_no_class_loses_all_its_training_rows_to_a_group_that_is_held_out():
    rng = np.random.default_rng(0)
    codes = np.zeros(200, int)
    codes[::20] = np.arange(1, 11)  # a row each
    groups = np.arange(200) // 20  # and each with others in a group
    held = hold_out(codes, 0.5, rng, groups)
    assert set(codes[~held]) == set(range(11))


def test_what_is_held_out_does_not_train():
    X, y = features(1000)
    head = StreamedLogistic(C=0.1, max_epochs=2, held_out=0.1).fit(X, y)
    other = X.copy()
    other[head.held_out_rows_] += 100
    again = StreamedLogistic(C=0.1, max_epochs=2, held_out=0.1).fit(other, y)
    assert len(head.held_out_rows_) == 99
    assert np.array_equal(head.coef_, again.coef_)
    assert not np.array_equal(head.losses_, again.losses_)


def test_an_array_that_reads_runs_together_gives_the_same():
    class Together(Watched):
        def runs(self, starts, length):
            assert (np.diff(starts) > 0).all()
            return np.concatenate([self.array[s : s + length] for s in starts])

    X, y = features(1000)
    watched = Together(X)
    together = StreamedLogistic(C=0.1, max_epochs=2).fit(watched, y)
    assert np.array_equal(together.coef_, StreamedLogistic(C=0.1, max_epochs=2).fit(X, y).coef_)


def test_it_tells_how_many_rows_it_read():
    X, y = features(1000)
    read = []
    head = StreamedLogistic(C=0.1, max_epochs=2).fit(X, y, tick=read.append)
    assert sum(read) == 1000 * (1 + len(head.history_))
