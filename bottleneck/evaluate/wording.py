"""Words that several messages share."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5  # names that a message lists
_JUDGED = 20  # scored images below which a class by itself says little


def names(values: Sequence[object]) -> str:
    """The first few, and how many more."""
    more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more


def images(count: int) -> str:
    """The noun for so many."""
    return "image" if count == 1 else "images"


def only_train(classes: Sequence[str], one_group: Sequence[str] = ()) -> str:
    """About classes that cannot be scored: of a single image, or of several in one group."""
    parts = []
    if len(classes) == 1:
        parts = [f"the class {classes[0]} has a single image, which trains and is never scored"]
    elif classes:
        parts = [
            f"{len(classes)} classes have a single image each, which trains and is never scored: "
            f"{names(classes)}"
        ]
    if len(one_group) == 1:
        parts.append(
            f"all images of the class {one_group[0]} are of one group, which trains and is never scored"
        )
    elif one_group:
        parts.append(
            f"{len(one_group)} classes have all their images in one group each, which trains and is "
            f"never scored: {names(one_group)}"
        )
    return "; ".join(parts)


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


def too_small(sizes: Sequence[float], classes: Sequence[str]) -> list[str]:
    """About classes with too few scored images to be judged by themselves.

    Parameters
    ----------
    sizes : sequence of float
        Scored images of each class, copies counted once.
    classes : sequence of str

    Examples
    --------
    >>> too_small([80, 12, 0], ["ant", "bee", "cat"])
    ['too few images to judge a class by its own score (below 20): bee (12)']
    """
    small = [
        f"{name} ({size:.0f})"
        for name, size in zip(classes, sizes, strict=True)
        if 0 < size < _JUDGED
    ]
    if not small:
        return []
    return [f"too few images to judge a class by its own score (below {_JUDGED}): {names(small)}"]
