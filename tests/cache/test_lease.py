"""Locks where the system's own do not reach: other machines, disks without locks, dead processes."""

import errno
import io
import json
import os
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from bottleneck_probe.cache import lease, lock, oslock
from bottleneck_probe.cache.lock import writing
from bottleneck_probe.errors import CacheError

pytestmark = pytest.mark.skipif(oslock.fcntl is None, reason="locks of POSIX")


def signed(path, **fields):
    """A lock file that somebody else has left."""
    file = path.with_name(f".{path.name}.lock")
    file.write_text(json.dumps(fields))
    return file


def aged(file, seconds):
    os.utime(file, (time.time() - seconds,) * 2)


@pytest.fixture
def no_locks(monkeypatch):
    """A disk that answers that it has none, as NFS without its lock service."""

    def none(*args):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(oslock.fcntl, "flock", none)


@pytest.fixture
def network_disk(monkeypatch):
    """A disk that other machines see too, and whose locks may not reach them."""
    monkeypatch.setattr(oslock, "is_local", lambda folder: False)


def is_free(path):
    try:
        with writing(path, timeout_s=0):
            return True
    except CacheError as error:
        if "in use by" not in str(error):
            raise
        return False


def dead_pid():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_a_living_process_of_this_machine_has_it(tmp_path, no_locks):
    own = lease.mine()
    signed(tmp_path / "x.h5", pid=own.pid, host=own.host, started=own.started, boot=own.boot)
    assert not is_free(tmp_path / "x.h5")


def test_a_dead_process_of_this_machine_has_it_no_more(tmp_path, no_locks):
    signed(tmp_path / "x.h5", pid=dead_pid(), host=socket.gethostname())
    assert is_free(tmp_path / "x.h5")


@pytest.mark.skipif(not lease.started_at(os.getpid()), reason="this system does not tell it")
def test_a_number_that_another_process_has_got_since_counts_as_dead(tmp_path, no_locks):
    own = lease.mine()
    signed(tmp_path / "x.h5", pid=own.pid, host=own.host, started="1", boot=own.boot)
    assert is_free(tmp_path / "x.h5")


def test_a_process_of_an_earlier_boot_counts_as_dead(tmp_path, no_locks):
    own = lease.mine()
    if not own.boot:
        pytest.skip("this system does not tell it")
    signed(tmp_path / "x.h5", pid=own.pid, host=own.host, started=own.started, boot="before")
    assert is_free(tmp_path / "x.h5")


def test_the_signature_of_an_earlier_version_counts(tmp_path, no_locks):
    file = signed(tmp_path / "x.h5", pid=os.getpid(), host=socket.gethostname())
    assert not is_free(tmp_path / "x.h5")
    for nonsense in (
        *(b"", b"{", b"[]", b'{"pid": "x", "host": 1}', b"\xff" * 9000),
        *(b'{"pid": 1e999, "host": "h"}', b"[" * 4000),
    ):
        file.write_bytes(nonsense)
        assert is_free(tmp_path / "x.h5")


@pytest.mark.parametrize(("age_s", "free"), [(0, False), (29 * 60, False), (31 * 60, True)])
def test_another_machine_has_it_as_long_as_it_gives_signs_of_life(
    tmp_path, network_disk, age_s, free
):
    aged(signed(tmp_path / "x.h5", pid=1, host="elsewhere", boot="other"), age_s)
    assert is_free(tmp_path / "x.h5") is free


def test_the_message_says_when_it_was_seen_last_and_what_to_do(tmp_path, network_disk):
    file = signed(tmp_path / "x.h5", pid=7, host="elsewhere", boot="other")
    aged(file, 600)
    words = r"pid 7 on host 'elsewhere' \(last sign of life 10 min"
    with pytest.raises(CacheError, match=words), writing(tmp_path / "x.h5", timeout_s=0):
        pass
    file.unlink()
    assert is_free(tmp_path / "x.h5")


def test_on_a_disk_of_this_machine_alone_a_lock_that_we_get_proves_that_nobody_has_it(
    tmp_path, monkeypatch
):
    """A container that was killed and started again has another host name."""
    monkeypatch.setattr(oslock, "is_local", lambda folder: True)
    signed(tmp_path / "x.h5", pid=1, host="container-before", boot="other")
    assert is_free(tmp_path / "x.h5")


