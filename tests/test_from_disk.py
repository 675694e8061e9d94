"""Features that do not fit into the memory allowed are fitted from disk, near the fit in memory."""

import json
from collections import Counter

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe import fitting
from bottleneck_probe.cache.lazy import LazyRows
from bottleneck_probe.cli.main import bottleneck
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate import streaming
from bottleneck_probe.evaluate.splits import holdout
from bottleneck_probe.heads.logistic import LogisticHead
from bottleneck_probe.memory import memory_limit, needed_bytes
from bottleneck_probe.reporter import Silent
from click.testing import CliRunner

N, D = 30_000, 10
LITTLE = 0.003  # GB: four times these features are 0.0048
C = {"C": 0.05}


class Recorded(LazyRows):
    """Rows that remember how many of them were ever read at once."""

    def __init__(self, array, fails_after=None):
        self.array, self.largest, self.reads, self.fails_after = array, 0, 0, fails_after

    @property
    def shape(self):
        return self.array.shape

    def take(self, rows):
        return self.array[rows]

    def _read(self, picked):
        self.reads += 1
        if self.fails_after is not None and self.reads > self.fails_after:
            raise KeyboardInterrupt
        self.largest = max(self.largest, len(picked))
        return self.array[picked]


def made(n=N, *, k=3, copies=0, splits=None, meta=None):
    """Features in the order of their classes; the first rows are there twice."""
    rng = np.random.default_rng(0)
    y = np.sort(np.arange(n) % k)
    X = rng.normal(size=(n, D)) * rng.uniform(0.2, 2, D) + 3
    X[:, :k] += 1.2 * np.eye(k)[y]
    X = X.astype(np.float32)
    X[n - copies :] = X[:copies]
    y[n - copies :] = y[:copies]
    return bp.Features.from_arrays(X, [f"c{i}" for i in y], splits=splits, meta=meta)


@pytest.fixture(scope="module")
def features():
    return made()


@pytest.fixture(scope="module")
def streamed(features):
    return bp.fit(features, head_options=C, holdout=0.2, max_memory=LITTLE, quiet=True)


def test_it_comes_near_the_fit_in_memory_on_the_same_split(features, streamed):
    exact = bp.fit(features, head_options=C, holdout=0.2, quiet=True)
    assert "streamed" in streamed.extra
    assert "streamed" not in exact.extra
    assert np.array_equal(streamed.oof.keys, exact.oof.keys)
    assert streamed.n_train == exact.n_train
    assert streamed.protocol == "holdout"
    assert np.abs(streamed.oof.probabilities - exact.oof.probabilities).mean() < 0.015
    for name in ("accuracy", "log_loss", "brier"):
        ours, theirs = streamed.metrics[name], exact.metrics[name]
        assert ours["value"] == pytest.approx(theirs["value"], abs=0.01)
        assert ours["low"] == pytest.approx(theirs["low"], abs=0.01)
    assert streamed.baseline["accuracy"] == exact.baseline["accuracy"]


def test_without_a_test_set_a_fifth_is_held_out_and_said(features, streamed):
    probe = bp.fit(features, head_options=C, max_memory=LITTLE, quiet=True)
    assert np.array_equal(probe.oof.keys, streamed.oof.keys)
    assert probe.n_test == pytest.approx(0.2 * N, rel=0.05)
    assert any("20% of the images, by hash" in note for note in probe.notes)
    assert not any("by hash" in note for note in streamed.notes)


def test_a_split_that_is_given_scores():
    splits = np.where(np.arange(N) % 10 == 0, "test", "train")
    probe = bp.fit(made(splits=splits), head_options=C, max_memory=LITTLE, quiet=True)
    assert probe.n_test == N // 10


def test_nothing_reads_more_than_its_share_of_the_features(features):
    watched = made()
    watched.features = Recorded(np.asarray(features.features))
    probe = bp.fit(watched, max_memory=LITTLE, quiet=True)
    assert probe.params["C"] in streaming.VALUES
    largest = watched.features.largest
    assert largest < N / 1.5
    assert 4 * 4 * D * largest <= LITTLE * 1e9
    watched.features.largest = 0
    probe.predict(watched)
    assert 0 < watched.features.largest <= 8192


