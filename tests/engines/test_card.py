"""Batches to a card and back, with a card that is only played: streams, pinned memory, order."""

import threading
import time
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from bottleneck_probe.engines import transfer
from bottleneck_probe.engines.transfer import SLOTS, Card

SHAPE = (2, 4, 4, 3)


@pytest.fixture
def cuda(monkeypatch):
    """Streams that note what is asked of them; the device itself is the CPU."""
    made = []

    class Stream:
        def __init__(self, device):
            self.ended = 0
            made.append(self)

        def synchronize(self):
            self.ended += 1

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: made.append("device"))
    monkeypatch.setattr(transfer, "pinned", lambda shape: torch.empty(shape, dtype=torch.uint8))
    return made


def means(batch):
    return [batch.float().mean((1, 2, 3))[:, None]]


def test_every_slot_has_a_stream_and_the_weights_are_there_first(cuda):
    Card("cpu", SHAPE, means)
    assert [each if each == "device" else "stream" for each in cuda] == ["stream"] * SLOTS + [
        "device"
    ]


def test_threads_get_the_features_of_their_own_images(cuda):
    busy, most = [], []

    def compute(batch):
        busy.append(1)
        most.append(len(busy))
        time.sleep(0.002)
        busy.pop()
        return means(batch)

    card = Card("cpu", SHAPE, compute)
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            images = rng.integers(0, 256, SHAPE, np.uint8)
            (found,) = card.run(images)
            if not np.allclose(found[:, 0], images.mean((1, 2, 3))):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert max(most) == 1  # a network's Python is run by one thread at a time
    assert sum(stream.ended for stream in cuda[:SLOTS]) == 100


def test_features_do_not_live_in_memory_that_the_next_batch_writes(cuda):
    kept = torch.zeros(2, 1)

    def compute(batch):
        kept.copy_(means(batch)[0])
        return [kept]

    card = Card("cpu", SHAPE, compute)
    first = card.run(np.full(SHAPE, 7, np.uint8))[0]
    card.run(np.full(SHAPE, 9, np.uint8))
    assert (first == 7).all()


def test_a_failure_gives_the_slot_back_when_the_card_has_ended(cuda):
    def compute(batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    card = Card("cpu", SHAPE, compute)
    for _ in range(SLOTS + 1):  # a slot that was lost would let the last one wait for ever
        with pytest.raises(torch.OutOfMemoryError):
            card.run(np.zeros(SHAPE, np.uint8))
    assert sum(stream.ended for stream in cuda[:SLOTS]) == SLOTS + 1
