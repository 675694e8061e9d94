"""Rows are found by all 32 bytes of a key."""

import pickle
import timeit

import numpy as np
import pytest
from bottleneck_probe.cache.keys import KeyIndex, as_keys
from hypothesis import given, settings
from hypothesis import strategies as st

# Few different first bytes and last bytes: keys that share their first four are common here.
KEYS = st.lists(
    st.tuples(st.sampled_from([0, 1, 128, 255]), st.integers(0, 3)).map(
        lambda pair: bytes([pair[0]] * 8 + [7] * 23 + [pair[1]])
    )
)


@settings(deadline=None, max_examples=200)
@given(KEYS, KEYS)
def test_like_a_dict(keys: list, wanted: list):
    rows: dict = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, row)
    for index in (KeyIndex(as_keys(keys)), pickle.loads(pickle.dumps(KeyIndex(as_keys(keys))))):
        expected = [rows.get(key, -1) for key in wanted]
        assert [index.row(key) for key in wanted] == expected
        assert index.rows(as_keys(wanted)).tolist() == expected
        assert [key in index for key in wanted] == [key in rows for key in wanted]
        assert len(index) == len(rows)


def test_views_are_strides():
    keys = np.random.default_rng(0).integers(0, 256, (40, 32), np.uint8)
    index = KeyIndex(np.repeat(keys, 3, axis=0)[::3])
    assert index.rows(keys).tolist() == list(range(40))


def test_what_is_no_key_is_not_in_it():
    index = KeyIndex(np.zeros((1, 32), np.uint8))
    assert bytes(32) in index
    assert bytes(31) not in index
    assert None not in index


@pytest.mark.parametrize("n", [0, 1, 100_000])
def test_quick_and_small(n: int):
    keys = np.random.default_rng(1).integers(0, 256, (n, 32), np.uint8)
    index = KeyIndex(keys)
    assert index._heads.nbytes + index._order.nbytes <= 8 * n
    key = bytes(32)
    # Measured: 1.5 us; the bound is for a loaded machine.
    assert min(timeit.repeat(lambda: key in index, number=100, repeat=5)) / 100 < 20e-6
