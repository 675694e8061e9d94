"""Whether so many inputs are unusable that something else must be wrong."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..images.sample import ImageSet, Sample
from .options import RunOptions
from .pipeline import Outcome

# A tenth may be bad before a whole run is doubted, but ten files always may.
BAD_SHARE = 0.1
BAD_COUNT = 10


class TooManyBadError(InputError):
    """More inputs are unusable than a run may pass over; carries the counts for ``--json``."""

    def __init__(self, what: str, *, counts: dict[str, int], **parts: str) -> None:
        super().__init__(what, **parts)
        self.counts = counts


def require_whole(images: ImageSet, counts: dict[str, int] | None = None) -> None:
    """Raise where tars end too early, so that nobody knows what is missing.

    Parameters
    ----------
    images : ImageSet
    counts : dict of str to int, optional
        What was made of the images before the end; None if nothing was tried.

    Raises
    ------
    TooManyBadError
    """
    if images.broken:
        kept = "" if counts is None else "; what was computed is kept"
        more = f" and {len(images.broken) - 3} more" if len(images.broken) > 3 else ""
        raise TooManyBadError(
            f"{len(images.broken)} tars end too early: {'; '.join(images.broken[:3])}{more}"
            if len(images.broken) > 1
            else f"a tar ends too early: {images.broken[0]}",
            expected="whole tars, with their end mark",
            where=images.root,
            next=f"get the tar again, or give --allow-bad to publish what precedes{kept}",
            counts=counts or {"seen": len(images.samples)},
        )


def stop_at_first(sample: Sample, reason: str, counts: dict[str, int]) -> None:
    """Raise a TooManyBadError that names the sample (``--strict``), with the counts known so far."""
    raise TooManyBadError(
        f"{sample.path}: {reason}",
        where="--strict",
        next="mend or remove the file, or leave --strict away to quarantine it",
        counts=counts,
    )


def judge(
    outcome: Outcome, images: ImageSet, options: RunOptions, output: Path | None = None
) -> None:
    """Pass, or refuse to go on with the images that are left.

    Parameters
    ----------
    outcome : Outcome
    images : ImageSet
    options : RunOptions
        `allow_bad` and `allow_bad_rate`.
    output : pathlib.Path, optional
        For the message.

    Raises
    ------
    TooManyBadError
        If no image can be used; or more than are allowed, by default 10 % and 10 images.
    """
    bad, seen = len(outcome.reasons), len(images.samples)
    counts = {
        "seen": seen,
        "computed": outcome.computed,
        "reused": outcome.reused,
        "quarantined": bad,
        "ignored": images.ignored,
    }
    examples = "; ".join(
        f"{images.samples[i].path}: {reason}" for i, reason in list(outcome.reasons.items())[:3]
    )
    if bad == seen:
        raise TooManyBadError(
            f"none of the {seen} images can be used: {examples}",
            expected="at least one image that can be decoded",
            where=images.root,
            next="check the folder; a table may need --root",
            counts=counts,
        )
    if options.allow_bad:
        return
    require_whole(images, counts)
    limit = options.allow_bad_rate
    if limit is not None and bad / seen > limit:
        raise TooManyBadError(
            f"{bad} of {seen} images cannot be used: {examples}",
            expected=f"at most {limit:.1%}",
            where="--allow-bad-rate",
            next="mend the files, or raise the rate; what was computed is kept",
            counts=counts,
        )
    if limit is None and bad > BAD_COUNT and bad > BAD_SHARE * seen:
        missing = all(reason == "no such file" for reason in outcome.reasons.values())
        hint = "wrong --root? otherwise " if missing else ""
        raise TooManyBadError(
            f"{bad} of {seen} images cannot be used: {examples}",
            expected=f"at most {BAD_SHARE:.0%}, or {BAD_COUNT} images",
            where=str(output or images.root),
            next=f"{hint}give --allow-bad to publish the others; what was computed is kept",
            counts=counts,
        )
