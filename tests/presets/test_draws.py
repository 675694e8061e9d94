import numpy as np
import pytest
from bottleneck_probe.presets.draws import carve, torch_randperm
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("seed", [0, 1, 12345])
@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_permutations_are_pytorchs(n: int, seed: int) -> None:
    import torch

    torch.manual_seed(seed)
    assert torch_randperm(n, seed).tolist() == torch.randperm(n).tolist()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.floats(0.05, 0.9))
def test_carve_leaves_every_class_a_row_and_takes_one_where_there_are_two(
    labels: list[int], share: float
) -> None:
    y = np.array(labels)
    taken = carve(y, share, np.random.default_rng(0))
    for label in np.unique(y):
        n, m = int((y == label).sum()), int(taken[y == label].sum())
        assert m <= n - 1
        assert m >= min(1, n - 1)
        assert abs(m - share * n) <= 1
