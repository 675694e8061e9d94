"""Tables of images: any bytes as .csv, .tsv or .parquet, read as far as their samples.

The first byte chooses the kind, and whether the table names images or labels those of a folder.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from bottleneck_probe.errors import InputError
from bottleneck_probe.images.find import find

_SUFFIXES = (".csv", ".csv", ".tsv", ".parquet")
_ROOT = Path(tempfile.mkdtemp(prefix="bottleneck-fuzz-tables-"))
atexit.register(shutil.rmtree, _ROOT, True)
for _name in ("ants/1.png", "bees/2.jpg", "bees/50%.png"):
    (_ROOT / _name).parent.mkdir(exist_ok=True)
    (_ROOT / _name).write_bytes(b"\x89PNG\r\n\x1a\n")


def target(data: bytes) -> None:
    """A table, or an error in words; any other exception is a fault of ours."""
    kind = data[0] if data else 0
    file = _ROOT / f"table{_SUFFIXES[kind % 4]}"
    file.write_bytes(data[1:])
    try:
        if kind // 4 % 2:
            find(_ROOT / "bees", labels=file)
        else:
            find(file)
    except InputError as error:
        str(error).encode("utf-8", "surrogatepass")
