"""Near copies: the same picture saved again. Perceptual hashes and features in, sets of images out.

Hashes find them, features confirm. A cosine alone joins 1,968 of 2,000 photographs of textiles at 0.98,
and misses copies: of 122 photographs saved again as JPEG of quality 75 (efficientnet_lite0), 3 % reach
0.995, the threshold of the literature. Standardised, so that what all images share counts for nothing,
their cosine is 0.65 at least, and 0.93 in the median; of pairs that are no copies, 0.4 % of the textiles
reach 0.5, none of them with hashes within 6 bits. Of copies at half the size, four in five
are found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BITS = 4  # that hashes may differ in, of 64
# Of features as they are, or of features less their mean and over their standard deviation: either.
COSINE, STANDARDISED = 0.995, 0.5
# A set of more images than both is a look that many images share, and no picture.
MOST_SHARE, MOST_IMAGES = 0.01, 10
# Of five parts of a hash, four changed bits leave one as it is (Norouzi et al., CVPR 2012).
_PARTS = 5
# Pairs that are looked at: of images that differ so little in their hashes that they give more, no
# hash can say which are copies.
MOST_PAIRS = 1_000_000
_MOST_LOOKED = 2_000_000_000  # pairs with a part of the hash in common: 10 to 20 s
_BLOCK = 4096  # pairs whose features are compared at a time: 42 MB of 1,280 numbers


@dataclass(frozen=True)
class NearCopies:
    """What was found.

    Attributes
    ----------
    sets : ndarray of shape (m,), intp
        Equal numbers: one picture. Ordered by the first image of each set.
    looks : list of ndarray of intp
        Images that are alike in both ways and too many to be copies; they keep numbers of their own.
    complete : bool
        False where too many hashes are alike to compare them all.
    """

    sets: np.ndarray
    looks: list[np.ndarray]
    complete: bool


def near_copies(
    X: np.ndarray,
    phash: np.ndarray,
    *,
    bits: int = BITS,
    cosine: float = COSINE,
    standardised: float = STANDARDISED,
) -> NearCopies:
    """Find images whose hashes differ in few bits, and whose features point the same way.

    Parameters
    ----------
    X : ndarray of shape (m, d)
        Features, a row for each image. Read only where hashes are alike.
    phash : ndarray of shape (m,), uint64
        See `images.phash`; 0, of an image of one colour, is like no other.
    bits : int, default 4
        Of `BITS`, at the most: the search is made for four.
    cosine, standardised : float, default 0.995 and 0.5
        Of the features as they are, or standardised over all images: one of them must be reached.

    Returns
    -------
    NearCopies
        Sets are connected: a chain of copies is one picture, its ends may differ more.

    References
    ----------
    M. Norouzi, A. Punjani, D. J. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing",
    CVPR 2012.

    Examples
    --------
    >>> X = np.array([[1.0, 0.0], [0.999, 0.01], [0.0, 1.0]])
    >>> near_copies(X, np.array([7, 5, 7], np.uint64)).sets.tolist()
    [0, 0, 1]
    """
    pairs, complete = alike(phash, bits)
    same = np.zeros(len(pairs), bool)
    if len(pairs):
        center, spread = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
        spread[spread == 0] = 1
    for start in range(0, len(pairs), _BLOCK):
        a, b = (X[rows].astype(np.float64) for rows in pairs[start : start + _BLOCK].T)
        here = _cosines(a, b) >= cosine
        here |= _cosines((a - center) / spread, (b - center) / spread) >= standardised
        same[start : start + _BLOCK] = here
    sets = connected(len(phash), pairs[same])
    sizes = np.bincount(sets, minlength=1)
    limit = max(MOST_IMAGES, MOST_SHARE * len(phash))
    looks = [np.flatnonzero(sets == number) for number in np.flatnonzero(sizes > limit)]
    if looks:
        same &= ~np.isin(pairs[:, 0], np.concatenate(looks))
        sets = connected(len(phash), pairs[same])
    return NearCopies(sets, looks, complete)


def alike(phash: np.ndarray, bits: int = BITS) -> tuple[np.ndarray, bool]:
    """Pairs of images whose hashes differ in few bits.

    Parameters
    ----------
    phash : ndarray of shape (m,), uint64
    bits : int, default 4

    Returns
    -------
    pairs : ndarray of shape (p, 2), intp
        Each once, the smaller index first.
    complete : bool
        Whether these are all; at the most `MOST_PAIRS`.
    """
    told = np.flatnonzero(phash)  # not those of one colour
    order = told[np.argsort(phash[told], kind="stable")]
    hashes, first, counts = np.unique(phash[order], return_index=True, return_counts=True)
    close, all_close = _near(hashes, bits, MOST_PAIRS)
    # Hashes that images share, and pairs of hashes: every image of one against every one of the other.
    shared = np.flatnonzero(counts > 1)
    links = np.concatenate([np.stack([shared, shared], axis=1), close]).astype(np.intp)
    n_pairs = np.where(
        links[:, 0] == links[:, 1],
        counts[links[:, 0]] * (counts[links[:, 0]] - 1) // 2,
        counts[links].prod(axis=1),
    )
    # The smallest first: one hash of ten thousand images must not hide all other copies.
    cheap = np.argsort(n_pairs, kind="stable")
    taken = cheap[np.cumsum(n_pairs[cheap]) <= MOST_PAIRS]
    single = taken[n_pairs[taken] == 1]
    found = [order[first[links[single]] + [0, 1] * (links[single, :1] == links[single, 1:])]]
    for a, b in links[taken[n_pairs[taken] > 1]].tolist():
        left = order[first[a] : first[a] + counts[a]]
        right = order[first[b] : first[b] + counts[b]]
        if a == b:
            found.append(left[np.stack(np.triu_indices(len(left), 1), axis=1)])
        else:
            found.append(np.stack([np.repeat(left, len(right)), np.tile(right, len(left))], axis=1))
    pairs = np.sort(np.concatenate(found), axis=1).astype(np.intp)
    return pairs, all_close and len(taken) == len(links)


def _near(hashes: np.ndarray, bits: int, most: int) -> tuple[np.ndarray, bool]:
    """Pairs of different hashes within `bits`, (p, 2), and whether there were no more than `most`."""
    found: list[np.ndarray] = []
    total = looked = 0
    for part in range(_PARTS):
        # Every fifth bit, so that no part is made of the weak frequencies alone.
        mask = np.uint64(sum(1 << bit for bit in range(part, 64, _PARTS)))
        parts = hashes & mask
        order = np.argsort(parts, kind="stable")
        parts, ordered = parts[order], hashes[order]
        # Places whose part equals that of the one so many further on; fewer with each step.
        place = np.arange(len(order) - 1)
        step = 1
        while len(place := place[parts[place] == parts[place + step]]):
            looked += len(place)
            if total > most or looked > _MOST_LOOKED:
                return _distinct(found), False
            close = place[np.bitwise_count(ordered[place] ^ ordered[place + step]) <= bits]
            found.append(np.stack([order[close], order[close + step]], axis=1))
            total += len(close)
            step += 1
            place = place[place + step < len(order)]
    return _distinct(found), True


def _distinct(found: list[np.ndarray]) -> np.ndarray:
    """Each pair once, the smaller first: two hashes may have several parts in common."""
    if not found:
        return np.empty((0, 2), np.intp)
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0) if len(pairs) else pairs


def _cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row with its counterpart, (p,) float64; 0 where one is all zeros."""
    size = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    inner = np.einsum("ij,ij->i", a, b)
    cosines: np.ndarray = np.divide(inner, size, out=np.zeros_like(inner), where=size > 0)
    return cosines


def connected(n: int, pairs: np.ndarray) -> np.ndarray:
    """Number the sets that pairs connect: (n,) intp.

    Parameters
    ----------
    n : int
    pairs : ndarray of shape (p, 2), int

    Examples
    --------
    >>> connected(4, np.array([[0, 2], [2, 3]])).tolist()
    [0, 1, 0, 0]
    """
    links = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    numbers: np.ndarray = connected_components(links, directed=False)[1]
    return numbers.astype(np.intp)
