"""A file that is unchanged is not read again, and one that may have changed always is."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from blake3 import blake3
from bottleneck_probe.cache import index as file_index
from bottleneck_probe.cache.features import open as open_features
from bottleneck_probe.cache.index import index_of
from bottleneck_probe.extraction import api, job, prepare, record, remember
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.dry import dry_run
from bottleneck_probe.images import payload as payload_module
from bottleneck_probe.reporter import Silent
from common import extractor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

HOUR_NS = 3600 * 10**9


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "x.h5"


@pytest.fixture
def extract(calls, output):
    return extractor(calls, output)


@pytest.fixture
def settled(monkeypatch):
    """As if all files had been made long before the run."""
    monkeypatch.setattr(record, "GRAIN_NS", -HOUR_NS)
    monkeypatch.setattr(record, "FOREIGN_GRAIN_NS", -HOUR_NS)
    monkeypatch.setattr("bottleneck_probe.extraction.beginnings.FOREIGN_GRAIN_NS", -HOUR_NS)


def check_rows(root, features):
    """Each row is that of the file that lies there now."""
    for path, key, row in zip(features.paths, features.keys, features.features[:], strict=True):
        content = (root / path).read_bytes()
        assert key.tobytes() == blake3(content).digest(), path
        from PIL import Image

        colour = np.asarray(Image.open(root / path).convert("RGB"))[0, 0]
        np.testing.assert_allclose(row[:3], colour, atol=1e-4)


def test_an_unchanged_folder_is_not_read(extract, photos, settled):
    root = photos(9)
    assert extract(root).read == 9
    again = extract(root)
    assert (again.read, again.computed, again.reused, again.written) == (0, 0, 9, False)


def test_only_what_was_touched_or_added_is_read(extract, photos, stub, settled):
    root = photos(9)
    extract(root)
    os.utime(root / "ants" / "00002.png")
    stub.paint(root / "ants" / "new.png", 500)
    found = extract(root)
    assert (found.read, found.computed, found.reused) == (2, 1, 9)
    check_rows(root, found.features)
    # Something was computed, so the file was written, and the index with it.
    assert extract(root).read == 0


def test_rehash_reads_everything(extract, photos, settled):
    root = photos(5)
    extract(root)
    assert extract(root, rehash=True).read == 5
    assert extract(root).read == 0


def test_a_file_changed_within_the_clocks_grain_is_read_again(extract, photos, monkeypatch):
    """It could have been changed once more after it was read, and look the same."""
    root = photos(4)
    now = (root / "ants" / "00000.png").stat().st_mtime_ns
    old = now - HOUR_NS
    for file in root.glob("*/*"):
        os.utime(file, ns=(old, old))  # only mtime: ctime is now
    monkeypatch.setattr(record, "GRAIN_NS", HOUR_NS)
    extract(root)
    assert extract(root).read == 4


@pytest.mark.skipif(sys.platform != "linux", reason="other systems stamp memory maps otherwise")
def test_a_file_changed_through_a_memory_map_is_read_again(extract, photos):
    """Linux stamps the page when it is first written, and then not until it was written back."""
    root = photos(2)
    file = root / "ants" / "mapped.ppm"
    file.write_bytes(b"P6 9 9 255\n" + bytes(243))
    pixels = np.memmap(file, np.uint8, "r+", offset=11)
    pixels[:] = 10
    time.sleep(0.2)  # longer than any clock's tick
    extract(root)
    pixels[:] = 200
    check_rows(root, extract(root).features)


def test_a_file_dated_beyond_what_fits_is_read_every_time(extract, photos, settled):
    root = photos(4)
    shutil.copy(root / "ants" / "00000.png", root / "ants" / "nosuffix")
    (root / "ants" / "notes").write_text("not an image")
    for name in ("00002.png", "nosuffix", "notes"):
        _date_beyond(root / "ants" / name)
    for n_read in (5, 2, 2):
        found = extract(root)
        assert (found.seen, found.ignored, found.quarantined, found.read) == (5, 1, 0, n_read)
    _date_beyond(root / "ants" / "00000.png")
    assert extract(root).read == 3


def _date_beyond(file):
    os.utime(file, (10**10, 10**10))
    if file.stat().st_mtime_ns < 2**63:
        pytest.skip("this file system has no dates after 2262")


def test_a_file_from_the_future_is_read_again(extract, photos, output):
    root = photos(4)
    extract(root)
    real = index_of(open_features(output))
    assert (real.files[:, 1] > 0).all()
    future = replace(real, time_ns=10**18, grain_ns=0)
    assert not future.unchanged(real.files, real.files).any()


@pytest.mark.parametrize("column", range(4), ids=["size", "mtime", "ctime", "inode"])
def test_each_part_of_the_status_counts(column):
    rows = np.array([[100, 5, 6, 7]] * 2, np.int64)
    index = file_index.FileIndex(
        rows, np.empty((0, 4), np.int64), np.empty((0, 32), np.uint8), time_ns=100, grain_ns=10
    )
    now = rows.copy()
    now[1, column] += 1
    assert index.unchanged(rows, now).tolist() == [True, False]


def test_a_file_without_a_number_is_always_read():
    rows = np.array([[100, 5, 6, 0], [100, 5, 6, 1], [-1, -1, -1, -1]], np.int64)
    assert file_index.settled(rows, 100, 10).tolist() == [False, True, False]


@pytest.mark.parametrize(("latest", "expected"), [(89, True), (90, False), (100, False)])
def test_both_times_must_lie_before_the_record_by_more_than_its_grain(latest, expected):
    for times in ([latest, 5], [5, latest]):
        rows = np.array([[100, *times, 7]], np.int64)
        assert file_index.settled(rows, 100, 10).tolist() == [expected]


# What happens between two runs; each returns nothing and may do nothing.
def _edit(rng, files, make):
    make(files[rng.integers(len(files))], int(rng.integers(60_000)))


def _edit_keeping_times(rng, files, make):
    path = files[rng.integers(len(files))]
    before = path.stat()
    make(path, int(rng.integers(60_000)))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _rename(rng, files, make):
    path = files[rng.integers(len(files))]
    path.rename(path.with_name(f"r{rng.integers(100)}.bmp"))


def _swap(rng, files, make):
    a, b = (files[i] for i in rng.integers(len(files), size=2))
    if a != b:
        other = a.with_name("swap")
        a.rename(other)
        b.rename(a)
        other.rename(b)


def _swap_folders(rng, files, make):
    a, b = files[0].parent, files[-1].parent
    if a != b:
        other = a.with_name("swap")
        a.rename(other)
        b.rename(a)
        other.rename(b)


def _copy_over(rng, files, make):
    a, b = (files[i] for i in rng.integers(len(files), size=2))
    if not a.samefile(b):
        shutil.copy2(a, b)


def _link_over(rng, files, make):
    a, b = (files[i] for i in rng.integers(len(files), size=2))
    if a != b:
        b.unlink()
        os.link(a, b)


def _replace_keeping_times(rng, files, make):
    """Another file under the same name, of the same size and age."""
    path = files[rng.integers(len(files))]
    before = path.stat()
    other = path.with_name("other")
    make(other, int(rng.integers(60_000)))
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(path)


def _remove(rng, files, make):
    if len(files) > 3:
        files[rng.integers(len(files))].unlink()


CHANGES = (
    _edit,
    _edit_keeping_times,
    _rename,
    _swap,
    _swap_folders,
    _copy_over,
    _link_over,
    _replace_keeping_times,
    _remove,
)


def coarsen(patch, tick_ns):
    """As if the file system counted time in ticks of so many nanoseconds."""

    def coarse(times_ns):
        return tuple(t // tick_ns * tick_ns for t in times_ns)

    real_look, real_row, real_clock = remember.status_of, prepare.as_row, job.clock_of

    def stamp(status):
        return (status[0], *coarse(status[1:3]), status[3])

    def clock_of(files):
        clock = real_clock(files)
        return replace(clock, time_ns=coarse([clock.time_ns])[0])

    patch.setattr(remember, "status_of", lambda found: stamp(real_look(found)))
    patch.setattr(prepare, "as_row", lambda status: stamp(real_row(status)))
    patch.setattr(job, "clock_of", clock_of)


@pytest.mark.parametrize("tick_ns", [1, 10**9], ids=["fine clock", "clock of seconds"])
@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # `stub` is a module
)
@given(
    seed=st.integers(0, 2**32 - 1),
    rounds=st.lists(st.lists(st.sampled_from(CHANGES), max_size=15), min_size=1, max_size=6),
)
def test_no_row_ever_belongs_to_other_bytes(tick_ns, seed, rounds, stub, tmp_path_factory):
    """All images have one size in bytes, so only times and numbers tell them apart."""
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("edits")
    root, output = folder / "photos", folder / "x.h5"

    def make(path, number):
        from PIL import Image

        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if path.exists() and number % 2 else "wb") as file:
            Image.new("RGB", (3, 2), stub.colour_of(number)).save(file, "BMP")

    for number in range(6):
        make(root / ("ants", "bees")[number % 2] / f"{number // 2}.bmp", number)
    with pytest.MonkeyPatch.context() as patch:
        calls = stub.install(patch.setattr, patch.setitem)
        # Small, so that most files count as settled: what is left is the rule itself.
        patch.setattr(record, "GRAIN_NS", 10_000_000)
        coarsen(patch, tick_ns)
        stated = {"backbone": "stub", "engine": "eager", "batch_size": 1}
        run(find_images(root), output=output, reporter=Silent(), **stated)
        for changes in rounds:
            for change in changes:
                change(rng, sorted(root.glob("*/*.bmp")), make)
            calls.forwards = 0
            found = run(find_images(root), output=output, reporter=Silent(), **stated)
            assert found.computed == calls.forwards
            check_rows(root, found.features)


def test_what_is_in_the_quarantine_is_not_read_again_unless_asked_for(extract, photos, settled):
    root = photos(9)
    (root / "ants" / "torn.png").write_bytes((root / "ants" / "00000.png").read_bytes()[:40])
    (root / "ants" / "empty.jpg").write_bytes(b"")
    first = extract(root)
    assert (first.quarantined, first.read) == (2, 11)
    again = extract(root)
    assert (again.quarantined, again.read, again.written) == (2, 0, False)
    assert again.features.quarantine == first.features.quarantine
    tried = extract(root, retry=True)
    assert (tried.quarantined, tried.read, tried.written) == (2, 2, False)
    with pytest.raises(api.InputError, match=r"ants/empty\.jpg"):
        extract(root, strict=True)


def test_another_decoder_tries_the_quarantine_again(extract, photos, settled, monkeypatch):
    root = photos(9)
    (root / "ants" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    extract(root)
    monkeypatch.setattr(remember, "version", lambda name: "99")
    assert extract(root).read == 1


@pytest.mark.parametrize("reason", ["decoding took over 10 s", "PNG that needs more memory than"])
def test_a_reason_of_the_moment_is_not_remembered(extract, photos, settled, monkeypatch, reason):
    from bottleneck_probe.images.decode import BadImage

    root = photos(4)
    real = prepare.decoded
    bad = (root / "ants" / "00002.png").read_bytes()

    def decoded(content, p, *limits):
        if content == bad:
            raise BadImage(reason)
        return real(content, p)

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "decoded", decoded)
        assert extract(root).quarantined == 1
    found = extract(root)
    assert (found.quarantined, found.computed, found.read) == (0, 1, 1)


def test_a_file_that_is_no_image_is_opened_once(extract, photos, settled, opened):
    root = photos(4)
    (root / "ants" / "notes").write_text("not an image")
    (root / "ants" / "data.bin").write_bytes(bytes(200))
    shutil.copy(root / "ants" / "00000.png", root / "ants" / "image")  # no suffix, but an image
    first = extract(root)
    assert (first.seen, first.ignored) == (5, 2)
    assert {path.name for path in opened(root)} >= {"notes", "data.bin", "image"}
    again = extract(root)
    assert (again.seen, again.ignored, again.read, again.written) == (5, 2, 0, False)
    assert opened(root) == []
    shutil.copy(root / "ants" / "00000.png", root / "ants" / "notes")
    third = extract(root)
    assert (third.seen, third.ignored, third.read) == (6, 1, 1)


def test_another_version_opens_the_ignored_files_again(extract, photos, settled, monkeypatch):
    """It may know formats that an older one did not."""
    root = photos(4)
    shutil.copy(root / "ants" / "00000.png", root / "ants" / "nosuffix")
    with monkeypatch.context() as patch:
        patch.setattr("bottleneck_probe.extraction.beginnings.sniff", lambda head: None)
        patch.setattr(remember, "__version__", "0.0.1")
        for _ in range(2):
            found = extract(root)
            assert (found.seen, found.ignored) == (4, 1)
    found = extract(root)
    assert (found.seen, found.ignored) == (5, 0)


def test_the_default_output_knows_the_ignored_files_too(
    calls, photos, settled, opened, tmp_path, monkeypatch
):
    import bottleneck_probe as bp

    root = photos(4)
    (root / "ants" / "notes").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    bp.extract("photos", backbone="stub", quiet=True)
    assert {path.name for path in opened(root)} >= {"notes"}
    bp.extract("photos/", backbone="stub", quiet=True)
    assert opened(root) == []
    bp.extract("photos/", backbone="stub", quiet=True, rehash=True)
    assert {path.name for path in opened(root)} >= {"notes", "00000.png"}


@pytest.fixture
def opened():
    """The files below a folder that were opened since it was last asked, by whatever means."""
    seen = []

    def hook(event, arguments):
        if event == "open" and isinstance(arguments[0], str) and active:
            seen.append(Path(arguments[0]))

    active = [True]
    sys.addaudithook(hook)  # stays for ever, and does nothing after the test

    def below(folder):
        found = [path for path in seen if path.is_relative_to(folder) and path.is_file()]
        seen.clear()
        return found

    yield below
    active.clear()


def test_an_unchanged_folder_opens_nothing_but_the_feature_file(
    extract, photos, settled, opened, output, calls
):
    root = photos(9)
    (root / "ants" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    extract(root)
    assert opened(root)  # or it counts nothing
    extract(root)
    assert opened(root) == []
    assert calls.started == 0


HEAVY = """
import sys
sys.argv[0] = "bottleneck"
from bottleneck_probe.cli.main import bottleneck
try:
    bottleneck(sys.argv[1:], standalone_mode=False)
