"""`predict` with doubt: answers are taken back where they are not sure, and strangers are told."""

import csv
import io
import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.errors import ProbeError
from bottleneck_probe.prediction import predict
from bottleneck_probe.reporter import Silent


def draw(n, seed=0, gap=2.5):
    """Overlapping classes of features that are never negative."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = np.abs(rng.normal(size=(n, 12)) + 3)
    X[:, 0] += gap * y
    return X.astype(np.float32), np.where(y == 0, "ant", "bee")


@pytest.fixture(scope="module")
def probe():
    return bp.fit(bp.Features.from_arrays(*draw(400)), quiet=True)


@pytest.fixture(scope="module")
def new():
    return bp.Features.from_arrays(*draw(2000, seed=1))


def test_the_answered_images_are_as_accurate_as_was_asked(probe, new):
    everything = probe.predict(new)
    asked = float(np.mean(np.array(everything.labels) == new.labels)) + 0.03
    found = probe.predict(new, abstain=asked)
    answered = ~found.abstained
    assert 0.2 < answered.mean() < 1
    assert np.mean(np.array(found.labels)[answered] == new.labels[answered]) >= asked
    assert found.rule["coverage"] == pytest.approx(answered.mean(), abs=0.1)


def test_the_table_says_abstained_and_why_and_keeps_the_probabilities(probe, new, tmp_path):
    found = probe.predict(new, abstain=0.9)
    rows = list(csv.DictReader(io.StringIO(found.to_csv())))
    assert list(rows[0])[-2:] == ["novelty", "reason"]
    taken_back = [row for row in rows if row["status"] == "abstained"]
    assert len(taken_back) == found.unanswered > 0
    assert all(row["label"] == "" and row["probability"] and row["reason"] for row in taken_back)
    assert any("not sure enough" in row["reason"] for row in taken_back)
    assert found.predicted + found.unanswered + found.quarantined == len(found)
    assert found.quarantined == 0
    found.to(tmp_path / "p.jsonl")
    line = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    assert line["novelty"] >= 0
    pytest.importorskip("pyarrow")
    found.to(tmp_path / "p.parquet")
    assert found.to_pandas().status.value_counts()["abstained"] == found.unanswered


def test_without_abstain_the_table_is_as_it_was(probe, new):
    found = probe.predict(new)
    assert found.columns() == ["path", "status", "label", "probability", "p_ant", "p_bee", "reason"]
    assert found.abstained is None
    assert found.unanswered == 0
    assert {row[1] for row in found.rows()} == {"ok"}


def test_strangers_are_told_without_being_asked_and_not_answered_when_asked(probe):
    X, _ = draw(100, seed=2)
    X[:30] = np.roll(X[:30] * np.array([9] + [0.1] * 11, np.float32), 4, axis=1)
    mixed = bp.Features.from_arrays(X)
    reporter = Silent()
    found = predict(probe, mixed, reporter=reporter)
    assert found.unlike[:30].all()
    assert found.unlike[30:].sum() <= 5
    assert all(label is not None for label in found.labels)
    assert any("look unlike the training images" in text for text in reporter.warnings)
    asked = predict(probe, mixed, abstain=0.8, reporter=Silent())
    assert asked.abstained[:30].all()
    assert "unlike the training images" in asked.reasons[0]


def test_ordinary_images_are_no_warning(probe, new):
    reporter = Silent()
    found = predict(probe, new, reporter=reporter)
    assert 0 < found.unlike.mean() < 0.04
    assert not reporter.warnings
    assert any("about 20 would" in text for text in reporter.notes)


def test_what_cannot_be_promised_is_refused_with_what_can(probe, new):
    with pytest.raises(ProbeError, match=r"0\.999 cannot be promised") as caught:
        probe.predict(new, abstain=0.999)
    assert "--abstain 0." in caught.value.next
    assert "is possible" in caught.value.next
    with pytest.raises(ProbeError, match="an accuracy of 1"):
        probe.predict(new, abstain=1.5)


def test_a_saved_probe_doubts_the_same(probe, new, tmp_path):
    again = bp.load(probe.save(tmp_path / "p.probe"))
    assert again.abstain_rule(0.9) == probe.abstain_rule(0.9)
    assert again.novelty_threshold == probe.novelty_threshold
    first, second = probe.predict(new, abstain=0.9), again.predict(new, abstain=0.9)
    np.testing.assert_array_equal(first.abstained, second.abstained)
    np.testing.assert_array_equal(first.novelty, second.novelty)


def test_a_probe_of_an_earlier_version_still_predicts(probe, new, tmp_path):
    old = bp.load(probe.save(tmp_path / "p.probe"))
    old.extra, old.arrays = {}, {}
    rule = old.abstain_rule(0.8)
    assert rule.n == 400
    found = old.predict(new)
    assert found.novelty is None
    assert not found.unlike.any()
    assert np.isnan(old.novelty_threshold)
    old.extra["novelty"] = {"threshold": None}  # as JSON keeps NaN
    assert np.isnan(old.novelty_threshold)
    old.extra.clear()
    with pytest.raises(ProbeError, match="fit it again"):
        old.novelty(new.features[:3])
    assert old.predict(new, abstain=0.8).predicted > 0


def test_copies_are_no_evidence_of_their_own():
    X, labels = draw(60, gap=4)
    once = bp.fit(bp.Features.from_arrays(X, labels), repeats=2, quiet=True)
    many = bp.fit(
        bp.Features.from_arrays(np.repeat(X, 6, axis=0), np.repeat(labels, 6)),
        repeats=2,
        quiet=True,
    )
    assert many.abstain_rule(0.7).n == once.abstain_rule(0.7).n == 60
    assert many.novelty_threshold == pytest.approx(once.novelty_threshold, rel=0.2)


def test_the_probe_stays_small():
    rng = np.random.default_rng(0)
    X = np.abs(rng.normal(size=(3000, 1280))).astype(np.float32)
    X[:1500, 0] += 20
    features = bp.Features.from_arrays(X, ["a"] * 1500 + ["b"] * 1500)
    probe = bp.fit(features, head="ncm", repeats=1, folds=2, quiet=True)
    kept = sum(probe.arrays[name].nbytes for name in probe.arrays if name.startswith("novelty"))
    assert kept < 3 * 2**20
