"""Many feature files as one: a folder of shards and ``manifest.json``, for large outputs.

``-o NAME/`` makes one. `open_directory` reads it as `Features`, `write_directory` brings it to the
rows it is to hold, `merge` puts several together without copying features.
"""

from ..locate import MANIFEST
from .checking import check
from .manifest import Manifest, Shard
from .merging import merge
from .reading import Directory, index_of_directory, load, open_directory
from .saving import require_ours, save
from .writing import clean, write_directory

__all__ = [
    "MANIFEST",
    "Directory",
    "Manifest",
    "Shard",
    "check",
    "clean",
    "index_of_directory",
    "load",
    "merge",
    "open_directory",
    "require_ours",
    "save",
    "write_directory",
]
