"""Decoders that hang, and Ctrl-C: nothing is ever waited for that does not come."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import bottleneck_probe as bp
import pytest
from bottleneck_probe.extraction import patience, pipeline
from bottleneck_probe.extraction.batches import Batches
from bottleneck_probe.extraction.patience import Patience
from bottleneck_probe.extraction.pipeline import Interrupted
from bottleneck_probe.extraction.writer import Writer
from bottleneck_probe.images.find import find
from bottleneck_probe.images.payload import key_of
from bottleneck_probe.images.sample import Sample
from PIL import Image

posix = pytest.mark.skipif(os.name != "posix", reason="signals and clocks of POSIX")


@pytest.fixture
def run(lanes, warm):
    def go(samples, lane, **options):
        options = {"workers": 2, "progress": lanes.Bar(), **options}
        return pipeline.run(samples, lanes=[lane], **options)[0]

    return go


@pytest.mark.parametrize("spin", [False, True])
def test_an_image_that_hangs_the_decoder_is_quarantined_and_the_rest_goes_on(
    lanes, run, hung, monkeypatch, spin
):
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.4)
    samples = lanes.in_memory([*range(20), 4])  # the last has the same bytes as one that hangs
    hung(samples[4].source, samples[11].source, spin=spin)
    lane = lanes.FakeLane()
    heard = []
    outcome = run(samples, lane, window=6, on_bad=lambda sample, reason: heard.append(sample.path))
    assert not hung.ended
    assert outcome.reasons == dict.fromkeys((4, 11, 20), "decoding took over 0.4 s")
    assert sorted(heard) == ["00004", "00011", "00020"]
    assert outcome.computed == 18
    assert outcome.keys[4].tobytes() == key_of(samples[4].source)
    assert len(lane.sinks[0].keys) == 18


def test_a_decoder_that_comes_to_an_end_too_late_changes_nothing(lanes, run, hung, monkeypatch):
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.3)
    samples = lanes.in_memory(range(30))
    hung(samples[3].source)
    lane = lanes.FakeLane(lanes.Network(4, delay_s=0.05))
    # Set free as soon as it was given up, while the run goes on.
    outcome = run(samples, lane, window=4, on_bad=lambda sample, reason: hung.release.set())
    assert list(outcome.reasons) == [3]
    assert (outcome.computed, len(lane.sinks[0].keys)) == (29, 29)
    assert key_of(samples[3].source) not in lane.sinks[0].keys


def test_more_images_may_hang_than_there_are_threads(lanes, run, hung, monkeypatch):
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.2)
    samples = lanes.in_memory(range(8))
    hung(*[sample.source for sample in samples[:5]])
    outcome = run(samples, lanes.FakeLane(), workers=1)
    assert sorted(outcome.reasons) == [0, 1, 2, 3, 4]
    assert outcome.computed == 3


class Hangs:
    """A data set of 12 items: the one that is asked for as `nth` takes long."""

    def __init__(self, lanes, nth, wait, delay_s=0.0):
        self.pixels = [lanes.pixels_of(i) for i in range(12)]
        self.nth, self.wait, self.delay_s = nth, wait, delay_s
        self.asked = []
        self.targets = [0] * len(self.pixels)  # so that no item is asked for its label

    def __len__(self):
        return len(self.pixels)

    def __getitem__(self, place):
        self.asked.append(place)
        time.sleep(self.delay_s)
        if len(self.asked) == self.nth:
            self.wait()
        return self.pixels[place], 0


def test_an_item_of_a_data_set_that_hangs_ends_neither_the_run_nor_takes_for_ever(
    lanes, run, monkeypatch
):
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.05)
    release, ended = threading.Event(), []
    items = Hangs(lanes, 5, lambda: ended.append(release.wait(60)))
    lane, samples = lanes.FakeLane(), find(items).samples
    items.asked.clear()  # to be found, one was looked at
    outcome = run(samples, lane, workers=3)
    assert not ended
    release.set()
    assert len(items.asked) == 5
    late = "reading it took over 0.3 s"
    assert outcome.reasons[items.asked[4]] == late
    # Who has waited for it as long may share its reason.
    assert len(outcome.reasons) == 8
    assert set(outcome.reasons.values()) - {late} == {
        "not asked for: what it comes from is still busy with an image that was given up"
    }
    assert outcome.computed == len(lane.sinks[0].keys) == 4


def test_an_item_that_comes_too_late_changes_nothing(lanes, run, monkeypatch):
    """Neither is its key claimed, which would take the feature from others of the same bytes."""
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.05)
    release = threading.Event()

    def late():
        release.wait(60)
        return lanes.pixels_of(3)

    samples = lanes.in_memory(range(30))
    samples.insert(3, Sample("late", late))
    samples.append(Sample("the same", lambda: time.sleep(0.2) or lanes.pixels_of(77)))
    network = lanes.Network(4, delay_s=0.05)
    lane = lanes.FakeLane(network)
    outcome = run(samples, lane, window=4, on_bad=lambda sample, reason: release.set())
    assert outcome.reasons == {3: "reading it took over 0.3 s"}
    assert not outcome.keys[3].any()
    assert (outcome.computed, len(lane.sinks[0].keys)) == (31, 31)


def test_waiting_for_ones_turn_is_not_charged(lanes, run, monkeypatch):
    """A slow data set and many threads: each waits far longer than an item takes."""
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.1)  # six times as long for reading
    samples = find(Hangs(lanes, None, None, delay_s=0.1)).samples
    assert run(samples, lanes.FakeLane(), workers=10).reasons == {}


def test_a_pil_image_that_was_only_opened_is_watched_as_well(lanes, run, monkeypatch):
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.05)
    release = threading.Event()

    class Lazy(Image.Image):
        def load(self):
            release.wait(60)

    lazy = Image.new("RGB", (9, 9))
    lazy.__class__ = Lazy
    samples = [*lanes.in_memory(range(3)), Sample("lazy", lazy), Sample("again", lazy)]
    outcome = run(samples, lanes.FakeLane())
    release.set()
    assert sorted(outcome.reasons) == [3, 4]
    assert outcome.computed == 3


class Clock:
    """A thread's computing time that a test sets."""

    def __init__(self, monkeypatch):
        self.computed_s = 0.0
        monkeypatch.setattr(patience.time, "pthread_getcpuclockid", lambda ident: 7, raising=False)
        monkeypatch.setattr(
            patience.time, "clock_gettime", lambda clock: self.computed_s, raising=False
        )


