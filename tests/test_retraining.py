"""Retraining every week: the new probe against the old one, on images that neither was trained on."""

import csv

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.errors import ProbeError
from bottleneck_probe.fitting import run
from bottleneck_probe.reporter import Silent


def features(n=120, noise=1.0, seed=0, flip=0.0, classes=("ant", "bee")):
    """The same images for the same seed: more of them with a larger n, wrong labels for a share."""
    rng = np.random.default_rng(seed)
    y = np.arange(1000) % len(classes)
    X = rng.normal(size=(1000, 6)) * noise + 2 * np.eye(len(classes), 6)[y]
    wrong = rng.random(1000) < flip
    labels = [classes[(c + w) % len(classes)] for c, w in zip(y, wrong, strict=True)]
    return bp.Features.from_arrays(
        X[:n].astype(np.float32), labels[:n], [f"{i:04}.jpg" for i in range(n)]
    )


def fit(cache, **options):
    return run(cache, reporter=Silent(), head_options={"C": 0.01}, **{"repeats": 2, **options})


def test_the_same_probe_is_no_better_and_no_worse():
    old, _ = fit(features())
    _, result = fit(features(), against=old)
    found = result.extra["against"]
    assert found["n"] == 120
    assert (found["difference"]["value"], found["mended"], found["broken"]) == (0, 0, 0)
    assert not found["worse"]


def test_an_image_that_the_old_probe_was_trained_on_counts_by_its_out_of_fold_answer():
    cache = features(noise=2.5)
    old, first = fit(cache)
    new, result = fit(features(200, noise=2.5), against=old)
    found = result.extra["against"]
    assert found["n"] == 200
    # By hand: out-of-fold for the first 120, what the old probe says now for the other 80.
    X = features(200, noise=2.5)
    now = old.predict_proba(np.asarray(X.features[:]))[120:].argmax(axis=1)
    right = [np.mean(np.concatenate([answers, now]) == X.y) for answers in first.oof.answers]
    assert found["old"] == pytest.approx(np.mean(right))
    assert found["new"] == pytest.approx(new.metrics["accuracy"]["value"])
    # The old probe's answers to its own training images would have been too good.
    naive = old.predict_proba(np.asarray(X.features[:])).argmax(axis=1)
    assert np.mean(naive == X.y) > found["old"]


def test_a_probe_of_wrong_labels_is_worse_and_its_flips_are_listed(tmp_path):
    """Both are scored on the same clean test set; the new one learned from labels that are often wrong."""
    clean, dirty = features(400), features(400, flip=0.5)
    splits = ["train" if i < 150 else "test" for i in range(400)]
    labels = [(dirty if i < 150 else clean).labels[i] for i in range(400)]
    old, _ = fit(clean.subset(np.arange(150)))
    mixed = bp.Features.from_arrays(
        np.asarray(clean.features[:]), labels, list(clean.paths), splits=splits
    )
    path = tmp_path / "flips.csv"
    _, result = fit(mixed, against=old, flips=path)
    found = result.extra["against"]
    assert (found["n"], found["worse"]) == (250, True)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == found["mended"] + found["broken"]
    assert rows[0]["change"] == "broken"
    for row in rows:
        assert row["label"] == (row["old"] if row["change"] == "broken" else row["new"])
        assert row["old"] != row["new"]


def test_a_class_that_is_new_is_told():
    old, _ = fit(features(90, classes=("ant", "bee")))
    three = features(90, classes=("ant", "bee", "cat"), seed=3)
    _, result = fit(three, against=old)
    assert any("does not know cat" in note for note in result.notes)
    assert result.extra["against"]["n"] == 90


def test_no_image_in_common_of_another_backbone_is_refused():
    old, _ = fit(features(60))
    other = bp.Features.from_arrays(
        np.random.default_rng(9).normal(size=(60, 9)).astype(np.float32), ["ant", "bee"] * 30
    )
    with pytest.raises(ProbeError, match="none of the 60 images"):
        fit(other, against=old)


def test_a_table_of_flips_takes_nothing_away(tmp_path):
    old, _ = fit(features())
    kept = tmp_path / "features.h5"
    kept.write_bytes(b"years of work")
    with pytest.raises(bp.InputError, match="suffix"):
        fit(features(), against=old, flips=kept)
    taken = tmp_path / "flips.csv"
    taken.write_text("mine")
    with pytest.raises(bp.InputError, match="exists"):
        fit(features(), against=old, flips=taken)
    assert (kept.read_bytes(), taken.read_text()) == (b"years of work", "mine")
    fit(features(), against=old, flips=taken, force=True)
    assert taken.read_text().startswith("path,label,old,new,change")


def test_a_probe_of_another_task_is_refused_and_other_groups_are_told():
    cache = features()
    numbers = bp.Features.from_arrays(
        np.asarray(cache.features[:]), ids=list(cache.paths), targets=np.arange(120.0) ** 1.5
    )
    old, _ = run(numbers, reporter=Silent())
    with pytest.raises(ProbeError, match="regression"):
        fit(cache, against=old)
    grouped, _ = fit(cache, groups=[str(i // 4) for i in range(120)])
    _, result = fit(cache, against=grouped)
    assert any("old probe was scored with --groups" in note for note in result.notes)
