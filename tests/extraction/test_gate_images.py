"""The images of the precision's gate: read by watched threads, so that none holds up a run."""

import os

import numpy as np
import pytest
from bottleneck_probe.engines import gate
from bottleneck_probe.extraction import gate_images as module
from bottleneck_probe.extraction import patience, prepare
from bottleneck_probe.extraction.gate_images import gate_images
from bottleneck_probe.images.sample import Sample

posix = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def views_of(samples):
    return [sample.source.tobytes() for sample in samples]


def test_an_image_that_hangs_its_decoder_is_passed_over(lanes, hung, monkeypatch):
    monkeypatch.setattr(patience, "DECODE_TIMEOUT_S", 0.3)
    samples = lanes.in_memory(range(5))
    hung(samples[1].source, samples[4].source)
    found = gate_images(samples, lanes.plain())
    assert not hung.ended
    assert found.shape == (gate.IMAGES, lanes.SIDE, lanes.SIDE, 3)
    own = [view.tobytes() for view in found if view.tobytes() in views_of(samples)]
    assert sorted(own) == sorted(views_of(samples[i] for i in (0, 2, 3)))


@posix
def test_ctrl_c_does_not_wait_for_a_decoder(lanes, hung, interrupt_when):
    samples = lanes.in_memory(range(9))
    hung(*[sample.source for sample in samples])
    interrupt_when(hung.began)
    with pytest.raises(KeyboardInterrupt):
        gate_images(samples, lanes.plain())
    assert not hung.ended


def test_what_cannot_be_an_image_is_passed_over(lanes):
    odd = [Sample("odd", np.array([[None]])), Sample("fault", b"", fault="outside")]
    samples = [*odd, *lanes.in_memory(range(2)), Sample("torn", b"no image")]
    found = gate_images(samples, lanes.plain())
    assert {view.tobytes() for view in found} >= set(views_of(samples[2:4]))
    assert len(found) == gate.IMAGES


def test_all_images_are_looked_at_only_where_the_first_half_does_not_suffice(lanes, monkeypatch):
    """Each another one, in an order that does not follow the threads' speed."""
    monkeypatch.setattr(module, "_photographs", lambda p, count: [])
    asked = []
    real = prepare.fetch
    monkeypatch.setattr(prepare, "fetch", lambda *args: asked.append(1) or real(*args))
    enough = lanes.in_memory(range(2 * gate.IMAGES))
    found = gate_images(enough, lanes.plain())
    np.testing.assert_array_equal(found, [sample.source for sample in enough[::2]])
    assert len(asked) == gate.IMAGES
    copies = lanes.in_memory([0] * gate.IMAGES + [*range(gate.IMAGES)])
    assert len({view.tobytes() for view in gate_images(copies, lanes.plain())}) == gate.IMAGES