@pytest.mark.parametrize(
    ("computing", "others_advance", "limit_s"),
    [
        (1.0, False, 10),  # a core of its own: 10 s
        (1.0, True, 10),
        (0.25, True, 40),  # a quarter of a core: its 10 s take 40 s on the clock
        (0.05, True, 60),  # however busy the machine: at most a minute
        (0.0, False, 10),  # sleeps, and nobody else does anything it could wait for
        (0.0, True, 60),  # perhaps waits for somebody who compiles
    ],
)
def test_what_counts_is_computing_time(monkeypatch, computing, others_advance, limit_s):
    clock = Clock(monkeypatch)
    clock.computed_s = 100.0  # of earlier images
    mine = Patience()
    mine.begin("an image")
    assert mine.look(0.1) == "an image"
    waited = 0.0
    while not mine.is_over(0.1, others_advance):
        clock.computed_s += 0.1 * computing
        waited += 0.1
        assert mine.look(0.1) == "an image"
    assert waited == pytest.approx(limit_s, abs=0.25)


def test_each_image_has_its_own_time(monkeypatch):
    clock = Clock(monkeypatch)
    mine = Patience()
    for name in "abc":
        mine.begin(name)
        for _ in range(80):
            assert mine.look(0.1) == name
            assert not mine.is_over(0.1, False)
            clock.computed_s += 0.1
        mine.end()
    assert mine.look(0.1) is None


def test_where_computing_time_cannot_be_told_the_clock_counts_three_times(monkeypatch):
    monkeypatch.delattr(patience.time, "pthread_getcpuclockid", raising=False)
    mine = Patience()
    mine.begin("an image")
    looks = 0
    while mine.look(0.1) and not mine.is_over(0.1, False):
        looks += 1
    assert looks == pytest.approx(300, abs=2)


