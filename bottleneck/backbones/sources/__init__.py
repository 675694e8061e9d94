"""Where backbones come from. Each module here is one source, found because it lies here.

To add a source, add a module with an object ``SOURCE`` that follows `base.Source`; nothing else has
to know of it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil

from ..base import Source


@functools.cache
def sources() -> dict[str, Source]:
    """All sources by prefix. Loads no library: a source imports its own when it is asked."""
    found: dict[str, Source] = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda module: module.name):
        source: Source = importlib.import_module(f"{__name__}.{module.name}").SOURCE
        found[source.prefix] = source
    return found
