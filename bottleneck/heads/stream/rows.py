"""Rows of an array that is read in slices: who is held out, moments, mini-batches. Never all at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# Feature files are ordered by path, and so by class: long runs would train on a few classes at a time.
RUN = 64  # rows read at once, 160 KB of float16 at d = 1,280
MIX = 128  # runs from all over the file whose rows are mixed before they become batches
LOOK = 16_384  # held-out rows at most; they stay in memory as they are stored
PASS = 4096  # rows of a read where the order does not matter


class Sliceable(Protocol):
    """What is needed of features: an ndarray, an h5py dataset, or `Features.features` has it.

    Where it has a method ``runs(starts, length)``, that reads many runs at once: `Features.features` opens
    its file for each read.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and columns."""

    def __getitem__(self, rows: Any, /) -> Any:
        """A slice of rows as array."""


@dataclass(frozen=True)
class Moments:
    """Means and standard deviations of the training rows, and the held-out rows themselves.

    Attributes
    ----------
    mean, spread : ndarray of shape (d,), float64
    look : ndarray of shape (m, d), as stored
    places : ndarray of shape (m,), intp
        Where in the file these rows are, ascending.
    """

    mean: np.ndarray
    spread: np.ndarray
    look: np.ndarray
    places: np.ndarray


def hold_out(
    codes: np.ndarray, share: float, rng: np.random.Generator, groups: np.ndarray | None = None
) -> np.ndarray:
    """Rows to choose and stop by: the same share of each class, never all of one.

    Parameters
    ----------
    codes : ndarray of shape (n,), int
        Class of each row, -1 for rows that take no part.
    share : float
        Of each class; `LOOK` rows in all at most.
    rng : numpy Generator
    groups : ndarray of shape (n,), int, optional
        Rows with equal numbers are on the same side: copies, tiles of one image, one patient.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    mixed = rng.permutation(np.flatnonzero(codes >= 0))
    share = min(share, LOOK / len(mixed))
    if groups is not None:  # one row stands for its group
        mixed = mixed[np.sort(np.unique(groups[mixed], return_index=True)[1])]
    by_class = mixed[np.argsort(codes[mixed], kind="stable")]
    counts = np.bincount(codes[mixed], minlength=int(codes.max()) + 1)
    quota = np.floor(share * counts).astype(int)
    if not quota.any():
        quota = (counts > 1).astype(int)
    rank = np.arange(len(mixed)) - np.repeat(np.cumsum(counts) - counts, counts)
    held = np.zeros(len(codes), bool)
    held[by_class[rank < np.repeat(quota, counts)]] = True
    return held if groups is None else _with_groups(held, codes, groups)


def _with_groups(held: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """All rows of the groups that are held out, less those that a class cannot train without."""
    used = codes >= 0
    whole = np.isin(groups, groups[held]) & used
    lost = np.setdiff1d(codes[used], codes[used & ~whole])
    return whole & ~np.isin(groups, groups[np.isin(codes, lost)])


class RowStream:
    """The rows that train, in batches, and what one pass over them shows.

    Parameters
    ----------
    X : sliceable of shape (n, d)
    codes : ndarray of shape (n,), int
        Class of each row, -1 for rows that take no part.
    held : ndarray of shape (n,), bool
        Rows that are looked at and do not train.
    tick : callable
        Called with the number of rows that were read.
    """

    def __init__(
        self, X: Sliceable, codes: np.ndarray, held: np.ndarray, tick: Callable[[int], None]
    ) -> None:
        self.X, self.codes, self.held, self.tick = X, codes, held, tick

    def _read(self, start: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows as stored, and where in the file they are, of those in a run that take part."""
        stop = min(start + length, len(self.codes))
        taking = self.codes[start:stop] >= 0
        rows = np.asarray(self.X[int(start) : int(stop)])
        return (rows if taking.all() else rows[taking]), start + np.flatnonzero(taking)

    def _read_training(self, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The training rows of several runs, and where they are."""
        n = len(self.codes)
        places = (starts[:, None] + np.arange(RUN)).ravel()
        places = places[places < n]
        wanted = (self.codes[places] >= 0) & ~self.held[places]
        together = getattr(self.X, "runs", None)
        if together is not None:
            rows = np.asarray(together(starts, RUN))
        else:
            runs = [np.asarray(self.X[start : start + RUN]) for start in starts.tolist()]
            rows = np.concatenate(runs)
        return rows[wanted], places[wanted]

    def moments(self) -> Moments:
        """One pass over all rows.

        The moments of reads are merged as in T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a
        Pairwise Algorithm for Computing Sample Variances", 1979.

        Raises
        ------
        ValueError
            If a feature is not finite, with its row.
        """
        d = self.X.shape[1]
        n, mean, squares = 0, np.zeros(d), np.zeros(d)
        looks, found = [], []
        for start in range(0, len(self.codes), PASS):
            stored, places = self._read(start, PASS)
            finite = np.isfinite(stored).all(axis=1)
            if not finite.all():
                bad = places[~finite][0]
                raise ValueError(f"row {bad} of the features holds infinity or NaN")
            held = self.held[places]
            if held.any():
                looks.append(stored[held])
                found.append(places[held])
            rows = stored[~held].astype(np.float32)
            if len(rows):
                own = rows.mean(axis=0, dtype=np.float64)
                rows -= own.astype(np.float32)
                shift, m = own - mean, len(rows)
                squares += np.einsum("nd,nd->d", rows, rows) + shift**2 * (n * m / (n + m))
                mean += shift * (m / (n + m))
                n += m
            self.tick(min(PASS, len(self.codes) - start))
        spread = np.sqrt(squares / max(n, 1))
        look = np.concatenate(looks) if looks else np.empty((0, d), np.float32)
        places = np.concatenate(found) if found else np.empty(0, np.intp)
        return Moments(mean, spread, look, places)

    def batches(
        self, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Mini-batches of one pass: runs in random order, the rows of many of them mixed."""
        runs = rng.permutation(np.arange(0, len(self.codes), RUN))
        for i in range(0, len(runs), MIX):
            starts = np.sort(runs[i : i + MIX])  # upwards, as disks like it
            rows, places = self._read_training(starts)
            codes = self.codes[places]
            mixed = rng.permutation(len(rows))
            for j in range(0, len(rows), size):
                chosen = mixed[j : j + size]
                yield rows[chosen], codes[chosen]
            self.tick(int(np.minimum(RUN, len(self.codes) - starts).sum()))
