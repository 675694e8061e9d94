import numpy as np
import pytest
from bottleneck_probe.errors import FitError
from preset_data import Data, make, run


def plain(X, y, other, truth, k: int, n_classes: int) -> tuple[float, float, np.ndarray]:
    """The vote as the paper states it, one test image after the other."""
    X = X / np.linalg.norm(X, axis=1, keepdims=True)
    right = right5 = 0
    shares = []
    for x, label in zip(other, truth, strict=True):
        similarity = X @ (x / np.linalg.norm(x))
        votes = np.zeros(n_classes)
        for i in sorted(range(len(X)), key=lambda i: -similarity[i])[:k]:
            votes[y[i]] += np.exp(similarity[i] / 0.07)
        ranked = sorted(range(n_classes), key=lambda c: -votes[c])
        right += ranked[0] == label
        right5 += label in ranked[:5]
        # The head that is kept gives every class one more vote, of a neighbour at a right angle.
        shares.append((votes + 1) / (votes + 1).sum())
    return right / len(other), right5 / len(other), np.array(shares)


def test_every_k_is_the_plain_vote() -> None:
    data = make({"train": 40, "test": 20}, n_classes=6)
    X, y = data.part("train")
    other, truth = data.part("test")
    result = run("knn-dino", data)
    table = result.extra["preset"]["table"]
    assert [row["k"] for row in table] == [10, 20, 100, 200]
    for row in table:
        top1, top5, shares = plain(X, y, other, truth, row["k"], 6)
        assert row["top-1"] == top1
        assert row["top-5"] == top5
        if row["k"] == 20:
            np.testing.assert_allclose(result.oof.repeat_probabilities[0], shares, atol=1e-6)


def test_pytorch_gives_the_same_votes() -> None:
    """The source is float32 on a graphics card; the top class is the same."""
    import torch

    data = make({"train": 40, "test": 20}, seed=5)
    X, y = (torch.from_numpy(a) for a in data.part("train"))
    other, _ = (torch.from_numpy(a) for a in data.part("test"))
    normal = torch.nn.functional.normalize
    similarity, nearest = (normal(other.float()) @ normal(X.float()).T).topk(100)
    weights = (similarity / 0.07).exp()[..., None]
    votes = (torch.nn.functional.one_hot(y[nearest], 4) * weights).sum(1)
    row = run("knn-dino", data).extra["preset"]["table"][2]
    truth = data.part("test")[1]
    assert row["top-1"] == np.mean(votes.argmax(1).numpy() == truth)


def test_k_20_is_kept_whatever_the_table_says() -> None:
    result = run("knn-dino", make({"train": 40, "test": 20}, n_classes=6))
    row = result.extra["preset"]["table"][1]
    assert result.params == {"k": 20, "temperature": 0.07}
    assert result.metrics["accuracy"]["value"] == pytest.approx(row["top-1"])


def test_a_k_above_the_training_images_is_left_out_and_makes_it_like(data: Data) -> None:
    result = run("knn-dino", data)
    assert [row["k"] for row in result.extra["preset"]["table"]] == [10, 20, 100]
    assert result.protocol == "knn-dino-like"
    assert any("k = 200: left out, there are only 120" in note for note in result.notes)


def test_dinos_script_would_stop_below_100_test_images() -> None:
    """Its step is n // 100, which is 0 then; the number is DINOv2's, and it is told."""
    few = run("knn-dino", make({"train": 60, "test": 20}))
    many = run("knn-dino", make({"train": 60, "test": 25}))
    assert any("DINO's own script stops below 100" in note for note in few.notes)
    assert not any("stops below" in note for note in many.notes)
    assert few.protocol == many.protocol == "knn-dino"


def test_val_beside_test_is_no_neighbour(data: Data) -> None:
    without = data._replace(
        X=data.X[data.splits != "val"],
        y=data.y[data.splits != "val"],
        splits=data.splits[data.splits != "val"],
    )
    table = [run("knn-dino", each).extra["preset"]["table"] for each in (data, without)]
    assert table[0] == table[1]


def test_too_few_training_images_are_refused() -> None:
    with pytest.raises(FitError, match="the smallest k of the protocol is 10"):
        run("knn-dino", make({"train": 2, "test": 5}))
