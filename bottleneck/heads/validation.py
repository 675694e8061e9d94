"""What every head checks before a fit and does after it: arrays in, checked arrays and answers out.

A head calls `check_training` first in `fit`, `check_features` first in `decision_function`, and gives
`answers(self.classes_, scores)` from `predict`; `class_weights` turns its `class_weight` into a weight for
each sample. So all heads refuse the same things in the same words.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

ClassWeight = str | Mapping[Any, float] | None


def check_training(
    head: Any, X: Any, y: Any, *, single: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Check the samples of a fit, and set `classes_` and `n_features_in_` of the head.

    Parameters
    ----------
    head : estimator
    X : array-like of shape (n, d)
        Finite numbers.
    y : array-like of shape (n,)
        Class labels, two different ones or more.
    single : bool, default False
        Leave float32 as it is, for a head that has a use for it.

    Returns
    -------
    X : ndarray of shape (n, d), float64, or float32 with `single`
    indices : ndarray of shape (n,), intp
        Into `classes_`.

    Raises
    ------
    ValueError
        For anything else, in scikit-learn's words.
    """
    dtype = [np.float64, np.float32] if single else np.float64
    X, y = validate_data(head, X, y, dtype=dtype)
    check_classification_targets(y)
    head.classes_, indices = np.unique(y, return_inverse=True)
    if len(head.classes_) < 2:
        raise ValueError(
            f"y holds one class, {head.classes_[0]!r}; a classifier needs samples of 2 or more"
        )
    return X, indices


def check_features(head: Any, X: Any) -> np.ndarray:
    """Samples for a fitted head, (n, d) float64; another d or a value that is not finite is refused."""
    check_is_fitted(head)
    return np.asarray(validate_data(head, X, reset=False, dtype=np.float64))


def check_positive(**parameters: Any) -> None:
    """Refuse a parameter that is not a finite number above 0.

    Raises
    ------
    ValueError
        Names the parameter and its value.
    """
    for name, value in parameters.items():
        number = isinstance(value, Real) and not isinstance(value, bool)
        if not (number and 0 < value < np.inf):
            raise ValueError(f"{name} is {value!r}; expected a positive number")


def class_weights(
    class_weight: ClassWeight, indices: np.ndarray, classes: np.ndarray
) -> np.ndarray | None:
    """How much each sample counts.

    Parameters
    ----------
    class_weight : {None, "balanced"} or mapping
        ``balanced`` gives every class the same sum: n / (k * samples of the class). A mapping from
        class labels to positive numbers; a class that it leaves out counts 1.
    indices : ndarray of shape (n,), intp
        Into `classes`, each of which is present.
    classes : ndarray of shape (k,)

    Returns
    -------
    ndarray of shape (n,), float64, or None
        None: all count 1.

    Examples
    --------
    >>> class_weights("balanced", np.array([0, 0, 0, 1]), np.array(["ant", "bee"])).round(2)
    array([0.67, 0.67, 0.67, 2.  ])
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, Mapping):
        each = np.array([class_weight.get(label, 1.0) for label in classes.tolist()], np.float64)
        if not (np.isfinite(each) & (each > 0)).all():
            raise ValueError(f"class_weight is {class_weight!r}; expected positive numbers")
    elif class_weight == "balanced":
        counts = np.bincount(indices, minlength=len(classes))
        each = len(indices) / (len(classes) * np.maximum(counts, 1))
    else:
        raise ValueError(
            f"class_weight is {class_weight!r}; expected None, 'balanced' or a mapping"
        )
    return np.asarray(each[indices])


def one_column_for_two(scores: np.ndarray) -> np.ndarray:
    """Scores (n, q) as `decision_function` gives them: (n,) for q = 1, else as they are."""
    return scores[:, 0] if scores.shape[1] == 1 else scores


def answers(classes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The class with the largest score, (n,); of equal ones the first.

    Parameters
    ----------
    classes : ndarray of shape (k,)
    scores : ndarray of shape (n,) or (n, k)
        As `decision_function` gives them.
    """
    index = (scores > 0).astype(np.intp) if scores.ndim == 1 else scores.argmax(axis=1)
    return np.asarray(classes[index])