def test_a_container_of_this_machine_that_is_gone_has_it_no_more(tmp_path, network_disk):
    """The system's lock reaches all containers of one machine, on every kind of disk."""
    boot = lease.mine().boot
    if not boot:
        pytest.skip("this system does not tell it")
    signed(tmp_path / "x.h5", pid=1, host="container-before", boot=boot)
    assert is_free(tmp_path / "x.h5")


def test_the_signature_goes_when_the_lock_does(tmp_path, no_locks):
    file = tmp_path / ".x.h5.lock"
    with writing(tmp_path / "x.h5"):
        assert lease.read(file).pid == os.getpid()
        assert not is_free(tmp_path / "x.h5")
    assert file.read_bytes() == b""
    assert is_free(tmp_path / "x.h5")


def test_a_lease_that_somebody_has_taken_over_is_not_given_back(tmp_path, no_locks):
    with writing(tmp_path / "x.h5"):
        signed(tmp_path / "x.h5", pid=1, host="elsewhere", token="theirs")
    assert lease.read(tmp_path / ".x.h5.lock").token == "theirs"


def test_of_two_that_sign_at_once_the_later_one_has_it(tmp_path, no_locks, monkeypatch):
    real = time.sleep

    def meanwhile(seconds):
        signed(tmp_path / "x.h5", pid=1, host="elsewhere", boot="other", token="theirs")
        real(0)

    monkeypatch.setattr(lock.time, "sleep", meanwhile)
    assert not is_free(tmp_path / "x.h5")


@pytest.mark.parametrize("where", ["without locks", "on a disk of many machines"])
def test_a_run_that_is_interrupted_as_it_signs_leaves_the_lock_free(
    tmp_path, monkeypatch, request, where
):
    """A notebook lives on, so its own signature would keep it off for as long as it does."""
    if where == "without locks":
        request.getfixturevalue("no_locks")
    else:
        request.getfixturevalue("network_disk")

    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lock.time, "sleep", interrupt)
        patch.setattr(lease, "Heartbeat", interrupt)
        with pytest.raises(KeyboardInterrupt), writing(tmp_path / "x.h5"):
            pytest.fail("it was not interrupted")
    assert (tmp_path / ".x.h5.lock").read_bytes() == b""
    assert is_free(tmp_path / "x.h5")


def test_an_interrupt_before_it_signs_leaves_what_others_signed(tmp_path, no_locks, monkeypatch):
    file = signed(tmp_path / "x.h5", pid=dead_pid(), host=socket.gethostname())
    before = file.read_bytes()

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(lease, "is_over", interrupt)
        with pytest.raises(KeyboardInterrupt), writing(tmp_path / "x.h5"):
            pytest.fail("it was not interrupted")
    assert file.read_bytes() == before


@pytest.fixture
def no_proc(monkeypatch):
    """A system that tells neither its boot nor when a process began, as macOS."""

    def none(name, *args, **options):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", name)

    monkeypatch.setattr(lease, "open", none, raising=False)


def test_where_boot_and_start_are_not_known_the_number_of_the_process_counts(
    tmp_path, no_locks, no_proc
):
    own = lease.mine()
    assert (own.boot, own.started) == ("", "")
    with writing(tmp_path / "x.h5"):
        assert not is_free(tmp_path / "x.h5")
    for pid, free in ((own.pid, False), (dead_pid(), True)):
        signed(tmp_path / "x.h5", pid=pid, host=own.host, started="12345", boot="other")
        assert is_free(tmp_path / "x.h5") is free


@pytest.mark.parametrize("started", ["", "12345"])
def test_a_process_of_another_user_counts_as_alive(tmp_path, no_locks, monkeypatch, started):
    """Also where nobody but its user may see when it began, as with the option hidepid of /proc."""

    def of_another(pid, number):
        assert number == 0
        raise PermissionError(errno.EPERM, "Operation not permitted")

    hidden = dead_pid()
    monkeypatch.setattr(lease.os, "kill", of_another)
    signed(tmp_path / "x.h5", pid=hidden, host=socket.gethostname(), started=started)
    assert not is_free(tmp_path / "x.h5")