def test_a_file_gives_what_the_array_gives(features, streamed, tmp_path):
    path = features.save(tmp_path / "f.h5")
    there = bp.fit(path, head_options=C, holdout=0.2, max_memory=LITTLE, quiet=True)
    assert np.array_equal(there.oof.probabilities, streamed.oof.probabilities)


def test_the_probe_is_one_of_the_head_in_memory_and_predicts_the_same_after_loading(
    features, streamed, tmp_path
):
    loaded = bp.load(streamed.save(tmp_path / "a.probe"))
    assert isinstance(loaded._fitted.head, LogisticHead)
    assert np.array_equal(
        loaded.predict(features).probabilities, streamed.predict(features).probabilities
    )
    place = {key.tobytes(): row for row, key in enumerate(features.keys)}
    rows = [place[key.tobytes()] for key in streamed.oof.keys[:50]]
    again = streamed.predict_proba(np.asarray(features.features)[rows])
    assert again == pytest.approx(streamed.oof.probabilities[:50], abs=1e-12)


def test_copies_never_stand_on_both_sides():
    probe = bp.fit(made(copies=3000), head_options=C, max_memory=LITTLE, quiet=True)
    tested = {key.tobytes() for key in probe.oof.keys}
    assert not tested & {key.tobytes() for key in probe.train_keys}
    assert any("copies of others" in note for note in probe.notes)
    assert any("near copies were not looked for" in note for note in probe.notes)


