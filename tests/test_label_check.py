"""`bp.suspects`: flipped labels of a real set are found; the list is complete, safe and for eyes only."""

import csv
import io

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.errors import FitError, InputError


def made(n=120, flips=(), **options):
    rng = np.random.default_rng(0)
    labels = np.array(["ant", "bee", "fly"] * (n // 3), object)
    X = rng.normal(size=(n, 10)) + 6 * np.eye(10)[np.arange(n) % 3]
    for i in flips:
        labels[i] = {"ant": "bee", "bee": "fly", "fly": "ant"}[labels[i]]
    return bp.Features.from_arrays(X, labels, **options)


def test_flipped_labels_are_found_with_the_right_one_suggested():
    found = bp.suspects(made(flips=[3, 40, 77]), quiet=True)
    wrong = [row for row in found.rows if row["kind"] == "label"]
    assert {int(row["path"]) for row in wrong} >= {3, 40, 77}
    assert {row["path"]: row["suggested"] for row in wrong}["003"] == "ant"
    assert [row["rank"] for row in found.rows] == list(range(1, len(found) + 1))
    assert all(row["margin"] == pytest.approx(row["p_label"] - row["p_suggested"]) for row in wrong)
    assert [row["margin"] for row in wrong] == sorted(row["margin"] for row in wrong)


def test_images_of_every_split_are_judged():
    splits = ["train"] * 60 + ["test"] * 60
    found = bp.suspects(made(flips=[3, 100], splits=splits), quiet=True)
    assert found.n == 120
    assert {"003", "100"} <= {row["path"] for row in found.rows}


def test_a_copy_under_another_label_comes_first():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5)) + 4 * np.eye(5)[np.arange(60) % 2]
    X[31] = X[30]
    found = bp.suspects(bp.Features.from_arrays(X, ["a", "b"] * 30), quiet=True)
    assert [row["kind"] for row in found.rows[:2]] == ["conflict", "conflict"]
    assert {row["path"] for row in found.rows[:2]} == {"30", "31"}


def test_an_image_unlike_all_others_is_an_outlier_and_its_label_may_be_right():
    rng = np.random.default_rng(0)
    X = np.abs(rng.normal(size=(150, 10)) * 0.1 + 1 + 0.5 * np.eye(10)[np.arange(150) % 2])
    X[17] = -X[17]
    found = bp.suspects(bp.Features.from_arrays(X, ["a", "b"] * 75), quiet=True)
    assert "017" in {row["path"] for row in found.rows if row["kind"] == "outlier"}


def test_the_list_is_safe_for_spreadsheets_and_complete(tmp_path):
    labels = np.array(["=cmd()", "bee"] * 30, object)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4)) + 5 * (labels == "bee")[:, None]
    labels[4], labels[7] = "bee", "=cmd()"
    ids = [f"=p{i:02d}" for i in range(60)]
    found = bp.suspects(
        bp.Features.from_arrays(X, labels, ids), output=tmp_path / "s.csv", quiet=True
    )
    rows = list(csv.DictReader(io.StringIO((tmp_path / "s.csv").read_text())))
    assert len(rows) == len(found) >= 2
    assert all(row["path"].startswith("./") for row in rows)
    assert all(not row["label"].startswith("=") for row in rows)
    assert list(rows[0]) == list(found.to_pandas().columns)


def test_what_cleanlab_takes():
    """Its contract: labels are integers below k, rows of probabilities lie in [0, 1] and sum to 1."""
    features = made(flips=[3])
    probe = bp.fit(features, quiet=True)
    for given in (probe.oof.cleanlab(), bp.suspects(features, quiet=True).cleanlab()):
        labels, p = given["labels"], given["pred_probs"]
        assert np.issubdtype(labels.dtype, np.integer)
        assert labels.shape == (120,)
        assert p.shape == (120, 3)
        assert set(labels) == {0, 1, 2}
        assert ((p >= 0) & (p <= 1)).all()
        np.testing.assert_allclose(p.sum(axis=1), 1)
    with_features = probe.oof.cleanlab(features)
    np.testing.assert_array_equal(with_features["features"], features.features)
    with pytest.raises(bp.ProbeError, match="not among these"):
        probe.oof.cleanlab(made(n=60))


def test_faults_are_told_before_the_work(tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        bp.suspects(made(), output=tmp_path / "s.json", quiet=True)
    with pytest.raises(FitError, match="has a label"):
        bp.suspects(bp.Features.from_arrays(np.eye(4)), quiet=True)


def test_a_tenth_of_the_labels_of_real_photographs_flipped(test_data, tmp_path):
    """Ants and bees: of 39 flipped labels at least 70 % are found, and 80 % of the suspects are flipped."""
    features = bp.extract(test_data / "ants-bees", output=tmp_path / "ab.h5", quiet=True)
    rng = np.random.default_rng(0)
    labels = np.array(features.labels, object)
    flipped = rng.choice(len(labels), len(labels) // 10, replace=False)
    labels[flipped] = np.where(labels[flipped] == "ants", "bees", "ants")
    mixed = bp.Features.from_arrays(features.features[:], labels, list(features.paths))
    found = bp.suspects(mixed, repeats=1, quiet=True)
    suspected = {row["path"] for row in found.rows if row["kind"] == "label"}
    wrong = {features.paths[i] for i in flipped}
    assert len(suspected & wrong) >= 0.7 * len(wrong)
    assert len(suspected & wrong) >= 0.8 * len(suspected)
    # A placeholder picture that lies among the photographs is unlike all others.
    assert any("imageNotFound" in row["path"] for row in found.rows if row["kind"] == "outlier")
