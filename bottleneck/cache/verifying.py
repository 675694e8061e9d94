"""Is a cache what was written? A feature file, a directory of them or a probe in, a `Report` out.

Nothing is changed. Where everything is in order the file is read once, at the disk's speed, in this
process. At the first fault that `open` finds, `examining` goes through what is left in another one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import BottleneckError, CacheError
from ..remote.urls import as_path, is_url
from ..reporter import Reporter, Silent
from . import features as feature_files
from .checks import is_hdf5, opened, try_out
from .elsewhere import here
from .examination import digests_of
from .examining import examine
from .lazy import WINDOW_ROWS
from .leftovers import leftovers
from .locate import SUFFIXES, locate, missing
from .problems import problems_of, problems_of_examination, row_problems
from .report import Problem, Report
from .scanning import Scan, scan

if TYPE_CHECKING:
    from collections.abc import Iterator

    import h5py

    from .features import Features

_MEGABYTE = 1_000_000
_DATASETS = (
    *("features", "keys", "paths", "labels", "splits", "classes"),
    *("view", "phash", "targets"),
)
_GROUPS = ("layers/", "meta/", "quarantine/", "stat/")


def verify(
    path: str | os.PathLike[str],
    *,
    images: bool = False,
    root: str | os.PathLike[str] | None = None,
    recompute: int = 0,
    seed: int = 0,
    closely: bool = True,
    reporter: Reporter | None = None,
) -> Report:
    """Check a feature file, a directory of features, or a probe; nothing is changed.

    Parameters
    ----------
    path : str or path-like
        ``FILE.h5``, a directory with ``manifest.json``, or a probe.
    images : bool, default False
        Also read every image again and compare its key: which changed, are missing, are new.
    root : path, optional
        Where the images are now; by default where they were.
    recompute : int, default 0
        Also compute so many rows again, picked at random, and compare the features.
    seed : int, default 0
        Of the choice of these rows.
    closely : bool, default True
        Go on after the first problem of a file that does not open, in another process, and list all
        that is damaged; without it the first one is all.
    reporter : Reporter, optional
        Gets notes and progress.

    Returns
    -------
    Report
        `Report.ok` says whether everything is in order, `Report.problems` what is not.

    Raises
    ------
    CacheError
        If there is nothing at `path`.
    InputError
        If `images` or `recompute` is asked of what was not made from image files.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> own = feature_files.Features.from_arrays(np.eye(3), labels=["ant", "bee", "ant"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     report = verify(own.save(f"{folder}/own.h5"))
    >>> report.ok, report.rows
    (True, 3)
    """
    began = time.perf_counter()
    reporter = reporter or Silent()
    path = as_path(os.fspath(path))
    if is_url(path):
        path = here(path)
    file, _ = locate(path)
    report = Report(file)
    features: Features | None = None
    if not os.path.exists(file):
        _look_at_parts(file, None, report)
        if report.parts is None:
            raise missing(file)
        report.kind = "parts"
        report.problems.append(Problem("structure", str(missing(file).what)))
    elif file.is_dir():
        report.kind = "directory"
        features = _verify_directory(file, report, reporter, closely=closely)
        _look_at_parts(file, features, report)
    elif is_hdf5(file) or file.suffix.lower() in SUFFIXES:
        features = _verify_file(file, report, reporter, closely=closely)
        _look_at_parts(file, features, report)
    else:
        report.kind = "probe"
        _verify_probe(file, report)
    report.seconds = time.perf_counter() - began
    if images or recompute:
        _against_images(features, report, images, root, recompute, seed, reporter)
    return report


def _verify_file(
    file: Path, report: Report, reporter: Reporter, *, closely: bool
) -> Features | None:
    """Check one file; its features if it could be opened."""
    try:
        try_out(file)
        features = feature_files.opened(file)
    except CacheError as error:
        if closely and file.is_file():
            _go_on_after(error, file, report, reporter)
        else:
            report.problems.append(Problem("structure", _plain(error, file)))
        return None
    report.rows, report.feature_size = (int(side) for side in features.features.shape)
    report.problems += row_problems(features.rows)
    try:
        scans, bare, report.n_bytes = _scan_rest(file, reporter)
    except CacheError as error:  # replaced or damaged this very moment
        report.problems.append(Problem("structure", _plain(error, file)))
        return features
    for found in scans:
        report.n_bytes += found.n_bytes
        report.problems += problems_of(found)
    report.vouched = not any(_is_ours(name) for name in bare)
    if report.vouched and bare:
        report.foreign = bare
        report.notes.append(
            f"no checksums for {', '.join(bare)}: another program added that, and this one does not read it"
        )
    if not report.vouched:
        report.notes.append(
            "the file has no checksums: a value that changed cannot be told from one that was written"
        )
    return features


def _is_ours(name: str) -> bool:
    """Whether a dataset is one that the format knows, so that somebody reads it."""
    return name in _DATASETS or name.startswith(_GROUPS)


def _scan_rest(file: Path, reporter: Reporter) -> tuple[list[Scan], list[str], int]:
    """What `open` has not compared of a file; the datasets without digests; bytes of the others."""
    found: list[Scan] = []
    with opened(file) as h5:
        names = _all_datasets(h5)
        sizes = {name: h5[name].id.get_storage_size() for name in names}
        # Columns are compared when a file is opened, features and the index of files when they are used.
        left = [name for name in names if name.startswith(("features", "layers/", "stat/"))]
        bare = [name for name in names if digests_of(h5, name)[0] is None]
        with _megabytes(reporter, file, sum(sizes[name] for name in left)) as tell:
            for name in left:
                digests, block_rows, _ = digests_of(h5, name)
                finite = not name.startswith("stat/")
                found.append(scan(h5, name, file, digests, block_rows, finite=finite, tell=tell))
    return found, bare, sum(sizes.values()) - sum(sizes[name] for name in left)


def _all_datasets(h5: h5py.File) -> list[str]:
    import h5py

    found: list[str] = []

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("checksums/"):
            found.append(name)

    h5.visititems(collect)
    return found


@contextmanager
def _megabytes(reporter: Reporter, file: Path, total: int) -> Iterator[Callable[[int], None]]:
    """A bar in megabytes that is told bytes."""
    done = 0
    with reporter.progress(f"verify {file.name} (MB)", total // _MEGABYTE) as bar:

        def tell(n: int) -> None:
            nonlocal done
            bar.advance((done + n) // _MEGABYTE - done // _MEGABYTE)
            done += n

        yield tell


def _go_on_after(error: CacheError, file: Path, report: Report, reporter: Reporter) -> None:
    """List what else is wrong with a file that does not open."""
    with _megabytes(reporter, file, os.stat(file).st_size) as tell:
        found = examine(file, tell)
    listed = problems_of_examination(found)
    first = Problem("structure", _plain(error, file))
    # What `open` stopped at is among them where it is about the values of a dataset.
    named = error.where.rpartition(", ")[2]
    if not any(named == problem.dataset for problem in listed):
        listed.insert(0, first)
    report.problems += listed
    report.vouched = found.vouched
    features = found.scans.get("features")
    if features is not None:
        report.rows = features.rows
        report.n_bytes = sum(each.n_bytes for each in found.scans.values())
    whole = [name for name, each in found.scans.items() if not each.fault and not each.bad]
    report.notes.append(
        f"{len(whole)} of {len(found.scans)} datasets are as they were written; "
        f"`bottleneck cache repair {file} -o NEW.h5` saves the rows that are whole"
    )


def _look_at_parts(file: Path, features: Features | None, report: Report) -> None:
    """What the next run would take from the parts folder."""
    left = leftovers(file.with_name(file.name + ".parts"))
    if left is None:
        return
    fingerprints: set[str] = set()
    if features is not None:
        fingerprints = {features.output(name).fingerprint for name in features.outputs}
    keys = None if features is None else features.keys
    report.parts = left.summary(fingerprints, keys)


def _verify_probe(file: Path, report: Report) -> None:
    from .. import probe, probe_format

    report.n_bytes = os.stat(file).st_size
    try:
        kept = probe.load(file)
        version = int(probe_format.read(file)[0]["format_version"])
    except BottleneckError as error:
        report.problems.append(Problem("probe", _plain(error, file)))
        return
    report.feature_size = int(kept.n_features)
    if version < 3:
        report.vouched = False
        report.notes.append(
            f"a probe of format version {version} has no digest: a number in it that changed cannot be "
            "told from one that was written; saved again by this version it gets one"
        )


def _verify_directory(
    folder: Path, report: Report, reporter: Reporter, *, closely: bool
) -> Features | None:
    """Check the manifest and every file that it lists; a damaged shard is then looked at closely."""
    from .directory.checking import check
    from .directory.manifest import NAME
    from .storage import LocalStorage

    storage = LocalStorage(folder)
    total = sum(os.stat(folder / name).st_size for name in storage.list())
    with _megabytes(reporter, folder, total) as tell:
        found = check(storage, tell)
    for name, fault in found.faults:
        report.problems.append(Problem(name, fault))
        shard = folder / name
        if name.endswith(".h5") and shard.is_file():
            part = Report(shard)
            _verify_file(shard, part, reporter, closely=closely)
            for each in part.problems:
                where = f"{name}, {each.dataset}"
                report.problems.append(Problem(where, each.what, each.rows, each.path))
    if found.manifest is not None:
        report.rows = found.manifest.rows
        report.n_bytes = sum(part.bytes for part in found.manifest.parts())
    if found.strays:
        report.notes.append(
            f"{len(found.strays)} files that the manifest does not list: nobody reads them, and the next "
            "run removes them"
        )
    if report.problems:
        # Of a folder without any shard there is nothing to save.
        if any(NAME.fullmatch(name) and name.endswith(".h5") for name in storage.list()):
            report.notes.append(
                f"`bottleneck cache repair {folder}{os.sep} -o NEW/` saves the rows that are whole"
            )
        return None
    try:
        features = feature_files.opened(folder)
        for array in (features.features, *features.layers.values()):
            for start in range(0, len(array), WINDOW_ROWS):
                array[start : start + WINDOW_ROWS]  # raises where a shard was written with NaN
    except CacheError as error:
        report.problems.append(Problem("structure", _plain(error, folder)))
        return None
    report.rows, report.feature_size = (int(side) for side in features.features.shape)
    report.problems += row_problems(features.rows)
    return features


def _against_images(
    features: Features | None,
    report: Report,
    images: bool,
    root: str | os.PathLike[str] | None,
    recompute: int,
    seed: int,
    reporter: Reporter,
) -> None:
    from ..extraction import rechecking

    if features is None:
        report.notes.append("its images were not looked at, because it could not be opened")
        return
    if images:
        report.images, problems = rechecking.compare_keys(features, root, reporter)
        report.problems += problems
    if recompute:
        report.recomputed, problems, notes = rechecking.compare_features(
            features, recompute, seed, root, reporter
        )
        report.problems += problems
        report.notes += notes


def _plain(error: BottleneckError, file: Path) -> str:
    """The first part of an error, without the file's name in front."""
    return error.what.removeprefix(f"{file}: ").removeprefix(f"{file} ")
