"""After a run that ended without a word: the images it was at, each tried alone, and the guilty ones out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .. import paths
from ..images.decode import BadImage
from ..images.limits import Limits
from ..images.payload import fetch, key_of
from ..images.sample import ImageSet, Samples
from ..images.trial import Trial
from ..reporter import Reporter
from ..texts import find_texts
from . import conditions
from .journal import Journal, Verdict, journal_path
from .options import RunOptions
from .remember import decoders


@contextmanager
def guarded(
    images: ImageSet, outputs: Sequence[Path], options: RunOptions, reporter: Reporter
) -> Iterator[None]:
    """Let a run decode within its limits, with a journal beside its outputs; look at the last one first.

    Parameters
    ----------
    images : ImageSet
    outputs : sequence of pathlib.Path
        Locked by this run. The journal is kept beside the first.
    options : RunOptions
        Its limits, and `retry`.
    reporter : Reporter
    """
    with ExitStack() as stack:
        journals = [stack.enter_context(Journal(journal_path(output))) for output in outputs]
        ours = journals[0]
        for journal in journals:
            if journal.fault:
                reporter.warn(
                    f"{journal.fault}: no note is kept of which images are being decoded, by which "
                    "a run after a crash would find the guilty one; remove it"
                )
        for other in journals[1:]:  # of runs over fewer outputs
            ours.suspects += other.suspects
            ours.verdicts |= other.verdicts
        crashed = after_a_crash(images, ours, options.limits, reporter, retry=options.retry)
        for other in journals[1:]:
            other.suspects, other.verdicts = [], dict(ours.verdicts) if other.verdicts else {}
        with conditions.under(options.limits, ours, crashed):
            yield


def after_a_crash(
    images: ImageSet, journal: Journal, limits: Limits, reporter: Reporter, *, retry: bool = False
) -> dict[bytes, str]:
    """Which images must not be decoded in this process, by key, and why.

    A run may have been killed by anybody; only what ends a process of its own is held against an
    image.

    Parameters
    ----------
    images : ImageSet
    journal : Journal
        Its suspects are tried, and those that crash are kept in its verdicts.
    limits : Limits
    reporter : Reporter
        Hears what came of it.
    retry : bool, default False
        Try those again that crashed before.

    Returns
    -------
    dict of bytes to str
        Empty after a run that ended in order.
    """
    here = decoders()
    again = {
        verdict.key: verdict.path
        for verdict in journal.verdicts.values()
        if retry or dict(verdict.decoders) != here
    }
    if not journal.suspects and not again:
        return _crashed(journal)
    columns = images.columns
    names = sorted({*journal.suspects, *again.values()}, key=paths.order)
    slow: dict[bytes, str] = {}
    tried, found = 0, list[str]()
    try:
        with Trial(limits) as trial:
            for i in (int(i) for i in find_texts(names, columns.paths) if i >= 0):
                read = _content_of(columns, i, limits)
                if read is None:
                    continue
                key, content = read
                if key.hex() in journal.verdicts and key.hex() not in again:
                    continue
                tried += 1
                reason = trial.reason(content)
                journal.verdicts.pop(key.hex(), None)
                if reason is None:
                    continue
                found.append(f"{columns.paths[i]}: {reason}")
                if reason.startswith("decoding took"):
                    slow[key] = reason  # depends on the machine: the next run tries it again
                else:
                    verdict = Verdict(key.hex(), columns.paths[i], reason, here)
                    journal.verdicts[key.hex()] = verdict
    except OSError as error:
        reporter.warn(f"images of a run that did not end cannot be tried alone: {error}")
    if tried:
        _tell(tried, found, reporter)
    journal.cleared()
    return {**slow, **_crashed(journal)}


def known_crashes(outputs: Sequence[Path]) -> dict[bytes, str]:
    """What earlier runs into these outputs found out; changes nothing, for ``--dry-run``."""
    found: dict[bytes, str] = {}
    for output in outputs:
        found |= _crashed(Journal(journal_path(output)))
    return found


def _crashed(journal: Journal) -> dict[bytes, str]:
    return {bytes.fromhex(key): verdict.reason for key, verdict in journal.verdicts.items()}


def _content_of(columns: Samples, i: int, limits: Limits) -> tuple[bytes, bytes] | None:
    """Key and bytes of an image; None for what cannot be read, or is no encoded file."""
    sample = columns[i]
    try:
        if sample.fault:
            return None
        content = fetch(sample.source, limits).content
    except BadImage:  # the run gives the reason
        return None
    return (key_of(content), content) if isinstance(content, bytes) else None


def _tell(tried: int, found: list[str], reporter: Reporter) -> None:
    what = (
        "1 image that an earlier run did not get past was tried"
        if tried == 1
        else f"{tried} images that an earlier run did not get past were tried"
    )
    if found:
        reporter.warn(
            f"{what} in a process of their own, and {len(found)} cannot be decoded (--retry tries "
            f"again): {'; '.join(found[:5])}"
        )
    else:
        reporter.note(
            f"{what} in a process of their own: nothing is wrong with them (if memory ran out, "
            "give fewer --workers)"
        )
