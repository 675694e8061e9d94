"""Small heads on frozen features: scikit-learn estimators, their grids, and their state without pickle."""

from .knn import KNNHead
from .logistic import LogisticHead
from .mlp import MLPHead
from .ncm import NCMHead
from .registry import HEADS, HeadSpec, get_head
from .ridge import RidgeHead, RidgeRegressionHead
from .svm import LinearSVMHead, RBFSVMHead

__all__ = [
    "HEADS",
    "HeadSpec",
    "KNNHead",
    "LinearSVMHead",
    "LogisticHead",
    "MLPHead",
    "NCMHead",
    "RBFSVMHead",
    "RidgeHead",
    "RidgeRegressionHead",
    "get_head",
]
