"""Rows are found by all 32 bytes of a key."""

import pickle

import numpy as np
import pytest
from bottleneck_probe.cache.keys import KeyIndex, as_keys
from common import effort
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


class Counted:
    """A sequence that counts how often it is asked."""

    def __init__(self, items):
        self.items, self.asked = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, place):
        self.asked += 1
        return self.items[place]


@pytest.mark.parametrize("n", [0, 1, 100_000])
def test_a_key_is_found_in_a_few_steps_and_little_memory(n: int):
    """1.5 us: a key is looked up several times for each image."""
    keys = np.random.default_rng(1).integers(0, 256, (n, 32), np.uint8)
    index = KeyIndex(keys)
    assert index._heads.nbytes + index._order.nbytes <= 8 * n
    wanted = [bytes(32), *(key.tobytes() for key in keys[:: max(1, n // 5)])]
    for key in wanted:
        lines, peak = effort(lambda key=key: key in index)
        assert lines < 20
        assert peak < 2000
    # Bisecting takes five times as long over NumPy's numbers as over Python's own.
    assert all(type(head) is int for head in index._search[:5])
    index._search = Counted(index._search)
    for asked, key in enumerate(wanted, 1):
        assert (key in index) == (asked > 1)
        assert index._search.asked <= asked * (n.bit_length() + 3)
