"""What is no file, in the place of one of the run's own: nothing waits for it, nothing is lost in it."""

import os
import stat
import threading

import bottleneck_probe as bp
import pytest
from bottleneck_probe import usercache
from bottleneck_probe.cache import lease, orphans, sealed
from bottleneck_probe.errors import BottleneckError, CacheError
from bottleneck_probe.extraction.alone import known_crashes
from bottleneck_probe.extraction.journal import Journal, journal_path

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes of POSIX")


def pipe(path):
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    return path


def is_pipe(path):
    return stat.S_ISFIFO(path.lstat().st_mode)


def in_time(work):
    """What `work` gives or raises; fails if it waits for somebody to open the other end."""
    found = []

    def do():
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it waits"
    if isinstance(found[0], BaseException) and not isinstance(found[0], BottleneckError):
        raise found[0]
    return found[0]


@pytest.fixture
def extract(calls, photos, tmp_path):
    root = photos(4)
    return lambda: in_time(
        lambda: bp.extract(root, output=tmp_path / "x.h5", backbone="stub", quiet=True)
    )


def test_a_pipe_for_a_journal_is_told_and_left_alone(extract, tmp_path, capsys):
    path = pipe(journal_path(tmp_path / "x.h5"))
    assert len(extract()) == 4
    assert f"{path} is a pipe" in capsys.readouterr().err
    assert is_pipe(path)
    assert in_time(lambda: known_crashes([tmp_path / "x.h5"])) == {}


def test_a_pipe_for_a_new_journal_is_not_waited_for(tmp_path):
    path = tmp_path / "j"
    pipe(tmp_path / "j.new")

    def work():
        with Journal(path) as journal:
            journal.take_up(1, "a")
            return path.read_bytes()

    assert in_time(work) == b'["at", 1, "a"]\n'


def test_a_pipe_for_a_lock_is_an_error_that_names_it(extract, tmp_path):
    path = pipe(tmp_path / ".x.h5.lock")
    error = in_time(extract)
    assert isinstance(error, CacheError)
    assert f"{path} is a pipe" in error.what
    assert is_pipe(path)
    assert in_time(lambda: lease.read(path)) is None
    in_time(lambda: lease.sign(path, lease.mine()))


def test_a_pipe_among_the_parts_is_set_aside(extract, tmp_path):
    path = pipe(tmp_path / "x.h5.parts" / "0123.h5")
    assert in_time(lambda: sealed.load(path.parent, "f"))[1] == [
        "0123.h5 was set aside as 0123.bad: it is a pipe; its images are computed again"
    ]
    path.with_suffix(".bad").rename(path)
    assert len(extract()) == 4


def test_a_pipe_among_temporary_files_is_no_orphan(extract, tmp_path):
    temporary, descriptor = orphans.create(tmp_path / "x.h5")
    os.close(descriptor)
    temporary.unlink()
    pipe(temporary)
    assert len(extract()) == 4
    assert is_pipe(temporary)


def test_a_pipe_for_a_note_in_the_cache_is_as_good_as_none(tmp_path):
    path = pipe(tmp_path / "note.json")

    def work():
        with pytest.raises(OSError, match="a pipe"):
            usercache.read(path)

    in_time(work)
    path.unlink()
    usercache.write(path, "ä".encode())
    assert usercache.read(path) == "ä"
