"""What holds for every preset."""

import json

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.evaluate.result import Result
from bottleneck_probe.presets import coop, fair_lowshot, vissl_svm
from bottleneck_probe.presets.recipes import NAMES
from bottleneck_probe.presets.run import run_preset
from preset_data import Data, make, run

# Those that choose on the test set, as their sources do.
TRAPPED = {"fair-lowshot"}


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coop, "SEEDS", (1, 2))
    monkeypatch.setattr(coop, "SHOTS", (1, 4))
    monkeypatch.setattr(fair_lowshot, "SHOTS", (1, 4))
    monkeypatch.setattr(fair_lowshot, "COSTS", (0.01, 0.1, 1.0))
    monkeypatch.setattr(vissl_svm, "COSTS", (0.1, 1.0, 10.0))


@pytest.fixture(scope="module")
def done() -> dict[str, Result]:
    """Results on `data`, each computed once."""
    return {}


@pytest.fixture(params=NAMES)
def result(request: pytest.FixtureRequest, data: Data, done: dict[str, Result]) -> Result:
    name = request.param
    if name not in done:
        done[name] = run(name, data)
    return done[name]


def test_the_kept_fit_is_the_one_that_was_scored(result: Result, data: Data) -> None:
    kept = result.fitted.predict_proba(data.X[result.oof.rows])
    np.testing.assert_allclose(kept, result.oof.repeat_probabilities[0], atol=1e-5)
    assert result.metrics["accuracy"]["value"] == pytest.approx(
        float(np.mean(result.oof.answers == result.oof.y))
    )
    assert result.held_out
    assert result.n_test == 160
    assert not set(result.trained_on) & set(result.oof.rows)


def test_the_same_call_gives_the_same_numbers_and_only_a_named_trap_sees_the_scored_labels(
    result: Result, data: Data
) -> None:
    name = result.extra["preset"]["name"]
    again = run(name, data)
    assert json.dumps(result.extra, allow_nan=False) == json.dumps(again.extra)
    np.testing.assert_array_equal(result.oof.repeat_probabilities, again.oof.repeat_probabilities)
    turned = data.y.copy()
    rows = data.splits == "test"
    turned[rows] = (turned[rows] * 2 + 1) % 4
    other = run(name, data._replace(y=turned))
    assert (result.params == other.params) or name in TRAPPED
    assert bool(result.extra["preset"]["traps"]) >= (name in TRAPPED)


@pytest.mark.parametrize("name", NAMES)
def test_a_split_of_ones_own_is_called_like(name: str) -> None:
    data = make({"": 60})
    features = bp.Features.from_arrays(data.X, [data.classes[i] for i in data.y])
    result = run_preset(name, features)
    assert result.protocol == f"{name}-like"
    text = " ".join(result.notes)
    assert "taken here to score, by hash" in text
    assert "came as arrays" in text
    assert result.extra["preset"]["deviations"]


def test_copies_across_the_split_are_scored_and_told(data: Data) -> None:
    X = data.X.copy()
    X[np.flatnonzero(data.splits == "test")[:3]] = X[np.flatnonzero(data.splits == "train")[:3]]
    features = bp.Features.from_arrays(
        X, [data.classes[i] for i in data.y], splits=data.splits.tolist()
    )
    result = run_preset("knn-dino", features)
    assert result.n_test == 160
    assert any("3 of 160 test images have the same content" in note for note in result.notes)


def test_a_metric_that_no_protocol_chooses_by_is_refused(data: Data) -> None:
    with pytest.raises(FitError, match="macro_f1"):
        run("dinov2", data, metric="macro_f1")
