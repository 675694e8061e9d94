import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from preset_data import Data, headline, make, run
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def plain(X: np.ndarray, y: np.ndarray, C: float) -> LogisticRegression:
    return LogisticRegression(C=C, max_iter=1000, random_state=0).fit(X, y)


def test_it_is_the_plain_bisection(data: Data) -> None:
    X, y = data.part("train")
    val, val_y = data.part("val")
    other, truth = data.part("test")

    def found(exponent: float) -> float:
        return float(np.mean(plain(X, y, 10.0**exponent).predict(val) == val_y))

    # In eighths of a decade, so that positions are whole numbers.
    tried = {i: found(i / 8) for i in range(-48, 49, 16)}
    for step in (8, 4, 2, 1):
        peak = min(i for i in tried if tried[i] == max(tried.values()))
        for i in (peak - step, peak + step):
            if -48 <= i <= 48:
                tried.setdefault(i, found(i / 8))
    best = min(i for i in tried if tried[i] == max(tried.values()))
    expected = plain(np.concatenate([X, val]), np.concatenate([y, val_y]), 10.0 ** (best / 8))

    result = run("clip", data)
    assert result.params["C"] == pytest.approx(10.0 ** (best / 8), rel=1e-12)
    assert [s["C"] for s in result.choice["grid"]] == pytest.approx(
        [10.0 ** (i / 8) for i in sorted(tried)]
    )
    np.testing.assert_allclose(
        result.oof.repeat_probabilities[0], expected.predict_proba(other), atol=1e-2
    )
    assert headline(result)["top-1"] == np.mean(expected.predict(other) == truth)
    assert result.n_train == len(X) + len(val)


def test_it_stops_at_a_resolution_of_8_a_decade(data: Data) -> None:
    exponents = np.log10([s["C"] for s in run("clip", data).choice["grid"]])
    assert np.diff(exponents).min() == pytest.approx(1 / 8)
    assert 7 < len(exponents) <= 7 + 8


def test_without_val_a_fifth_of_each_class_chooses_and_that_is_said(no_val: Data) -> None:
    result = run("clip", no_val)
    assert result.protocol == "clip"  # the paper does the same, without saying how large it is
    assert any("32 images, a fifth" in line for line in result.extra["preset"]["silent"])
    assert result.n_train == 160  # refitted with them
    assert run("clip", no_val, seed=1).choice["scores"] != result.choice["scores"]


def test_too_few_images_to_choose_by_are_told() -> None:
    with pytest.raises(FitError, match="to choose C by are too few"):
        run("clip", make({"train": 1, "test": 5}, n_classes=3))