except SystemExit as end:
    assert not end.code, end.code
heavy = {"torch", "onnxruntime", "openvino", "numba", "sklearn", "scipy", "PIL", "simplejpeg"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


def test_an_unchanged_folder_loads_no_engine_and_no_decoder(tmp_path, stub):
    root = tmp_path / "photos"
    for number in range(4):
        stub.paint(root / ("ants", "bees")[number % 2] / f"{number}.png", number, (40, 30))
    command = [sys.executable, "-c", HEAVY, "extract", root, "-o", tmp_path / "x.h5", "--json"]
    options = ["--engine", "onnx", "--device", "cpu", "--precision", "fp32"]
    subprocess.run([*command, *options], check=True, capture_output=True)
    settle(tmp_path / "x.h5")
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    reply = json.loads(done.stdout)
    assert (reply["read"], reply["computed"], reply["reused"]) == (0, 0, 4)
    assert done.stderr.splitlines()[-1] == "[]"


def settle(file):
    """Write a feature file anew, as if it had been made an hour later."""
    from bottleneck_probe.cache.format import write

    found = open_features(file)
    index = index_of(found)
    later = replace(index, time_ns=index.time_ns + HOUR_NS, grain_ns=1)
    write(file, found.header, found.rows, [found.features[:]], index=later)


def test_a_file_without_an_index_is_extended(extract, photos, stub, output, settled):
    root = photos(6)
    extract(root)
    old = open_features(output)
    old.save(output)  # what is made from features has no index
    with h5py.File(output) as h5:
        assert "stat" not in h5
    again = extract(root)
    assert (again.read, again.computed, again.written) == (6, 0, False)
    stub.paint(root / "ants" / "new.png", 500)
    assert extract(root).computed == 1
    assert extract(root).read == 0


def test_the_file_is_written_for_the_index_alone_where_that_is_cheaper(
    extract, photos, settled, output, monkeypatch
):
    root = photos(6)
    extract(root)
    features = open_features(output)
    first = features.features[0]
    for path in root.glob("*/*.png"):
        os.utime(path)
    monkeypatch.setattr(record, "_WRITE_BYTES", 0)
    monkeypatch.setattr(record, "_OPEN_BYTES", 1 << 20)
    touched = extract(root)
    assert (touched.read, touched.computed, touched.written) == (6, 0, True)
    # The rows are the same, so whoever has the file open goes on with it.
    np.testing.assert_array_equal(features.features[0], first)
    again = extract(root)
    assert (again.read, again.written) == (0, False)
    # Nothing is gained by reading once more what the index knows already.
    again = extract(root, rehash=True)
    assert (again.read, again.written) == (6, False)


def test_a_moved_root_costs_no_reading(extract, photos, settled, tmp_path):
    root = photos(6)
    extract(root)
    moved = root.rename(tmp_path / "elsewhere")
    found = extract(moved)
    assert (found.read, found.computed, found.written) == (0, 0, True)
    assert found.features.root == str(moved)
    check_rows(moved, found.features)


def test_rows_that_are_kept_without_their_image_are_not_recalled(
    extract, photos, stub, settled, output
):
    root = photos(6)
    extract(root)
    kept = root / "ants" / "00002.png"
    content = kept.read_bytes()
    kept.unlink()
    stub.paint(root / "bees" / "aaa.png", 900)
    extract(root, add=True)
    known = index_of(open_features(output))
    row = list(open_features(output).paths).index("ants/00002.png")
    assert known.files[row].tolist() == [-1] * 4
    kept.write_bytes(content)
    found = extract(root, add=True)
    assert (found.read, found.computed, found.reused) == (1, 0, 7)


def test_tiles_have_one_status_for_each_view(extract, photos, settled, output):
    root = photos(3)
    extract(root, framing="tiles:1x2", batch_size=2)
    files = index_of(open_features(output)).files
    assert files.shape == (6, 4)
    np.testing.assert_array_equal(files[::2], files[1::2])
    assert extract(root, framing="tiles:1x2").read == 0


def test_a_second_backbone_takes_the_keys_of_the_first(calls, photos, settled, tmp_path):
    root, folder = photos(5), tmp_path / "out"
    stated = {"engine": "eager", "batch_size": 1}
    run_all = api.run_all
    one = folder / "photos-stub.h5"
    run_all(find_images(root), output=one, reporter=Silent(), backbone="stub", **stated)
    both = {"backbone": ["stub", "other"], **stated}
    first = run_all(find_images(root), output=folder, reporter=Silent(), **both)
    assert [each.read for each in first] == [5, 5]  # they have to be decoded
    assert [each.computed for each in first] == [0, 5]
    again = run_all(find_images(root), output=folder, reporter=Silent(), **both)
    assert [each.read for each in again] == [0, 0]


def test_a_key_comes_from_the_file_that_knows_the_image_as_it_is(
    calls, photos, settled, tmp_path, stub
):
    """Where one of two files lagged behind, the row of the other must not lead to its old key."""
    root = photos(4)
    stated = {"engine": "eager", "batch_size": 1}
    both = {"backbone": ["stub", "other"], **stated}
    folder = tmp_path / "out"
    api.run_all(find_images(root), output=folder, reporter=Silent(), **both)
    changed = root / "ants" / "00000.png"
    shutil.copy(root / "ants" / "00002.png", changed)  # bytes that both files have
    lone = {"backbone": "other", **stated}
    run(find_images(root), output=folder / "photos-other.h5", reporter=Silent(), **lone)
    first, second = api.run_all(find_images(root), output=folder, reporter=Silent(), **both)
    assert (first.read, first.computed, second.computed) == (0, 0, 0)
    check_rows(root, first.features)
    assert first.features.keys.tolist() == second.features.keys.tolist()


def test_a_dry_run_reads_no_unchanged_file(extract, photos, settled, output, opened, stub):
    root = photos(6)
    (root / "ants" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    extract(root)
    opened(root)
    (plan,) = dry_run(find_images(root), output=output, reporter=Silent(), backbone="stub")
    assert opened(root) == []
    assert (plan.seen, plan.to_compute, plan.reused, plan.unreadable) == (7, 0, 6, 1)
    stub.paint(root / "ants" / "new.png", 500)
    opened(root)
    (plan,) = dry_run(find_images(root), output=output, reporter=Silent(), backbone="stub")
    assert {path.name for path in opened(root)} == {"new.png"}
    assert (plan.to_compute, plan.reused) == (1, 6)


def test_the_clock_is_the_one_that_stamps_the_files(tmp_path):
    file = tmp_path / "stamp"
    file.touch()
    os.utime(file, ns=(5, 5))
    clock = record.clock_of([file])
    later = tmp_path / "later"
    later.touch()
    assert 10**18 < clock.time_ns <= later.stat().st_mtime_ns
    files = [None, str(tmp_path / "none"), str(file)]
    assert clock.grain_ns(files) == record.GRAIN_NS
    assert replace(clock, time_ns=5 * 10**9).grain_ns([]) >= record.COARSE_GRAIN_NS
    assert replace(clock, devices=frozenset()).grain_ns(files) == record.FOREIGN_GRAIN_NS
    assert record.clock_of([tmp_path / "none"]).time_ns == 0


def test_a_link_is_stamped_by_the_clock_of_its_target(extract, photos, output, monkeypatch):
    root = photos(4)
    far = root.parent / "far.png"
    (root / "ants" / "00002.png").rename(far)
    (root / "ants" / "00002.png").symlink_to(far)
    real = os.stat

    def stat(path, **options):
        found = real(path, **options)
        if os.path.realpath(path) != str(far):
            return found
        other = list(found)
        other[2] = found.st_dev + 1
        names = ("st_mtime_ns", "st_ctime_ns", "st_atime_ns")
        return os.stat_result(other, {name: getattr(found, name) for name in names})

    monkeypatch.setattr(record.os, "stat", stat)
    extract(root)
    assert index_of(open_features(output)).grain_ns == record.FOREIGN_GRAIN_NS


def test_the_status_is_that_of_the_very_file_that_was_read(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(b"abc")
    found = payload_module.fetch(str(file))
    assert found.status == (3, file.stat().st_mtime_ns, file.stat().st_ctime_ns, file.stat().st_ino)
