"""Modules of clones in one process: always from the source as it is now, never of two clones at once.

Python keeps imported modules by names such as ``models``, which every repository has, and compiled ones
in ``__pycache__`` by the second in which the source was changed: an edit in the same second that
leaves the length as it was would run the old code.
"""

from __future__ import annotations

import importlib
import importlib.util
import linecache
import sys
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    SourceFileLoader,
    SourcelessFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ..errors import InputError

_HUBCONF = "hubconf.py"
# The clone whose modules are loaded, with its digest; and all clones of this process.
_loaded: dict[str, tuple[Path, str]] = {}
_clones: set[Path] = set()


class _Fresh(SourceFileLoader):
    """Compiles the source each time, and keeps nothing beside it."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


_finder = FileFinder.path_hook(
    (ExtensionFileLoader, EXTENSION_SUFFIXES),
    (_Fresh, SOURCE_SUFFIXES),
    (SourcelessFileLoader, BYTECODE_SUFFIXES),
)


def _finder_of_clones(path: str) -> Any:
    if not any(Path(path).is_relative_to(clone) for clone in _clones):
        raise ImportError("no clone", path=path)
    return _finder(path)


def make_ready(folder: Path, digest: str) -> None:
    """Drop modules of other clones, and of this one as it was before, from ``sys.modules``.

    Raises
    ------
    InputError
        If a module of the clone's names is loaded from anywhere else.
    """
    before = _loaded.get("clone")
    if before is not None and before != (folder, digest):
        for name, module in list(sys.modules.items()):
            if _lies_in(module, before[0]):
                del sys.modules[name]
    own = {path.stem for path in folder.iterdir() if _is_importable(path)} - {"hubconf", "setup"}
    for name in sorted(own & set(sys.modules)):
        file = getattr(sys.modules[name], "__file__", None)
        if file and not Path(file).is_relative_to(folder) and "site-packages" not in file:
            raise InputError(
                f"{folder.name} has a module {name}, and another one is loaded from {file}",
                expected="a process in which only one of them is used",
                where="--backbone",
                next="run it from another folder, or in a process of its own",
            )
    _loaded["clone"] = (folder, digest)
    _clones.add(folder)
    if _finder_of_clones not in sys.path_hooks:
        sys.path_hooks.insert(0, _finder_of_clones)
    for path in [p for p in sys.path_importer_cache if Path(p).is_relative_to(folder)]:
        del sys.path_importer_cache[path]
    importlib.invalidate_caches()
    linecache.checkcache()


def import_hubconf(folder: Path) -> ModuleType:
    """Run a clone's ``hubconf.py``; its folder has to be on ``sys.path``."""
    path = str(folder / _HUBCONF)
    loader = _Fresh("hubconf", path)
    spec = importlib.util.spec_from_file_location("hubconf", path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _lies_in(module: Any, folder: Path) -> bool:
    """Whether a module, or a package without ``__init__.py``, was imported from a folder."""
    # Not by getattr: some modules make up whatever they are asked for.
    own = getattr(module, "__dict__", {})
    try:
        places = [own.get("__file__"), *own.get("__path__", ())]
    except (TypeError, KeyError, ImportError):  # a package without __init__.py asks its parent
        return False
    return any(isinstance(p, str) and Path(p).is_relative_to(folder) for p in places)


def _is_importable(path: Path) -> bool:
    return path.suffix == ".py" or (path.is_dir() and (path / "__init__.py").is_file())
