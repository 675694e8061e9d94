"""The disk is looked at before the work: too little space, and a folder that cannot be written."""

import errno
import os
import shutil
from types import SimpleNamespace

import bottleneck_probe as bp
import numpy as np
import pytest
from bottleneck_probe.cache.media import size
from bottleneck_probe.errors import CacheError
from bottleneck_probe.extraction.api import find_images, run
from bottleneck_probe.extraction.dry import dry_run
from bottleneck_probe.extraction.space import column_bytes_of, file_need, shards_need
from bottleneck_probe.images.sample import Sample, Samples
from bottleneck_probe.reporter import Silent

STATED = {"backbone": "stub", "engine": "eager", "workers": 1, "batch_size": 4}


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes every disk has free."""

    def has(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda place: SimpleNamespace(free=count))

    return has


def extract(root, output, **options):
    return run(find_images(root), output=output, reporter=Silent(), **STATED, **options)


def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(
    calls, photos, tmp_path, free
):
    free(1000)
    with pytest.raises(CacheError, match=r"disk full: needs .* kB, has 1\.0 kB at"):
        extract(photos(20), tmp_path / "x.h5")
    assert calls.started == calls.forwards == 0
    assert not (tmp_path / "x.h5.parts").exists()


def test_what_a_large_run_takes_is_told_before_anything_is_computed(
    calls, photos, tmp_path, monkeypatch
):
    told = []

    class Ears(Silent):
        def note(self, text):
            told.append((text, calls.started))

    def notes():
        told.clear()
        calls.started = 0
        run(find_images(root), output=tmp_path / "x.h5", reporter=Ears(), **STATED)
        return [each for each in told if "of disk" in each[0]]

    root = photos(20)
    assert notes() == []
    photos(4, first=20)
    monkeypatch.setattr("bottleneck_probe.extraction.job._WORTH_TELLING", 1000)
    needs = shards_need(4, [4], 1) + file_need(24, [4], 1, "float32", len("ants/00000.png"))
    assert notes() == [(f"{tmp_path / 'x.h5'}: takes up to {size(needs)} of disk", 0)]
    assert notes() == []  # nothing is to be written


def test_it_is_told_before_the_precision_is_measured(calls, photos, tmp_path, free, monkeypatch):
    from bottleneck_probe.extraction import start

    def loads_weights(*args, **options):
        raise AssertionError("the network was loaded")

    monkeypatch.setattr(start, "settle_precision", loads_weights)
    free(1000)
    with pytest.raises(CacheError, match="disk full"):
        extract(photos(20), tmp_path / "x.h5")


def test_an_update_counts_all_rows_since_all_are_written_anew(calls, photos, tmp_path, free):
    root = photos(200)
    output = tmp_path / "x.h5"
    extract(root, output)
    photos(4, first=200)
    whole = output.stat().st_size
    calls.forwards = 0
    free(whole // 2)
    with pytest.raises(CacheError, match="disk full"):
        extract(root, output)
    assert calls.forwards == 0
    assert len(bp.open(output)) == 200
    free(2 * whole)
    assert extract(root, output).computed == 4


def test_a_run_that_has_nothing_to_write_needs_no_space(calls, photos, tmp_path, free):
    root = photos(8)
    (root / "ants" / "torn.png").write_bytes(b"")  # counts as done: it is in the quarantine
    extract(root, tmp_path / "x.h5")
    free(10)
    assert extract(root, tmp_path / "x.h5").reused == 8


def test_what_is_asked_for_is_about_what_is_taken(calls, photos, tmp_path):
    """Of the rows; beside them a file has some kB of structure, whatever their number."""
    sizes = {}
    for n in (50, 450):
        root = photos(n, folder=f"photos{n}")
        output = tmp_path / f"{n}.h5"
        (plan,) = dry_run(find_images(root), output=output, reporter=Silent(), **STATED)
        extract(root, output)
        shards = shards_need(n, [4], 1)
        sizes[n] = (plan.disk_bytes - shards, output.stat().st_size)
    asked, taken = (sizes[450][i] - sizes[50][i] for i in (0, 1))
    assert taken <= asked <= 1.3 * taken


@pytest.mark.parametrize(("store", "d_bytes"), [("float32", 4 * 12), ("float16", 2 * 12)])
def test_layers_views_and_float16_count(store, d_bytes):
    assert file_need(10, [8, 4], 3, store, 20) == 10 * 3 * (d_bytes + 150 + 20)
    assert shards_need(10, [8, 4], 3) == 10 * 3 * (4 * 12 + 2 * 64)


def samples(paths, **meta):
    """Samples with these paths, and further columns by name."""
    columns = [dict(zip(meta, values, strict=True)) for values in zip(*meta.values(), strict=True)]
    each = zip(paths, columns or [{}] * len(paths), strict=True)
    return Samples.of(Sample(path, path, None, "", extra) for path, extra in each)


def test_the_length_of_paths_is_taken_from_some_of_them():
    assert column_bytes_of(samples([])) == 0
    assert column_bytes_of(samples(["é"] * 5)) == 2
    assert column_bytes_of(samples(["a" * (10 + i % 2) for i in range(5000)])) == 11


def test_columns_of_a_table_count_by_what_they_hold(calls, photos, tmp_path):
    """As in the test above, the rows alone: with a long text and a number for each image."""
    sizes = {}
    for n in (50, 450):
        root = photos(n, folder=f"photos{n}")
        names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
        lines = [f"{name},{i / 7},{'where it was taken ' * 9}{i}" for i, name in enumerate(names)]
        table = tmp_path / f"{n}.csv"
        table.write_text("\n".join(["path,weight,place", *lines]))
        found = find_images(table, root=root)
        (plan,) = dry_run(found, output=tmp_path / f"{n}.h5", reporter=Silent(), **STATED)
        run(found, output=tmp_path / f"{n}.h5", reporter=Silent(), **STATED)
        taken = (tmp_path / f"{n}.h5").stat().st_size
        sizes[n] = (plan.disk_bytes - shards_need(n, [4], 1), taken)
    asked, taken = (sizes[450][i] - sizes[50][i] for i in (0, 1))
    assert taken > 400 * 170
    assert taken <= asked <= 1.3 * taken


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(
    calls, photos, tmp_path, monkeypatch
):
    """The lock may be there from earlier, when it could be."""
    real = os.open

    def read_only(path, *args, **options):
        if str(path).endswith(".tmp"):
            raise OSError(errno.EACCES, "Permission denied")
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(CacheError, match=r"no permission to write .*x\.h5"):
        extract(photos(4), tmp_path / "x.h5")
    assert calls.started == 0


def test_parts_that_cannot_be_removed_are_told_and_the_file_is_whole(
    calls, photos, tmp_path, monkeypatch
):
    from bottleneck_probe.cache import sealed

    def stays(folder, fingerprints):
        raise CacheError(f"{folder} could not be written: EIO in unlink")

    reporter = Silent()
    root = photos(4)
    with monkeypatch.context() as patch:
        patch.setattr(sealed, "discard_all", stays)
        found = find_images(root)
        result = run(found, output=tmp_path / "x.h5", reporter=reporter, **STATED)
    assert result.computed == 4
    assert any("is complete" in each and "EIO in unlink" in each for each in reporter.warnings)
    assert (tmp_path / "x.h5.parts").exists()
    assert extract(root, tmp_path / "x.h5").reused == 4
    assert not (tmp_path / "x.h5.parts").exists()


def test_orphans_of_a_killed_run_go_though_the_next_one_writes_nothing(calls, photos, tmp_path):
    from bottleneck_probe.cache import orphans
    from bottleneck_probe.cache.shards import Shards

    root, output = photos(4), tmp_path / "x.h5"
    extract(root, output)
    foreign = Shards(tmp_path / "x.h5.parts", "ab" * 32)  # the folder stays for its sake
    foreign.append(np.zeros((1, 32), np.uint8), np.zeros((1, 4), np.float32))
    kept = foreign.seal()
    for target in (output, tmp_path / "x.h5.parts" / "shard.h5"):
        target.parent.mkdir(exist_ok=True)
        _, descriptor = orphans.create(target)
        os.close(descriptor)
    assert not extract(root, output).written
    assert list(tmp_path.glob(".*")) == [tmp_path / ".x.h5.lock"]
    assert list((tmp_path / "x.h5.parts").iterdir()) == [kept]


def test_the_json_reply_says_what_was_resumed(calls, photos, tmp_path):
    root = photos(8)

    def interrupt(seen):
        if seen.forwards == 2:
            raise KeyboardInterrupt

    calls.on_call = interrupt
    with pytest.raises(KeyboardInterrupt):
        extract(root, tmp_path / "x.h5")
    calls.on_call = None
    reply = extract(root, tmp_path / "x.h5").to_json()
    assert (reply["resumed"], reply["computed"], reply["reused"]) == (4, 4, 4)


def test_without_a_lock_a_file_that_appears_meanwhile_is_not_replaced(calls, photos, tmp_path):
    """Two writers on a disk without locks lose work at worst, never rows."""
    root, output = photos(6), tmp_path / "x.h5"
    other = photos(2, first=50, folder="others")
    extract(other, tmp_path / "other.h5")

    def appears(seen):
        if not output.exists():
            shutil.copy(tmp_path / "other.h5", output)

    calls.on_call = appears
    with pytest.raises(CacheError, match="made by another run while this one worked"):
        extract(root, output)
    assert output.read_bytes() == (tmp_path / "other.h5").read_bytes()
    calls.on_call = None
    output.unlink()
    assert extract(root, output).resumed == 6