def test_a_suspended_program_is_not_charged_for_it(lanes, run, hung, monkeypatch):
    """A laptop's lid: the clock jumps by an hour while an image is decoded."""
    from bottleneck_probe.extraction import decoders

    samples = lanes.in_memory(range(4))
    hung(samples[1].source, after_s=0.5)
    asleep = threading.Timer(0.2, lambda: monkeypatch.setattr(decoders.time, "monotonic", later))
    now = time.monotonic

    def later():
        return now() + 3600

    asleep.start()
    outcome = run(samples, lanes.FakeLane())
    asleep.join()
    assert outcome.reasons == {}


@posix
@pytest.mark.parametrize("streams", [1, 2])
def test_ctrl_c_does_not_wait_for_a_forward_and_what_comes_late_is_dropped(
    lanes, run, interrupt_when, streams
):
    """The network is in the middle of a batch that takes a minute."""
    busy, release, ended = threading.Event(), threading.Event(), []

    def slow(number):
        if number > 3:
            busy.set()
            release.wait(60)
            ended.append(number)

    network = lanes.Network(4, streams=streams, on_call=slow)
    sink = lanes.MemorySink(awaited=12)
    samples = lanes.in_memory(range(400))
    interrupt_when(busy, sink.reached)
    with pytest.raises(Interrupted) as caught:
        run(samples, lanes.FakeLane(network, sinks=[sink]))
    assert not ended
    stored, begun = list(sink.keys), len(network.calls)
    assert caught.value.kept == len(stored) == 12
    assert caught.value.total == 400
    assert stored == [key_of(sample.source) for sample in samples[:12]]
    release.set()
    lanes.see_out("forward", "write")
    assert sorted(ended) == list(range(4, begun + 1))
    assert sink.keys == stored
    assert len(network.calls) == begun


@posix
@pytest.mark.parametrize("spin", [False, True])
def test_ctrl_c_does_not_wait_for_a_decoder(lanes, run, hung, interrupt_when, spin):
    samples = lanes.in_memory(range(40))
    hung(samples[9].source, spin=spin)
    sink = lanes.MemorySink(awaited=8)
    interrupt_when(hung.began, sink.reached)
    with pytest.raises(Interrupted) as caught:
        run(samples, lanes.FakeLane(sinks=[sink]))
    assert not hung.ended
    assert caught.value.kept == len(sink.keys) == 8


@posix
def test_ctrl_c_while_the_engine_starts_keeps_nothing(lanes, run, interrupt_when):
    lane = lanes.FakeLane()
    starting, ended = threading.Event(), []

    def start(outputs):
        starting.set()
        # In pieces: a signal that comes right before a wait does not end it.
        for _ in range(600):
            threading.Event().wait(0.1)
        ended.append(True)

    lane.start = start
    interrupt_when(starting)
    with pytest.raises(Interrupted, match="kept 0 of 9"):
        run(lanes.in_memory(range(9)), lane)
    assert not ended


@posix
def test_a_second_ctrl_c_does_not_leave_a_sink_in_use(lanes, run, interrupt_when, monkeypatch):
    """Who catches the interrupt seals the sinks: the thread that writes has to be out of them."""
    inside, release = [], threading.Event()
    entered, waiting, closing, again, returned = (threading.Event() for _ in range(5))

    class Slow(lanes.MemorySink):
        def append(self, *rows):
            inside.append(1)
            entered.set()
            release.wait(60)
            super().append(*rows)
            inside.pop()

    def let_go():
        again.wait(60)
        returned.wait(0.3)  # a run that does not wait for the sink has ended by then
        release.set()

    def handle(number, frame):
        if closing.is_set():
            again.set()
        signal.default_int_handler(number, frame)

    real = Writer.close
    monkeypatch.setattr(Writer, "close", lambda *args: closing.set() or real(*args))
    monkeypatch.setattr(pipeline, "_HURRY_S", 0.0)
    signal.signal(signal.SIGINT, handle)
    threading.Thread(target=let_go, daemon=True).start()
    # Batch 1 is being stored, 2 and 3 lie ready for it.
    network = lanes.Network(4, on_call=lambda number: waiting.set() if number == 4 else None)
    sink = Slow()
    interrupt_when(entered, waiting)
    interrupt_when(closing)
    with pytest.raises(Interrupted) as caught:
        run(lanes.in_memory(range(100)), lanes.FakeLane(network, sinks=[sink]))
    in_use = list(inside)
    returned.set()
    assert not in_use
    assert again.is_set()
    assert caught.value.kept == len(sink.keys) == 4  # not all that waits for the disk
    lanes.see_out("forward", "write")
    assert len(sink.keys) == 4


