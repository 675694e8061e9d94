"""Names as people write them: ``ResNet-50``, ``EfficientNet-B0``, ``resnet50``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


def squeezed(name: str) -> str:
    """A name without case and punctuation, so that spellings can be compared.

    Examples
    --------
    >>> squeezed("EfficientNet-B0") == squeezed("efficientnet_b0")
    True
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def spelled(name: str, known: Iterable[str]) -> str | None:
    """The known name that is meant: the very one, or the only one that differs in spelling alone.

    Examples
    --------
    >>> spelled("ResNet-50", ["resnet50", "resnet101"])
    'resnet50'
    >>> spelled("regnet_y_16gf", ["regnet_y_1_6gf", "regnet_y_16gf"])
    'regnet_y_16gf'
    """
    names = list(known)
    for alike in (str, str.lower, squeezed):
        found = [each for each in names if alike(each) == alike(name)]
        if found:
            return found[0] if len(found) == 1 else None
    return None


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The known names that a misspelt or half-written one may mean, the likeliest first.

    Examples
    --------
    >>> nearest("resnet5O", ["vgg16", "resnet50"])
    ['resnet50']
    """
    by_squeezed = {squeezed(each): each for each in known}
    wanted = squeezed(name)
    near = difflib.get_close_matches(wanted, by_squeezed, n=n, cutoff=0.6)
    begun = [each for each in by_squeezed if len(wanted) > 2 and each.startswith(wanted)]
    return [by_squeezed[each] for each in dict.fromkeys([*near, *begun])][:n]
