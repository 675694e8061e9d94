"""The power law of a learning curve: errors at some sizes in, error = a + b n^-c out, for many at once.

For a given exponent the two others are a linear least-squares problem with signs, which has a closed form;
so exponents are tried on a grid, then on a finer one around the best. No start values, no local minima,
and a thousand bootstrap curves cost milliseconds.

References
----------
C. Cortes, L. D. Jackel, S. A. Solla, V. Vapnik, J. S. Denker, "Learning Curves: Asymptotic Values and Rate
of Convergence", NeurIPS 1993. T. Viering, M. Loog, "The Shape of Learning Curves: a Review", TPAMI 2023.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_EXPONENTS = np.linspace(0.02, 2.0, 100)
_REFINEMENTS = np.linspace(-0.02, 0.02, 21)


@dataclass(frozen=True)
class PowerLaw:
    """``error(n) = a + b n^-c`` of one or several curves.

    Attributes
    ----------
    a, b, c : ndarray of any shape, float64
        ``a >= 0`` is where the error ends with endless images, ``b >= 0``, ``0 < c <= 2``.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def __call__(self, n: np.ndarray | float) -> np.ndarray:
        """Error at each size, of shape (..., sizes).

        Examples
        --------
        >>> law = PowerLaw(np.array(0.1), np.array(1.0), np.array(0.5))
        >>> law(np.array([25, 100])).round(3).tolist()
        [0.3, 0.2]
        """
        n = np.asarray(n, np.float64)
        return self.a[..., None] + self.b[..., None] * n ** -self.c[..., None]

    def images_for(self, error: np.ndarray | float) -> np.ndarray:
        """Images at which the error is reached; infinite where it never is."""
        gap = np.asarray(error) - self.a
        reachable = (gap > 0) & (self.b > 0)
        ratio = np.where(reachable, self.b, 1) / np.where(reachable, gap, 1)
        # A flat curve needs more images than a float can count.
        with np.errstate(over="ignore"):
            return np.where(reachable, ratio ** (1 / self.c), np.inf)


def fit_power_law(sizes: np.ndarray, errors: np.ndarray, weights: np.ndarray) -> PowerLaw:
    """Weighted least squares over a, b and c, within their bounds.

    Parameters
    ----------
    sizes : ndarray of shape (s,)
        Numbers of training images, above 0; two different ones or more.
    errors : ndarray of shape (..., s)
        One or several curves.
    weights : ndarray of shape (s,)
        1 / standard error squared.

    Returns
    -------
    PowerLaw
        Arrays of the shape of `errors` without its last axis.

    Examples
    --------
    >>> n = np.array([20, 40, 80, 160])
    >>> law = fit_power_law(n, 0.05 + 2 / n, np.ones(4))
    >>> float(law.a.round(3)), float(law.c.round(2))
    (0.05, 1.0)
    """
    sizes, errors = np.asarray(sizes, np.float64), np.asarray(errors, np.float64)
    weights = np.asarray(weights, np.float64) / np.sum(weights)
    curves = errors.reshape(-1, len(sizes))
    # Sizes relative to their middle: n^-2 of a large n would leave b without digits.
    middle = np.exp(np.mean(np.log(sizes)))
    x = np.log(sizes / middle)
    c = _EXPONENTS[_solve(x, curves, weights, _EXPONENTS[None])[2].argmin(axis=1)]
    finer = np.clip(c[:, None] + _REFINEMENTS, 1e-3, 2)
    a, b, loss = _solve(x, curves, weights, finer)
    best = loss.argmin(axis=1)[:, None]
    a, b, c = (np.take_along_axis(each, best, axis=1)[:, 0] for each in (a, b, finer))
    shape = errors.shape[:-1]
    return PowerLaw(a.reshape(shape), (b * middle**c).reshape(shape), c.reshape(shape))


def _solve(
    x: np.ndarray, curves: np.ndarray, weights: np.ndarray, exponents: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Best a and b, both at least 0, and what they leave: (curves, exponents) each."""
    power = np.exp(-exponents[..., None] * x)  # (1 or curves, exponents, s)
    mean_p = power @ weights
    mean_e = (curves @ weights)[:, None]
    squares = power**2 @ weights
    product = ((power * weights) @ curves[..., None])[..., 0]
    covariance = product - mean_p * mean_e
    variance = np.maximum(squares - mean_p**2, 1e-300)
    b = np.maximum(covariance / variance, 0)
    a = mean_e - b * mean_p
    # Below 0 the best is at the bound: a line through the origin of power and error.
    bound = a < 0
    b = np.where(bound, np.maximum(product / squares, 0), b)
    a = np.where(bound, 0, a)
    total = (curves**2 @ weights)[:, None]
    loss = total - 2 * (a * mean_e + b * product) + a**2 + 2 * a * b * mean_p + b**2 * squares
    return a, b, loss
