"""`fit` from features, files and lists of them; nothing is written over by accident."""

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe import fitting
from bottleneck_probe.reporter import Silent
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

QUICK = {"folds": 3, "repeats": 1}


def clouds(n=60, *, seed=0, apart=2.0, splits=None, first=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = (rng.normal(0, 1, (n, 5)) + apart * y[:, None] * [1, 0, 0, 0, 0]).astype(np.float32)
    names = np.array(["ants", "bees"])[y]
    return bp.Features.from_arrays(X, names, [f"{i + first:04d}" for i in range(n)], splits=splits)


def test_a_file_and_what_it_holds_give_the_same_probe(tmp_path):
    own = clouds()
    own.save(tmp_path / "x.h5")
    made = [
        bp.fit(given, quiet=True, **QUICK).to_bytes()
        for given in (own, tmp_path / "x.h5", str(tmp_path / "x.h5"), [tmp_path / "x.h5"])
    ]
    assert len(set(made)) == 1


def test_files_of_one_recipe_are_joined_and_rows_in_both_count_once(tmp_path):
    whole = clouds(60)
    whole.subset(np.arange(40)).save(tmp_path / "a.h5")
    whole.subset(np.arange(30, 60)).save(tmp_path / "b.h5")
    joined = bp.fit([tmp_path / "a.h5", tmp_path / "b.h5"], quiet=True, **QUICK)
    assert joined.n_test == 60
    assert joined.to_bytes() == bp.fit(whole, quiet=True, **QUICK).to_bytes()


def test_files_of_two_recipes_are_not_joined(tmp_path):
    X = np.random.default_rng(0).normal(size=(20, 3))
    a = bp.Features.from_arrays(X, ["x", "y"] * 10, recipe={"backbone": "a"})
    b = bp.Features.from_arrays(X + 1, ["x", "y"] * 10, recipe={"backbone": "b"})
    with pytest.raises(bp.RecipeError, match="backbone"):
        bp.fit([a, b], quiet=True, **QUICK)


def test_a_test_split_scores_and_does_not_train():
    splits = ["train"] * 60 + ["test"] * 40
    own = clouds(100, splits=splits, apart=1.5)
    probe = bp.fit(own, head_options={"C": 0.1}, quiet=True)
    assert (probe.protocol, probe.n_train, probe.n_test) == ("holdout", 60, 40)
    # scikit-learn's own fit on the training rows alone gives the same answers.
    X, y = np.asarray(own.features, np.float64), own.y
    scaler = StandardScaler().fit(X[:60])
    model = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000)
    model.fit(scaler.transform(X[:60]), y[:60])
    answers = model.predict(scaler.transform(X[60:]))
    assert probe.metrics["accuracy"]["value"] == pytest.approx((answers == y[60:]).mean())
    assert np.array_equal(probe.predict_proba(X[60:]).argmax(axis=1), answers)
    assert len(probe.train_keys) == 60


def test_refit_all_trains_on_everything_and_says_so():
    own = clouds(100, splits=["train"] * 60 + ["test"] * 40)
    kept = bp.fit(own, head_options={"C": 1.0}, quiet=True)
    refitted = bp.fit(own, head_options={"C": 1.0}, refit_all=True, quiet=True)
    assert refitted.metrics == kept.metrics
    X = np.asarray(own.features)
    assert not np.allclose(refitted.predict_proba(X), kept.predict_proba(X))
    assert len(refitted.train_keys) == 100
    assert any("refit" in note or "another fit" in note for note in refitted.notes)


def test_a_holdout_by_hash_keeps_its_sides_when_data_is_added():
    few, many = clouds(80), clouds(80)
    more = clouds(60, seed=9, first=1000)
    many = bp.Features.from_arrays(
        np.concatenate([few.features, more.features]),
        [*few.labels, *more.labels],
        [*few.paths, *more.paths],
    )
    small = bp.fit(few, holdout=0.3, quiet=True)
    large = bp.fit(many, holdout=0.3, quiet=True)
    tested = {key.tobytes() for key in small.oof.keys}
    later = {key.tobytes() for key in large.oof.keys}
    ours = {key.tobytes() for key in few.keys}
    assert tested
    assert later & ours == tested
    assert not {key.tobytes() for key in large.train_keys} & later


def test_an_existing_probe_is_kept_unless_forced(tmp_path, monkeypatch):
    path = tmp_path / "x.probe"
    old = bp.fit(clouds(seed=5), output=path, quiet=True, **QUICK).to_bytes()
    began = []
    real = fitting.load_features
    monkeypatch.setattr(fitting, "load_features", lambda *x: began.append(x) or real(*x))
    with pytest.raises(bp.ProbeError, match="exists") as caught:
        bp.fit(clouds(), output=path, quiet=True, **QUICK)
    assert "--force" in caught.value.next
    assert path.read_bytes() == old
    assert not began  # before the work, not after it
    probe = bp.fit(clouds(), output=path, force=True, quiet=True, **QUICK)
    assert path.read_bytes() == probe.to_bytes() != old


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_probe_is_never_written_over(tmp_path, force):
    """`fit x.h5 -o x.h5 --force` took the features away."""
    own = clouds()
    own.save(tmp_path / "x.h5")
    before = (tmp_path / "x.h5").read_bytes()
    with pytest.raises(bp.ProbeError, match="is no probe"):
        bp.fit(tmp_path / "x.h5", output=tmp_path / "x.h5", force=force, quiet=True, **QUICK)
    assert (tmp_path / "x.h5").read_bytes() == before


def test_an_unknown_head_is_refused_with_a_near_name():
    with pytest.raises(bp.BottleneckError, match="logistik") as caught:
        bp.fit(clouds(), head="logistik", quiet=True)
    assert "logistic" in str(caught.value)


def test_progress_counts_to_its_end():
    class Bar:
        done, total = 0, 0

        def advance(self, n=1):
            assert n >= 0
            self.done += n

        def resize(self, total):
            self.total = total

    bar = Bar()

    class Reporter(Silent):
        def progress(self, what, total):
            import contextlib

            return contextlib.nullcontext(bar)

    probe, result = fitting.run(clouds(), reporter=Reporter(), folds=3, repeats=2)
    assert bar.done == bar.total > 1
    assert probe.metrics == result.metrics
