"""Near copies against a plain loop over all pairs; what only looks alike is no copy."""

import numpy as np
import pytest
from bottleneck_probe.evaluate import near_copies as module
from bottleneck_probe.evaluate.near_copies import alike, connected, near_copies
from common import effort
from hypothesis import given, settings
from hypothesis import strategies as st


def flipped(hash_: int, bits) -> int:
    for bit in bits:
        hash_ ^= 1 << bit
    return hash_


def by_loop(hashes, bits=4):
    """All pairs, one by one."""
    values = [int(value) for value in hashes]
    return {
        (i, j)
        for i in range(len(values))
        for j in range(i + 1, len(values))
        if values[i] and values[j] and (values[i] ^ values[j]).bit_count() <= bits
    }


def as_set(pairs):
    return {(int(a), int(b)) for a, b in pairs}


hashes_near_a_few = st.lists(
    st.builds(
        flipped,
        st.sampled_from([0, 2**64 - 1, 0x0123456789ABCDEF, 0xF0F0F0F0F0F0F0F0]),
        st.lists(st.integers(0, 63), max_size=7),
    ),
    max_size=40,
)


@settings(deadline=None, max_examples=150)
@given(hashes_near_a_few)
def test_the_pairs_are_those_of_a_plain_loop(values):
    hashes = np.array(values, np.uint64)
    pairs, complete = alike(hashes)
    assert complete
    assert as_set(pairs) == by_loop(hashes)
    assert len(pairs) == len(as_set(pairs))


@pytest.mark.parametrize("bits", [0, 1, 4])
def test_the_threshold_is_met_to_the_bit(bits):
    rng = np.random.default_rng(bits)
    for _ in range(60):
        start = int(rng.integers(1, 2**63))
        changed = rng.choice(64, bits + 1, replace=False).tolist()
        near, far = flipped(start, changed[:bits]), flipped(start, changed)
        assert as_set(alike(np.array([start, near], np.uint64), bits)[0]) == {(0, 1)}
        assert not len(alike(np.array([start, far], np.uint64), bits)[0])


def test_images_of_one_colour_are_like_no_other():
    assert not len(alike(np.zeros(5, np.uint64))[0])


def plain(X, hashes):
    """Sets by a loop: both cosines of each pair, and the numbers handed on until nothing changes."""
    X = X.astype(np.float64)
    spread = X.std(axis=0)
    Z = (X - X.mean(axis=0)) / np.where(spread > 0, spread, 1)

    def cosine(a, b):
        size = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / size if size else 0.0

    numbers = list(range(len(X)))
    for i, j in sorted(by_loop(hashes)):
        if cosine(X[i], X[j]) >= 0.995 or cosine(Z[i], Z[j]) >= 0.5:
            old, new = numbers[j], numbers[i]
            numbers = [new if number == old else number for number in numbers]
    return numbers


def same_sets(a, b):
    return np.array_equal(np.equal.outer(a, a), np.equal.outer(b, b))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_sets_are_those_of_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 30))
    X = rng.normal(size=(n, 6)) + rng.normal(size=6) * 3
    hashes = rng.integers(1, 2**63, n).astype(np.uint64)
    for _ in range(int(rng.integers(0, 10))):  # at most 10 more in a set: never only a look
        a, b = rng.integers(0, n, 2)
        hashes[b] = flipped(int(hashes[a]), rng.integers(0, 64, int(rng.integers(0, 6))).tolist())
        X[b] = X[a] + rng.normal(size=6) * rng.choice([0, 0.1, 1, 3])
    found = near_copies(X.astype(np.float32), hashes)
    expected = plain(X.astype(np.float32), hashes)
    if max(np.bincount(expected)) <= 10:
        assert same_sets(found.sets, np.array(expected))
        assert not found.looks
    assert found.complete


