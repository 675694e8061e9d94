import numpy as np
import pytest
from bottleneck_probe.presets.parts import divide
from bottleneck_probe.presets.vtab1k import thousand
from preset_data import headline, make, run
from sklearn.linear_model import LogisticRegression


def plain(X: np.ndarray, y: np.ndarray, C: float) -> LogisticRegression:
    return LogisticRegression(C=C, solver="newton-cholesky", tol=1e-10, max_iter=500).fit(X, y)


def test_it_is_the_plain_loop() -> None:
    data = make({"train": 200, "val": 50, "test": 30}, d=6)
    X, y = data.part("train")
    val, val_y = data.part("val")
    other, truth = data.part("test")
    grid = 10.0 ** np.linspace(-6, 5, 45)
    scores = [float(np.mean(plain(X, y, C).predict(val) == val_y)) for C in grid]
    C = grid[int(np.argmax(scores))]
    expected = plain(np.concatenate([X, val]), np.concatenate([y, val_y]), C)
    result = run("vtab1k", data)
    assert result.protocol == "vtab1k"
    assert result.choice["scores"] == pytest.approx(scores)
    assert result.params["C"] == pytest.approx(C)
    assert headline(result)["top-1"] == np.mean(expected.predict(other) == truth)
    assert result.n_train == 1000


@pytest.mark.parametrize(
    ("counts", "sizes"),
    [
        ({"train": 300, "val": 60, "test": 2}, (800, 200)),
        ({"train": 300, "test": 2}, (800, 200)),
        ({"train": 30, "val": 6, "test": 2}, (116, 28)),
    ],
    ids=["too many", "no val", "too few"],
)
def test_other_sizes_are_drawn_and_told(counts: dict[str, int], sizes: tuple[int, int]) -> None:
    data = make(counts)
    parts = thousand(divide(data.y, data.classes, data.splits, None), 0)
    assert (len(parts.train), len(parts.val)) == sizes
    assert not set(parts.train) & set(parts.val)
    assert not set(parts.test) & (set(parts.train) | set(parts.val))
    assert set(data.y[parts.train]) == set(range(4))
    (line,) = parts.deviations
    assert "the protocol has lists of 800 and 200" in line
