"""Small heads on frozen features: scikit-learn estimators, their grids, and their state without pickle."""

from .logistic import LogisticHead
from .registry import HEADS, HeadSpec, get_head

__all__ = ["HEADS", "HeadSpec", "LogisticHead", "get_head"]
