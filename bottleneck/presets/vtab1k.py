"""VTAB-1k's data protocol: choose on 800 / 200, train on the 1,000, score the full test set once.

Source: google-research/task_adaptation, ``task_adaptation/data/*.py`` (``train800``, ``val200``,
``train800val200``, ``test``), ``task_adaptation/data_loader.py``, `preprocess_fn` (images resized to
224 x 224, aspect not kept), ``scripts/run_all_tasks.sh`` (19 tasks). Paper: X. Zhai et al., arXiv:1910.04867.

Copied to the letter:

- settings are compared on 200 images after fits on 800, and the choice is fitted on all 1,000;
- one and the same sweep for every task, nothing task-dependent; top-1 on the full test set;
- a column of the table is the mean over 19 tasks: run once for each, average the numbers.

VTAB leaves open how a representation is used ("frozen feature extraction, fine-tuning, and other forms"
on its page), and its own script fine-tunes the whole network. Here the network is frozen and the
head is a logistic regression over C = 10^linspace(-6, 5, 45): say so beside the number, since most
published columns are of fine-tuning. Of equal values the smallest C is taken.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..evaluate.wording import images
from .base import Outcome, Setup, grid_choice, top_1_and_5
from .dinov2 import C_GRID, class_probabilities, fit_logistic, sweep_C
from .draws import carve
from .parts import Parts

TRAIN, VAL = 800, 200


def run(setup: Setup) -> Outcome:
    """Choose on 800 / 200, fit on 1,000, score."""
    parts = thousand(setup.parts, setup.seed)
    scores = sweep_C(setup, parts.train, parts.val, C_GRID)
    chosen = int(np.argmax(scores))
    C = float(C_GRID[chosen])
    trained_on = np.sort(np.concatenate([parts.train, parts.val]))
    head = fit_logistic(setup, trained_on, C)
    probabilities = class_probabilities(head, setup, parts.test)
    return Outcome(
        head="logistic",
        params={"C": C},
        scaling="none",
        estimator=head,
        parts=replace(parts, train=trained_on),
        trained_on=trained_on,
        probabilities=probabilities[None].astype(np.float32),
        headline=top_1_and_5(probabilities, parts.y[parts.test]),
        silent=[
            "VTAB leaves the head open: logistic regression on frozen features, the same sweep for all"
        ],
        choice=dict(grid_choice("C", C_GRID, scores, chosen)),
    )


def thousand(parts: Parts, seed: int) -> Parts:
    """The rows of the protocol: as given where they are 800 and 200, else as near as can be."""
    if len(parts.train) == TRAIN and len(parts.val) == VAL:
        return parts
    rng = np.random.default_rng(seed)
    n_train, n_val = len(parts.train), len(parts.val)
    train, val = parts.train, parts.val
    if n_train >= TRAIN and n_val >= VAL:
        train, val = _draw(train, parts.y, TRAIN, rng), np.sort(rng.choice(val, VAL, replace=False))
        how = "800 and 200 of them were drawn here"
    else:
        pool = np.sort(np.concatenate([train, val]))
        if len(pool) > TRAIN + VAL:
            pool = _draw(pool, parts.y, TRAIN + VAL, rng)
        taken = carve(parts.y[pool], VAL / (TRAIN + VAL), rng)
        train, val = pool[~taken], pool[taken]
        how = f"{len(train)} and {len(val)} took their place, drawn here"
    return replace(
        parts,
        train=train,
        val=val,
        deviations=(
            *parts.deviations,
            f"split: {n_train} training and {n_val} val {images(n_val)}, the protocol has lists of "
            f"800 and 200; {how}",
        ),
    )


def _draw(rows: np.ndarray, y: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` rows at random, one of each class for certain: a probe has to know all classes."""
    shuffled = rng.permutation(rows)
    firsts = np.unique(y[shuffled], return_index=True)[1]
    rest = np.delete(np.arange(len(shuffled)), firsts)
    return np.sort(shuffled[np.concatenate([firsts, rest])[: max(n, len(firsts))]])
