import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from preset_data import Data, headline, make, run
from sklearn.linear_model import LogisticRegression


def plain(X: np.ndarray, y: np.ndarray, C: float) -> LogisticRegression:
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=500).fit(X, y)


def test_it_is_the_plain_loop(no_val: Data) -> None:
    import torch

    X, y = no_val.part("train")
    other, truth = no_val.part("test")
    torch.manual_seed(0)
    order = torch.randperm(len(X)).numpy()
    tenth, rest = order[: len(X) // 10], order[len(X) // 10 :]
    best, best_C = -1.0, 0.0
    for C in (10 ** torch.linspace(-6, 5, 45)).tolist():
        found = float(np.mean(plain(X[rest], y[rest], C).predict(X[tenth]) == y[tenth]))
        if found > best:
            best, best_C = found, C
    expected = plain(X, y, best_C)

    result = run("dinov2", no_val)
    assert result.params["C"] == pytest.approx(best_C, rel=1e-6)
    np.testing.assert_allclose(
        result.oof.repeat_probabilities[0], expected.predict_proba(other), atol=1e-4
    )
    assert headline(result)["top-1"] == np.mean(expected.predict(other) == truth)


def test_val_beside_test_chooses_and_joins_the_last_fit(data: Data) -> None:
    X, y = data.part("train")
    other, truth = data.part("val")
    scores = [
        np.mean(plain(X, y, C).predict(other) == truth) for C in 10.0 ** np.linspace(-6, 5, 45)
    ]
    result = run("dinov2", data)
    np.testing.assert_allclose(result.choice["scores"], scores, atol=1e-12)
    assert result.choice["chosen"] == int(np.argmax(scores))
    assert result.n_train == len(X) + len(other)


def test_the_scored_labels_take_no_part_in_the_choice(no_val: Data) -> None:
    """The source has a switch that chooses on the scored set; it is not copied."""
    turned = no_val.y.copy()
    rows = no_val.splits == "test"
    turned[rows] = (turned[rows] + 1) % 4
    other = run("dinov2", no_val._replace(y=turned))
    assert other.params == run("dinov2", no_val).params
    assert headline(other)["top-1"] < 0.4


def test_nothing_is_standardised(data: Data) -> None:
    """With standardised features it would not matter how large one of them is."""
    larger = data.X * np.where(np.arange(data.X.shape[1]) == 0, 1000, 1).astype(np.float32)
    assert (
        run("dinov2", data._replace(X=larger)).choice["scores"]
        != run("dinov2", data).choice["scores"]
    )


def test_top_5_comes_from_five_classes_on() -> None:
    six = make({"train": 12, "test": 6}, n_classes=6)
    assert set(headline(run("dinov2", six))) == {"top-1", "top-5"}


def test_it_may_choose_by_the_mean_over_classes(data: Data) -> None:
    rows = (
        (data.splits != "val")
        | (data.y != 0)
        | (np.cumsum((data.splits == "val") & (data.y == 0)) < 3)
    )
    fewer = data._replace(X=data.X[rows], y=data.y[rows], splits=data.splits[rows])
    assert (
        run("dinov2", fewer, metric="balanced_accuracy").choice["scores"]
        != run("dinov2", fewer).choice["scores"]
    )


def test_below_ten_images_there_is_no_tenth() -> None:
    with pytest.raises(FitError, match="a tenth of them chooses C"):
        run("dinov2", make({"train": 2, "test": 2}))
