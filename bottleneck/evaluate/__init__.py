"""Honest scores: arrays in, folds, metrics, intervals and a fitted pipeline out."""

from .protocol import evaluate
from .result import OutOfFold, Result
from .scoring import score

__all__ = ["OutOfFold", "Result", "evaluate", "score"]