def test_what_is_said():
    reporter = Silent()
    meta = {"camera": ["a", "b"] * (N // 2)}
    _, result = fitting.run(made(meta=meta), reporter=reporter, head_options=C, max_memory=LITTLE)
    said = "\n".join(reporter.notes)
    for part in (
        "30,000 x 10 features would take about 0.0048 GB in memory (4 copies), more than 0.003 GB",
        "trained from disk",
        "of the training images do not train",
        "passes of stochastic gradients",
        "near copies were not looked for",
        "--groups COLUMN",
    ):
        assert part in said
    assert result.extra["streamed"]["max_memory_gb"] == LITTLE


def test_groups_stay_on_one_side():
    groups = np.arange(N) // 7
    result = fitting.run(
        made(), reporter=Silent(), head_options=C, max_memory=LITTLE, groups=groups
    )[1]
    assert not set(groups[result.oof.rows]) & set(groups[result.trained_on])


def test_refit_all_keeps_a_fit_on_all_rows(features, streamed):
    probe = bp.fit(
        features, head_options=C, holdout=0.2, max_memory=LITTLE, refit_all=True, quiet=True
    )
    assert probe.n_train == N
    assert np.array_equal(probe.oof.probabilities, streamed.oof.probabilities)
    X = np.asarray(features.features)[:9]
    assert not np.array_equal(probe.predict_proba(X), streamed.predict_proba(X))


def test_shuffled_labels_score_at_chance(features):
    # A 95 % interval: one seed in twenty misses chance.
    _, result = fitting.run(
        features, reporter=Silent(), head_options=C, max_memory=LITTLE, sanity=True, seed=1
    )
    assert result.extra["sanity"]["holds"]


def test_too_many_test_rows_for_memory_are_thinned_out_and_said(monkeypatch):
    monkeypatch.setattr(streaming, "_MOST_NUMBERS", 3000)
    own = made(copies=3000)
    probe = bp.fit(own, head_options=C, max_memory=LITTLE, quiet=True)
    assert 950 <= probe.n_test <= 1000
    assert any("test rows, drawn by chance, are scored" in note for note in probe.notes)
    # Copies go together, and none trains.
    scored = Counter(key.tobytes() for key in probe.oof.keys)
    every = Counter(key.tobytes() for key in own.keys)
    assert scored == {key: every[key] for key in scored}
    assert not set(scored) & {key.tobytes() for key in probe.train_keys}


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"head": "svm"}, "the head svm"),
        ({"head": "all"}, "--head all"),
        ({"preset": "dinov2"}, "--preset dinov2"),
        ({"class_weight": "balanced"}, "--class-weight balanced"),
        ({"metric": "macro_f1"}, "--metric macro_f1"),
        ({"device": "cuda"}, "--device cuda"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_needs_all_features_is_refused_before_they_are_read(features, options, what):
    watched = made()
    watched.features = Recorded(np.asarray(features.features))
    with pytest.raises(FitError) as caught:
        bp.fit(watched, max_memory=LITTLE, quiet=True, **options)
    assert caught.value.what.startswith(f"{what} needs all features in memory: about 0.0048 GB")
    assert caught.value.expected == "0.003 GB at most"
    for way in ("--head logistic", "--holdout", "subset", "--max-memory"):
        assert way in caught.value.next
    assert not watched.features.reads


def test_compare_refuses_what_does_not_fit(features):
    with pytest.raises(FitError, match="compare needs all features in memory"):
        bp.compare([features, made(100)], max_memory=LITTLE, quiet=True)


def test_numbers_are_refused_too():
    n = 40_000
    own = bp.Features.from_arrays(
        np.random.default_rng(0).normal(size=(n, 8)), targets=np.arange(n)
    )
    with pytest.raises(FitError, match="--task regression needs all features"):
        bp.fit(own, max_memory=LITTLE, quiet=True)


def test_too_little_memory_even_from_disk_is_refused(features):
    with pytest.raises(FitError, match="even from disk"):
        bp.fit(features, max_memory=0.0001, quiet=True)


def test_other_options_of_the_head_are_refused(features):
    with pytest.raises(FitError, match="the option max_iter"):
        bp.fit(features, head_options={"max_iter": 5}, max_memory=LITTLE, quiet=True)


def test_a_class_without_training_images_is_told_with_a_way_out():
    own = made()
    own.rows.labels[:] = 0
    own.rows.labels[::2] = 1
    labels = own.rows.labels
    keys = np.asarray(own.keys)
    tested = np.flatnonzero(holdout(keys, 0.2))[:2]
    labels[tested] = 2
    with pytest.raises(FitError) as caught:
        bp.fit(own, head_options=C, max_memory=LITTLE, quiet=True)
    assert "all images are in the held-out set" in caught.value.what
    assert "cross-validation" not in caught.value.next
    assert "splits" in caught.value.next


def test_interrupted_in_the_middle_nothing_is_left(features, tmp_path):
    watched = made()
    watched.features = Recorded(np.asarray(features.features), fails_after=20)
    with pytest.raises(KeyboardInterrupt):
        bp.fit(watched, max_memory=LITTLE, output=tmp_path / "a.probe", quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains_from_disk(features, tmp_path):
    path = features.save(tmp_path / "f.h5")
    ended = CliRunner().invoke(
        bottleneck, ["fit", str(path), "--max-memory", str(LITTLE), "--json", "-q"]
    )
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert found["streamed"]["epochs"] >= 1
    assert found["protocol"] == "holdout"
    assert (tmp_path / "f-logistic.probe").exists()


def test_the_limit_is_half_of_the_machine_or_what_is_stated():
    psutil = pytest.importorskip("psutil")
    assert memory_limit() == pytest.approx(psutil.virtual_memory().total / 2, rel=0.01)
    assert memory_limit(2) == 2 * 10**9
    for wrong in (0, -1.0, float("nan"), "much"):
        with pytest.raises(FitError, match="--max-memory"):
            memory_limit(wrong)


def test_where_the_system_says_nothing_the_limit_is_4_gib(monkeypatch):
    monkeypatch.delattr("os.sysconf", raising=False)
    assert memory_limit() == 4 * 2**30


def test_what_fits_is_fitted_in_memory(features):
    assert needed_bytes(features) == 4 * 4 * N * D
    probe = bp.fit(made(200), max_memory=LITTLE, repeats=1, quiet=True)
    assert probe.protocol == "nested-5x1"
