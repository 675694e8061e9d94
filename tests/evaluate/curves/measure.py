"""Prints the table of docs/how-many-images.md: how often the forecast holds. A script, not a test.

    python tests/evaluate/curves/measure.py textiles.h5 digits.h5

The truth is the curve of all images of a file; the forecasts are of random parts of 100 and of 300.
"""

import sys

import bottleneck_probe as bp
import numpy as np
from bottleneck_probe.evaluate.curves.curve import default_draws, learning_curve
from bottleneck_probe.evaluate.protocol import make_problem, want

DRAWS = 12


def curve(features, repeats):
    problem = make_problem(
        features.features[:],
        features.y,
        classes=features.classes,
        keys=features.keys,
        repeats=repeats,
    )
    return learning_curve(problem, want("logistic"))


def main(*files):
    """A minute or two to a file."""
    for file in files:
        features = bp.open(file)
        whole = curve(features, 2)
        for n in (100, 300):
            held, errors = {2: 0, 4: 0}, {2: [], 4: []}
            for seed in range(DRAWS):
                rows = np.sort(np.random.default_rng(seed).choice(len(features), n, replace=False))
                found = curve(features.subset(rows), default_draws(n, held_out=False))
                ahead, now = found.forecast, found.sizes[-1]
                for times in (2, 4):
                    ends = np.array([now, times * now], float)
                    truth = np.interp(np.log(ends), np.log(whole.sizes), whole.scores)
                    gain = truth[1] - truth[0]
                    said = float(-np.diff(ahead.law(ends))[0])
                    each = -np.diff(ahead.laws(ends), axis=1)[:, 0]
                    low, high = np.quantile(each, [0.025, 0.975])
                    held[times] += min(low, said) <= gain <= max(high, said)
                    errors[times].append(abs(said - gain))
            told = ", ".join(
                f"{times} times: {held[times]} of {DRAWS} held, "
                f"mean error {100 * np.mean(errors[times]):.1f} points"
                for times in (2, 4)
            )
            print(f"{file}, {n} images: {told}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
