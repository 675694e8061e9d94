"""Small heads on frozen features: scikit-learn estimators, their grids, and their state without pickle."""

from .logistic import LogisticHead
from .mlp import MLPHead
from .registry import HEADS, HeadSpec, get_head
from .svm import LinearSVMHead, RBFSVMHead

__all__ = [
    "HEADS",
    "HeadSpec",
    "LinearSVMHead",
    "LogisticHead",
    "MLPHead",
    "RBFSVMHead",
    "get_head",
]