def test_a_number_that_no_process_can_have_is_not_asked_for(tmp_path, no_locks):
    signed(tmp_path / "x.h5", pid=1 << 80, host=socket.gethostname())
    assert not is_free(tmp_path / "x.h5")


def test_on_windows_no_process_is_asked_whether_it_lives(tmp_path, no_locks, monkeypatch):
    """There os.kill ends it, whatever the signal."""
    monkeypatch.setattr(lease, "sys", SimpleNamespace(platform="win32"))
    monkeypatch.setattr(lease.os, "kill", lambda *args: pytest.fail("it was killed"))
    signed(tmp_path / "x.h5", pid=dead_pid(), host=socket.gethostname())
    assert not is_free(tmp_path / "x.h5")


def test_a_lease_whose_age_cannot_be_told_is_not_taken_over(tmp_path, network_disk, monkeypatch):
    """No file can be made beside it to ask the disk what time it is."""
    file = signed(tmp_path / "x.h5", pid=1, host="elsewhere", boot="other")
    aged(file, 31 * 60)
    real = os.open

    def refuse(path, *args, **options):
        if str(path).endswith(".now"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(lease.os, "open", refuse)
        assert not is_free(tmp_path / "x.h5")
    assert is_free(tmp_path / "x.h5")


def test_a_lease_is_kept_alive_while_it_is_held(tmp_path, network_disk, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_S", 0.02)
    with writing(tmp_path / "x.h5") as file:
        aged(file, 3000)
        until = time.monotonic() + 60
        while lease.age_s(file) > 100 and time.monotonic() < until:
            time.sleep(0.01)
        assert lease.age_s(file) < 100


def test_a_wait_ends_when_the_other_machine_is_done(tmp_path, network_disk):
    file = signed(tmp_path / "x.h5", pid=1, host="elsewhere", boot="other")
    told = []

    def waiting(sentence):
        told.append(sentence)
        file.write_bytes(b"")

    with writing(tmp_path / "x.h5", timeout_s=60, waiting=waiting):
        pass
    assert len(told) == 1
    assert "elsewhere" in told[0]
    assert "waiting for it to end" in told[0]


def test_a_link_and_its_target_have_one_lock(tmp_path):
    (tmp_path / "disk").mkdir()
    real = tmp_path / "disk" / "x.h5"
    real.write_bytes(b"")
    (tmp_path / "link.h5").symlink_to(real)
    with writing(tmp_path / "link.h5") as file:
        assert file == tmp_path / "disk" / ".x.h5.lock"
        code = (
            "from bottleneck_probe.cache.lock import writing\n"
            f"with writing({str(real)!r}, timeout_s=0): pass"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert "in use by" in done.stderr


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".x.h5.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(CacheError, match="ELOOP"), writing(tmp_path / "x.h5"):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_name_of_255_bytes_can_be_locked(tmp_path):
    with writing(tmp_path / ("x" * 252 + ".h5")) as file:
        assert file.exists()


def test_what_a_killed_run_has_left_of_the_file_goes_when_the_lock_is_taken(tmp_path):
    code = f"""
import os, signal
from bottleneck_probe.cache.atomic import replace_atomically
with replace_atomically({str(tmp_path / "x.h5")!r}) as file:
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with writing(tmp_path / "x.h5"):
        assert [path.name for path in tmp_path.iterdir()] == [".x.h5.lock"]


@pytest.mark.skipif(not os.path.exists("/proc/self/mountinfo"), reason="Linux")
def test_disks_of_one_machine_are_told_from_others(monkeypatch):
    table = (
        b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
        b"2 1 0:50 / /mnt/my\\040disk rw shared:1 - nfs4 server:/x rw\n"
        b"3 1 0:51 / /mnt/my\\040disk/scratch rw - xfs /dev/sdb rw\n"
        b"4 1 0:52 / /data rw - fuse.sshfs host: rw\n"
    )
    monkeypatch.setattr(oslock, "open", lambda name, mode: io.BytesIO(table), raising=False)
    monkeypatch.setattr(oslock.os.path, "realpath", lambda path: str(path))
    found = {
        place: oslock.is_local(place)
        for place in (
            "/home/x",
            "/mnt/my disk",
            "/mnt/my disk/a",
            "/mnt/my disk/scratch/a",
            "/data/x",
        )
    }
    assert list(found.values()) == [True, False, False, True, False]
