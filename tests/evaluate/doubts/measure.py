"""Prints the tables of docs/wrong-labels.md and docs/i-dont-know.md. A script, not a test.

    python tests/evaluate/doubts/measure.py ants-bees.h5 textiles.h5 digits.h5

Three feature files of ``bottleneck extract``: ants and bees; the 2,000 photographs of ``bottleneck demo
--images 2000``; scikit-learn's digits, enlarged to 224 pixels with Pillow's bicubic filter.
"""

import sys

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe.evaluate.doubts.novelty import fit_novelty


def flips(name, features, seeds=3):
    """A tenth of the labels flipped: how many of the suspects were, how many of the flipped are found."""
    labels = np.array(features.labels, object)
    classes = sorted(set(labels))
    paths = [str(path) for path in features.paths]
    place = {path: i for i, path in enumerate(paths)}
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        flipped = rng.choice(len(labels), len(labels) // 10, replace=False)
        given = labels.copy()
        for i in flipped:
            given[i] = rng.choice([c for c in classes if c != labels[i]])
        found = bp.suspects(bp.Features.from_arrays(features.features[:], given, paths), quiet=True)
        rows = [row for row in found.rows if row["kind"] == "label"]
        hits = [row for row in rows if place[row["path"]] in set(flipped.tolist())]
        right = sum(row["suggested"] == labels[place[row["path"]]] for row in hits)
        print(
            f"{name}: {len(flipped)} of {len(labels)} flipped; of the suspects {len(hits) / len(rows):.0%} "
            f"were, {len(hits) / len(flipped):.0%} found, {right / len(hits):.0%} suggested rightly",
            flush=True,
        )


def unlike(name, training, ordinary, others):
    """Which share of each is above the threshold."""
    novelty, _ = fit_novelty(training, np.arange(len(training)))
    shares = [float(np.mean(novelty.score(X) > novelty.threshold)) for X in (ordinary, others)]
    print(f"{name}: {shares[0]:.1%} of ordinary ones, {shares[1]:.1%} of the others", flush=True)
    return shares


def main(ants_bees, textiles, digits):
    """All of it; a few minutes."""
    ab, cloth, ten = bp.open(ants_bees), bp.open(textiles), bp.open(digits)
    rng = np.random.default_rng(0)
    A, C, D = ab.features[:], cloth.features[:], ten.features[:]
    train = np.array([split == "train" for split in ab.splits])
    unlike("ants and bees, cloth", A[train], A[~train], C)
    unlike("ants and bees, digits", A[train], A[~train], D)
    half = rng.permutation(len(C))
    unlike("cloth, ants and bees", C[half[:1000]], C[half[1000:]], A)
    for X, features, each in ((C, cloth, True), (D, ten, False)):
        shares = []
        for c, label in enumerate(features.classes):
            known = rng.permutation(np.flatnonzero(features.y != c))
            middle = len(known) // 2
            left_out = X[features.y == c]
            name = f"without {label}, {label}"
            shares.append(unlike(name, X[known[:middle]], X[known[middle:]], left_out))
        if not each:
            print(f"all of these: {np.mean(shares, axis=0)}")
    flips("ants and bees", ab)
    flips(
        "cloth, global against none",
        cloth.subset(np.flatnonzero(np.array(cloth.labels) != "local_defect")),
    )
    flips("digits", ten)
    flips("cloth", cloth)


if __name__ == "__main__":
    main(*sys.argv[1:4])
