import math

import numpy as np
import pytest
from bottleneck_probe.presets import coop
from preset_data import Data, make, run
from sklearn.linear_model import LogisticRegression

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def plain(data: Data, shots: int, seed: int) -> tuple[float, float]:
    """One few-shot run as the source's text describes it: C and test accuracy."""
    X, y = data.part("train")
    val, val_y = data.part("val")
    other, truth = data.part("test")
    np.random.seed(seed)  # noqa: NPY002
    classes = range(4)
    rows: list[int] = []
    few: list[int] = []
    for taken, labels, n in ((rows, y, shots), (few, val_y, min(shots, 4))):
        for c in classes:
            pool = np.where(labels == c)[0]
            taken += list(np.random.choice(pool, size=n, replace=False))  # noqa: NPY002
    memory: dict[float, LogisticRegression] = {}

    def right(C: float) -> int:
        memory[C] = LogisticRegression(C=C, max_iter=1000).fit(X[rows], y[rows])
        return int(np.sum(memory[C].predict(val[few]) == val_y[few]))

    peak = None
    for C in (1e6, 1e4, 1e2, 1e0, 1e-2, 1e-4, 1e-6):
        n_right = right(C)
        if peak is None or n_right > peak[0]:
            peak = (n_right, C)
    low, high = math.log10(peak[1]) - 1, math.log10(peak[1]) + 1
    for _ in range(8):
        middle = (low + high) / 2
        if right(10**high) > right(10**low):
            answer, low = 10**high, middle
        else:
            answer, high = 10**low, middle
    return answer, float(np.mean(memory[answer].predict(other) == truth))


def test_every_seed_is_the_plain_search(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coop, "SEEDS", (1, 2, 3))
    monkeypatch.setattr(coop, "SHOTS", (1, 4, 16))
    result = run("coop", data)
    for row in result.extra["preset"]["table"]:
        expected = [plain(data, row["shots"], seed) for seed in (1, 2, 3)]
        assert row["seeds"] == [accuracy for _, accuracy in expected]
        assert row["mean"] == pytest.approx(np.mean(row["seeds"]))
        assert row["sd"] == pytest.approx(np.std(row["seeds"]))
    assert result.params["C"] == pytest.approx(expected[0][0], rel=1e-9)
    assert result.oof.repeat_probabilities.shape == (3, 160, 4)
    assert result.metrics["accuracy"]["value"] == pytest.approx(row["mean"])
    assert result.n_train == 4 * 16


def test_the_trap_of_equal_values_the_largest_C_wins_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where every C is perfect the search ends a decade below 1e6, the least regularised one."""
    monkeypatch.setattr(coop, "SEEDS", (1,))
    monkeypatch.setattr(coop, "SHOTS", (2,))
    data = make({"train": 4, "val": 4, "test": 4})
    apart = data._replace(X=np.eye(4, dtype=np.float32)[data.y] + np.float32(0.01) * data.X[:, :4])
    assert run("coop", apart).params["C"] == pytest.approx(1e5)


def test_no_val_is_a_deviation(no_val: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coop, "SEEDS", (1,))
    monkeypatch.setattr(coop, "SHOTS", (1,))
    result = run("coop", no_val)
    assert result.protocol == "coop-like"
    assert any("a fifth of each training class took its place" in n for n in result.notes)


def test_shots_that_a_class_does_not_have_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coop, "SEEDS", (1,))
    result = run("coop", make({"train": 5, "val": 4, "test": 4}))
    assert [row["shots"] for row in result.extra["preset"]["table"]] == [1, 2, 4]
    assert result.protocol == "coop-like"
    assert any("8, 16 shots: left out" in note for note in result.notes)


def test_the_published_numbers_of_draws() -> None:
    assert coop.SHOTS == (1, 2, 4, 8, 16)
    assert list(coop.SEEDS) == list(range(1, 11))
    assert coop.STEPS == 8
