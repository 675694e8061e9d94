"""Folders of Hugging Face that want code run, refused before transformers reads them.

``auto_map`` in a configuration names classes in Python files beside it. transformers, asked for such a
folder, asks back on the terminal whether to run them, and a stray ``y`` does. An ``attn_implementation``
with the name of a repository makes it fetch and run a kernel from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import InputError

CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_NETWORKS = ("AutoConfig", "AutoModel", "AutoModelForImageClassification")
_PROCESSORS = ("AutoImageProcessor", "AutoFeatureExtractor")
_KERNELS = ("attn_implementation", "experts_implementation")


def refuse_network(folder: Path) -> None:
    """Raise an InputError if a folder's network is code of its own; nothing is run to see it."""
    content = _read(folder / CONFIG)
    _refuse_classes(folder / CONFIG, content, _NETWORKS, "network")
    for key, value in _kernels(content):
        raise InputError(
            f"{folder.name} asks for code from elsewhere: {key} is {value!r}",
            expected="eager, sdpa, or no such line",
            where=str(folder / CONFIG),
            next=f"take {key} out of a copy of the folder: it decides how, not what is computed",
        )


def refuse_processor(folder: Path) -> None:
    """Raise an InputError if what prepares a folder's images is code of its own."""
    for name in (*PROCESSORS, CONFIG):
        _refuse_classes(folder / name, _read(folder / name), _PROCESSORS, "image processor")


def _refuse_classes(file: Path, content: Any, classes: tuple[str, ...], what: str) -> None:
    for auto_map in _values(content, "auto_map"):
        # Older files have a text or a list there.
        asked = (
            [c for c in classes if c in auto_map] if isinstance(auto_map, dict) else ["auto_map"]
        )
        if not auto_map or not asked:
            continue
        ours = what == "network"
        raise InputError(
            f"the {what} of {file.parent.name} is code of its own (auto_map: {', '.join(asked)}), "
            "which is never run",
            expected=f"a {what} that is part of transformers",
            where=str(file),
            next="if transformers has its model_type, take auto_map out of a copy of the folder; else "
            "build it in Python and pass the module: bp.extract(IMAGES, backbone=module)"
            if ours
            else "state --resize, --crop, --interpolation, --mean and --std; or take auto_map out of "
            "a copy of the folder",
        )


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):  # said by who needs it
        return {}


def _values(content: Any, key: str) -> Iterator[Any]:
    """What stands under a key, at any depth: parts of a network have configurations of their own."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key:
                yield value
            else:
                yield from _values(value, key)
    elif isinstance(content, list):
        for each in content:
            yield from _values(each, key)


def _kernels(content: Any) -> Iterator[tuple[str, str]]:
    for key in (name for known in _KERNELS for name in (known, f"_{known}", f"_{known}_internal")):
        for value in _values(content, key):
            for each in value.values() if isinstance(value, dict) else [value]:
                if isinstance(each, str) and "/" in each:
                    yield key, each