def test_both_are_needed_a_near_hash_and_near_features():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 50))
    hashes = rng.integers(1, 2**63, 40).astype(np.uint64)
    X[1] = X[0]  # the features alone
    hashes[3] = hashes[2]  # the hash alone
    X[5], hashes[5] = X[4], hashes[4]
    sets = near_copies(X, hashes).sets
    assert sets[4] == sets[5]
    assert len(np.unique(sets)) == 39


def test_a_set_of_many_is_a_look_and_keeps_its_images_apart():
    """More than 10 images and more than 1 in 100 share nothing but a look; a smaller set is a picture."""
    rng = np.random.default_rng(0)

    def found(n_alike, n):
        X = rng.normal(size=(n, 20))
        hashes = rng.integers(1, 2**63, n).astype(np.uint64)
        X[:n_alike] = X[0] + 0.01 * rng.normal(size=(n_alike, 20))
        hashes[:n_alike] = hashes[0]
        X[-2:], hashes[-2:] = X[-1], hashes[-1]
        return near_copies(X, hashes)

    assert len(np.unique(found(10, 300).sets)) == 300 - 9 - 1
    assert len(np.unique(found(15, 2000).sets)) == 2000 - 14 - 1
    look = found(11, 300)
    assert [len(each) for each in look.looks] == [11]
    assert len(np.unique(look.sets)) == 300 - 1
    assert look.sets[-1] == look.sets[-2]


def test_numbers_are_in_the_order_of_the_first_images():
    """Folds are dealt by these numbers: without copies they are those of the keys."""
    rng = np.random.default_rng(0)
    X, hashes = rng.normal(size=(30, 5)), rng.integers(1, 2**63, 30).astype(np.uint64)
    assert near_copies(X, hashes).sets.tolist() == list(range(30))


def test_too_many_hashes_alike_are_not_compared_and_it_is_known(monkeypatch):
    rng = np.random.default_rng(0)
    hashes = rng.integers(1, 2**63, 500).astype(np.uint64)
    hashes[:400] = hashes[0]
    hashes[450] = hashes[451]
    monkeypatch.setattr(module, "MOST_PAIRS", 1000)
    pairs, complete = alike(hashes)
    assert not complete
    assert as_set(pairs) == {(450, 451)}  # one crowd does not hide the others


def test_ten_thousand_images_are_not_compared_each_with_each(monkeypatch):
    """50 million pairs; parts of hashes leave 30,000 of them, and features are read of the copies."""
    rng = np.random.default_rng(0)
    hashes = rng.integers(1, 2**63, 10_000).astype(np.uint64)
    hashes[:500] = hashes[500:1000] ^ np.uint64(0b1011)
    X = rng.normal(size=(10_000, 32)).astype(np.float32)
    X[:500] = X[500:1000]
    read = []
    real = module._cosines
    monkeypatch.setattr(module, "_cosines", lambda a, b: read.append(len(a)) or real(a, b))
    monkeypatch.setattr(module, "_MOST_LOOKED", 100_000)
    found = near_copies(X, hashes)
    assert found.complete
    assert len(np.unique(found.sets)) == 9_500
    assert sum(read) == 2 * 500  # as they are, and standardised
    lines, peak = effort(lambda: near_copies(X, hashes))
    assert lines < 10_000
    assert peak < 10_000**2 / 8  # less than a bit for each pair


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 25).flatmap(
        lambda n: st.tuples(
            st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)))
        )
    )
)
def test_connected_sets_are_the_finest_that_hold_all_pairs(given_):
    n, pairs = given_
    numbers = connected(n, np.array(pairs, np.intp).reshape(-1, 2))
    assert all(numbers[a] == numbers[b] for a, b in pairs)
    roots = list(range(n))  # a plain union-find

    def root(i):
        while roots[i] != i:
            i = roots[i]
        return i

    for a, b in pairs:
        roots[root(a)] = root(b)
    assert len(set(numbers.tolist())) == len({root(i) for i in range(n)})