@posix
def test_equal_bytes_count_as_kept_only_when_their_feature_is(lanes, run, interrupt_when):
    """Also those that were seen before the image whose pixels went to the network."""
    begun, release = threading.Event(), threading.Event()

    def slow(number):
        if number > 1:
            begun.set()
            release.wait(60)

    network, sink = lanes.Network(4, on_call=slow), lanes.MemorySink(awaited=4)
    lane = lanes.FakeLane(network, known=[key_of(lanes.pixels_of(50))], sinks=[sink])
    # Batch 1 is 0 to 3. Then two copies of what is stored, two of what is not, one that is known.
    samples = lanes.in_memory([0, 1, 2, 3, 0, 1, 4, 4, 5, 50])
    samples.insert(2, Sample("torn early", b"no image"))
    samples.insert(9, Sample("torn late", b"no image either"))
    samples += lanes.in_memory(range(100, 140))  # two of them fill batch 2
    interrupt_when(begun, sink.reached)
    with pytest.raises(Interrupted) as caught:
        run(samples, lane)
    release.set()
    # 4 stored, 2 copies of them, the early torn one, and the known one.
    assert caught.value.kept == 8
    assert len(sink.keys) == 4


def test_an_interrupt_in_another_thread_is_one(lanes, run):
    def interrupt(number):
        if number == 3:
            raise KeyboardInterrupt

    lane = lanes.FakeLane(lanes.Network(4, on_call=interrupt))
    with pytest.raises(Interrupted) as caught:
        run(lanes.in_memory(range(40)), lane)
    assert caught.value.kept == len(lane.sinks[0].keys) == 8


CHILD = """
import sys, time, threading
sys.path.insert(0, sys.argv[1])
import lanes
from bottleneck_probe.extraction import patience, pipeline, prepare
from bottleneck_probe.extraction.crew import left_running

def run(samples, lane):
    return pipeline.run(samples, lanes=[lane], workers=2, progress=lanes.Bar())[0]

run(lanes.in_memory([99]), lanes.FakeLane())  # what is compiled at the first use is there now
patience.DECODE_TIMEOUT_S = 0.3
real = prepare.decoded
samples = lanes.in_memory(range(12))
def decoded(content, p, *limits):
    if content is samples[5].source:
        while True:
            time.sleep(0.01)
    return real(content, p)
prepare.decoded = decoded
outcome = run(samples, lanes.FakeLane())
print(outcome.computed, outcome.reasons, left_running())
"""


def test_a_process_ends_although_a_decoder_still_hangs():
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "11 {5: 'decoding took over 0.3 s'} True\n"


def test_an_error_waits_for_the_batches_that_were_begun(lanes, run, monkeypatch):
    """They have cost something: a fault elsewhere does not throw them away."""
    samples = lanes.in_memory(range(40))
    samples[30] = Sample("torn", b"no image")
    stopping, real = threading.Event(), Batches.dismiss
    monkeypatch.setattr(Batches, "dismiss", lambda self: (stopping.set(), real(self)))

    def stop(sample, reason):
        raise bp.InputError("stop at the first")

    # Batch 1 comes to its end after the error; two more lie ready, and are not begun.
    network = lanes.Network(8, on_call=lambda number: stopping.wait(60))
    lane = lanes.FakeLane(network)
    with pytest.raises(bp.InputError, match="stop at the first"):
        run(samples, lane, on_bad=stop)
    assert len(network.calls) == 1
    assert len(lane.sinks[0].keys) == 8
