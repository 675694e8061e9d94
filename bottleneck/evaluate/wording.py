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
    if len(classes) == 1:
        return f"the class {classes[0]} has a single image, which trains and is never scored"
    return (
        f"{len(classes)} classes have a single image each, which trains and is never scored: "
        f"{names(classes)}"
    )


def copies(n_rows: int, n_groups: int, views: int = 1) -> list[str]:
    """About rows that score together: views of one image, and identical images."""
    notes = []
    if views > 1:
        notes.append(
            f"the {views} views of an image are answered by the mean of their probabilities; "
            f"{n_rows} rows are {n_rows // views} images"
        )
        n_rows //= views
    extra = n_rows - n_groups
    if extra:
        verb = "is a copy of another" if extra == 1 else "are copies of others"
        notes.append(
            f"{extra} of {n_rows} scored images {verb}; identical images count once, together"
        )
    return notes
