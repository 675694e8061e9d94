"""The feature file of format version 1: what it holds, how it is written, how it is read.

The specification is ``cache/README.md``; `layout` has the names, `writing` and `reading` the code.
"""

from .layout import FORMAT, FORMAT_VERSION, SPLITS, STORES, Header, Rows
from .outputs import Layer
from .reading import Stored, read, read_header
from .writing import write

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "SPLITS",
    "STORES",
    "Header",
    "Layer",
    "Rows",
    "Stored",
    "read",
    "read_header",
    "write",
]
