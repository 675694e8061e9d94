"""A multilayer perceptron, and many of them trained together: the estimator, the kernels, the sweep."""

from .head import MLPHead
from .sweep import sweep_mlp

__all__ = ["MLPHead", "sweep_mlp"]
