"""Texts in few arrays behave like lists of str."""

import pickle
import sys
from itertools import pairwise

import numpy as np
import pytest
from bottleneck_probe import texts
from bottleneck_probe.texts import Coded, Texts, Writer, find_texts
from hypothesis import given, settings
from hypothesis import strategies as st

# Bytes that are not UTF-8 (as surrogates), zero bytes, and common beginnings longer than a word.
WORDS = st.text("ab\0%é\U0001f41c\udcff", max_size=20)
LISTS = st.lists(WORDS | WORDS.map(lambda word: "class_00/photo_" + word), max_size=30)
many = settings(deadline=None, max_examples=150)


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("kind", [Texts, Coded])
@many
@given(values=LISTS, data=st.data())
def test_like_a_list(kind: type, values: list, data: st.DataObject):
    packed = kind.of(values)
    assert list(packed) == [packed[i] for i in range(len(packed))] == values
    assert packed == values
    assert values == packed
    assert packed == kind.of(values)
    assert packed != [*values, ""]
    assert kind.of(packed) is packed
    assert pickle.loads(pickle.dumps(packed)) == values
    assert list(packed[1:4]) == values[1:4]
    assert list(packed[::-2]) == values[::-2]
    if values:
        rows = data.draw(st.lists(st.integers(0, len(values) - 1)))
        assert list(packed.take(np.array(rows, np.intp))) == [values[i] for i in rows]
        assert (packed[-1], packed.index(values[0])) == (values[-1], 0)
    with pytest.raises(IndexError):
        packed[len(values)]


@many
@given(LISTS)
def test_order(values: list):
    packed = Texts.of(values)
    order = packed.argsort()
    assert order.tolist() == sorted(range(len(values)), key=lambda i: encoded(values[i]))
    ordered = [values[i] for i in order]
    assert packed.repeats(order).tolist() == [a == b for a, b in pairwise(ordered)]
    assert packed.ascending() == (
        [encoded(v) for v in values] == sorted({encoded(v) for v in values})
    )


@many
@given(LISTS, LISTS, st.lists(WORDS, max_size=3))
def test_writer_takes_blocks(first: list, second: list, third: list):
    writer = Writer()
    for block in (first, second):
        writer.add(block)
    writer.add_encoded([encoded(word) for word in third])
    packed = writer.finish()
    assert packed == [*first, *second, *third]
    assert [len(block) for block in packed.blocks(4)][:-1] == [4] * ((len(packed) - 1) // 4)


@many
@given(LISTS, LISTS, st.booleans(), st.booleans())
def test_places_in_another_sequence(wanted: list, among: list, first: bool, second: bool):
    for values, ordered in ((wanted, first), (among, second)):
        if ordered:
            # The order of str is that of the bytes but for surrogates, which no stored path holds.
            values[:] = sorted(value.replace("\udcff", "") for value in values)
    expected = [among.index(v) if v in among else -1 for v in wanted]
    assert find_texts(Texts.of(wanted), Texts.of(among)).tolist() == expected
    assert find_texts(wanted, among).tolist() == expected
    themselves = [wanted.index(v) for v in wanted]
    assert find_texts(Texts.of(wanted), Texts.of(wanted)).tolist() == themselves


def test_blocks_of_many(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(texts, "_BLOCK", 7)
    values = [f"{i * 7919 % 1000:03d}/{'é' * (i % 5)}" for i in range(1000)]
    packed = Texts.of(values)
    order = np.argsort(values, kind="stable")
    assert packed == values
    assert packed.argsort().tolist() == order.tolist()
    assert packed.take(order).ascending()
    assert packed.take(order[::-1]) == [values[i] for i in order[::-1]]
    assert Coded.of(values) == values


def test_little_memory():
    values = [f"class_00/photo_{i:012d}.jpg" for i in range(20_000)]
    packed = Texts.of(values)
    size = sys.getsizeof(packed._data) + packed._offsets.nbytes
    assert size < (len(values[0]) * 1.13 + 4.1) * len(values)
    assert Coded.of(["train", ""] * 300).codes.nbytes == 600
    assert Coded.of(map(str, range(300))).codes.dtype == np.uint16
