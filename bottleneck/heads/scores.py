"""Decision scores of any head in one shape: a column for each class, so that argmax and softmax apply."""

from __future__ import annotations

import numpy as np


def expand(scores: np.ndarray, present: np.ndarray, n_classes: int) -> np.ndarray:
    """Scores of the classes that a head was fitted on, as columns of all classes.

    Parameters
    ----------
    scores : ndarray of shape (..., q)
        q is 1 for two classes (positive for the second one), else one a class.
    present : ndarray of shape (p,), int
        Which classes these are, ascending; p is q, or 2 where q is 1.
    n_classes : int

    Returns
    -------
    ndarray of shape (..., n_classes), in the dtype of `scores`
        For two classes 0 and the score, so that softmax gives the logistic function; -inf for a class
        that the head does not know.

    Examples
    --------
    >>> expand(np.array([[2.0], [-1.0]]), np.array([0, 2]), 3)
    array([[  0., -inf,   2.],
           [  0., -inf,  -1.]])
    """
    full = np.full((*scores.shape[:-1], n_classes), -np.inf, scores.dtype)
    if scores.shape[-1] == 1 and len(present) == 2:
        full[..., present[0]] = 0
        full[..., present[1]] = scores[..., 0]
    else:
        full[..., present] = scores
    return full


def as_columns(scores: np.ndarray) -> np.ndarray:
    """What `decision_function` gives, (n,) for two classes or (n, k), as (n, 1) or (n, k)."""
    return scores[:, None] if scores.ndim == 1 else scores
