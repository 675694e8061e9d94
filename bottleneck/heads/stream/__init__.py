"""Logistic regression on features that do not fit into memory: a sliceable array in, coefficients out.

Reads short runs of rows in a shuffled order, trains several values of C side by side on each
mini-batch, holds rows out to stop and to choose among them, and never holds more than a stated number
of bytes.
"""

from .estimator import StreamedLogistic, working_bytes
from .training import Epoch

__all__ = ["Epoch", "StreamedLogistic", "working_bytes"]
