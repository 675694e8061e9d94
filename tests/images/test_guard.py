"""Pillow is strict and silent for us, and as it was for everybody else, also between threads."""

import io
import logging
import threading
import warnings

import numpy as np
import pytest
from bottleneck_probe.images import guard
from bottleneck_probe.images.decode import BadImage, decode
from PIL import Image, ImageFile, TiffImagePlugin


def pillow_warns() -> None:
    """A warning whose module is Pillow's, as its plugins raise it."""
    exec(compile("import warnings; warnings.warn('odd tag')", "x", "exec"), {"__name__": "PIL.X"})


def test_pillows_warnings_are_dropped_even_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard.strictly(pillow_warns)
        with pytest.raises(UserWarning, match="odd tag"):
            pillow_warns()  # the same warning outside: the host's business


def test_other_warnings_pass():
    with pytest.warns(UserWarning, match="mine"):
        guard.strictly(lambda: warnings.warn("mine", stacklevel=1))


def test_another_threads_warning_passes_while_this_one_decodes():
    caught: list[Exception] = []

    def other() -> None:
        try:
            pillow_warns()
        except UserWarning as error:
            caught.append(error)

    def work() -> None:
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        guard.strictly(work)
    assert len(caught) == 1


def test_log_records_are_dropped_only_here(caplog: pytest.LogCaptureFixture):
    logger = TiffImagePlugin.logger
    with caplog.at_level(logging.ERROR):
        guard.strictly(lambda: logger.error("inside"))
        logger.error("outside")
    assert [record.message for record in caplog.records] == ["outside"]


def test_a_host_that_allows_truncated_images_in_between():
    """Switched on while we decode: the work is done again, strictly; the host keeps its setting."""
    seen = []

    def work() -> None:
        seen.append(ImageFile.LOAD_TRUNCATED_IMAGES)
        if len(seen) == 1:
            ImageFile.LOAD_TRUNCATED_IMAGES = True

    try:
        guard.strictly(work)
        assert seen == [False, False]
        assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = False


def test_errors_leave_everything_as_it_was(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ZeroDivisionError):
        guard.strictly(lambda: 1 / 0)
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True
    assert guard._truncated.users == 0
    assert not guard._here.active


def test_many_threads_with_a_lenient_host(monkeypatch: pytest.MonkeyPatch):
    """No truncated image passes in any thread, and whole ones decode to the same pixels."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file, "JPEG")
    whole, cut = file.getvalue(), file.getvalue()[:-900]
    expected, wrong = np.asarray(decode(whole)), []

    def work() -> None:
        for _ in range(40):
            try:
                decode(cut)
                wrong.append("a truncated image passed")
            except BadImage:
                pass
            if not np.array_equal(np.asarray(decode(whole)), expected):
                wrong.append("other pixels")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_scikit_learn_can_hand_our_warning_filter_to_its_workers():
    """`Parallel` copies the filters, and once fell over the one entry that is not its own kind."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score

    guard.strictly(lambda: None)
    X = np.arange(20.0).reshape(10, 2)
    scores = cross_val_score(LogisticRegression(), X, np.arange(10) % 2, cv=2)
    assert scores.shape == (2,)
