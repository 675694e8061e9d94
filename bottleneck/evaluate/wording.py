"""Words that several messages share."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5  # names that a message lists


def names(values: Sequence[object]) -> str:
    """The first few, and how many more."""
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more


def images(count: int) -> str:
    """The noun for so many."""
    return "image" if count == 1 else "images"


def only_train(classes: Sequence[str]) -> str:
    """About classes that cannot be scored."""
    return f"a single image each, which trains and is never scored: {names(classes)}"
