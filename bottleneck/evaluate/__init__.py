"""Honest scores: arrays in, folds, metrics, intervals and a fitted pipeline out."""

from .protocol import OutOfFold, Result, evaluate
from .scoring import score

__all__ = ["OutOfFold", "Result", "evaluate", "score"]
