"""What a name stands for: a plain one, one of a source, or the path of an ONNX file."""

from __future__ import annotations

import os

from ..errors import InputError
from . import catalogue
from .base import Entry
from .sources import sources
from .spelling import nearest, squeezed

# Sources that come in another way: a module in Python, an ONNX file by its path.
_NOT_TYPED = ("module", "onnx")

# Backbones that a program adds under a name of its own; they go before all others.
ENTRIES: dict[str, Entry] = {}


def find_entry(name: str | os.PathLike[str]) -> Entry:
    """What a name stands for.

    Parameters
    ----------
    name : str or path
        ``ResNet-50``, ``resnet50@IMAGENET1K_V1``, ``timm/resnet26d.bt_in1k``, ``model.onnx``.

    Returns
    -------
    Entry
        Under one name, however it was written: ``torchvision/resnet50`` is ``resnet50``.

    Raises
    ------
    InputError
        With the nearest names, if there is none.

    Examples
    --------
    >>> find_entry("ResNet-50").name
    'resnet50'
    """
    text = os.fspath(name)
    if text in ENTRIES:
        return ENTRIES[text]
    if text.lower().endswith(".onnx"):
        return sources()["onnx"].entry(text)
    prefix, slash, rest = text.partition("/")
    if slash and prefix.lower() in sources():
        return catalogue.named(sources()[prefix.lower()].entry(rest))
    plain, _, tag = text.partition("@")
    line = catalogue.find(plain)
    if line is None:
        raise _unknown(text)
    return catalogue.entry(line, tag)


def _unknown(name: str) -> InputError:
    """An error with what else the name may mean: a plain name, or one of a source."""
    plain = name.partition("@")[0]
    near = nearest(plain, [line.name for line in catalogue.LINES] + list(ENTRIES))
    elsewhere = _elsewhere(plain)
    if elsewhere or near:
        hint = f"did you mean {' or '.join([*elsewhere, *near][:3])}?"
    else:
        prefixes = ", ".join(f"{each}/" for each in sources() if each not in _NOT_TYPED)
        hint = f"`bottleneck backbones` lists the plain names; others begin with {prefixes}"
    return InputError(
        f"no backbone is called {name!r}",
        expected=f"one of {len(catalogue.LINES)} plain names, or SOURCE/NAME",
        where="--backbone",
        next=hint,
    )


def _elsewhere(plain: str) -> list[str]:
    """Full names of sources that end like this."""
    wanted = squeezed(plain.partition(".")[0])
    found = []
    for prefix, source in sources().items():
        names = getattr(source, "names", None)
        if names is not None:
            found += [f"{prefix}/{each}" for each in names() if squeezed(each) == wanted]
    return found
