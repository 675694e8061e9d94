import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from bottleneck_probe.presets.parts import divide

Y = np.array([0, 0, 0, 1, 1, 1, 0, 1, -1])
CLASSES = ["a", "b"]


def keys(n: int) -> np.ndarray:
    return np.arange(32 * n, dtype=np.uint8).reshape(n, 32)


def test_test_scores_and_val_beside_it_chooses() -> None:
    splits = ["train", "train", "val", "train", "train", "val", "test", "test", "test"]
    parts = divide(Y, CLASSES, splits, keys(9))
    assert parts.train.tolist() == [0, 1, 3, 4]
    assert parts.val.tolist() == [2, 5]
    assert parts.test.tolist() == [6, 7]
    assert not parts.deviations
    assert parts.n_unlabelled == 1


def test_val_scores_where_there_is_no_test() -> None:
    splits = ["train", "train", "", "train", "train", "", "val", "val", "train"]
    parts = divide(Y, CLASSES, splits, keys(9))
    assert parts.test.tolist() == [6, 7]
    assert parts.val.tolist() == []
    assert not parts.deviations


def test_a_test_set_taken_by_hash_is_a_deviation() -> None:
    y = np.arange(200) % 2
    parts = divide(y, CLASSES, None, np.random.default_rng(0).integers(0, 256, (200, 32)))
    assert 20 < len(parts.test) < 60
    (line,) = parts.deviations
    assert line.startswith(f"split: {len(parts.test)} of 200 images were taken here")


def test_copies_across_the_split_stay_and_are_told() -> None:
    """Dropping them would be another test set than the protocol's."""
    same = keys(9)
    same[6] = same[0]
    splits = ["train"] * 6 + ["test"] * 2 + ["train"]
    parts = divide(Y, CLASSES, splits, same)
    assert parts.test.tolist() == [6, 7]
    assert any("1 of 2 test images have the same content" in note for note in parts.notes)


@pytest.mark.parametrize(
    ("splits", "share", "words"),
    [
        (["train"] * 3 + ["test"] * 6, None, "b: no training image|1 classes among"),
        (["train"] * 6 + ["test"] * 3, 0.2, "--holdout takes a test set"),
    ],
    ids=["class only in test", "holdout beside a split"],
)
def test_what_cannot_be_scored_is_refused(splits: list[str], share: float, words: str) -> None:
    with pytest.raises(FitError, match=words):
        divide(Y, CLASSES, splits, keys(9), share=share)


def test_a_class_that_only_scores_is_refused() -> None:
    y = np.array([0, 1, 0, 1, 2])
    with pytest.raises(FitError, match="c: no training image"):
        divide(y, ["a", "b", "c"], ["train"] * 4 + ["test"], keys(5))
