"""Errors a user can mend. Each says what is wrong, what was expected, where, and what to do next."""

from __future__ import annotations

from .printable import printable


class BottleneckError(Exception):
    """Base of all errors that end a command with exit code 1 and a message instead of a traceback.

    Parameters
    ----------
    what : str
        What is wrong, with the value that was found.
    expected : str, optional
        What would have been right.
    where : str, optional
        File, dataset, row, line or option.
    next : str, optional
        What to do now: a command, an option, an edit.

    Examples
    --------
    >>> print(BottleneckError("1 class: ants", expected="2 or more", next="add another folder"))
    1 class: ants
      expected: 2 or more
      next: add another folder
    """

    def __init__(self, what: str, *, expected: str = "", where: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.expected = expected
        self.where = where
        self.next = next

    def __str__(self) -> str:
        # Values are names as often as not: shown as they are, one with a newline could say anything.
        parts = [("expected", self.expected), ("where", self.where), ("next", self.next)]
        told = [f"  {name}: {printable(text)}" for name, text in parts if text]
        return "\n".join([printable(self.what), *told])

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by their positional arguments alone; a worker's error would lose the rest.
        return (_rebuild, (type(self), self.to_dict()))

    def to_dict(self) -> dict[str, str]:
        """The four parts, as `--json` shows them under ``error``."""
        return {
            "what": self.what,
            "expected": self.expected,
            "where": self.where,
            "next": self.next,
        }


def _rebuild(cls: type[BottleneckError], parts: dict[str, str]) -> BottleneckError:
    return cls(parts.pop("what"), **parts)


class InputError(BottleneckError):
    """Images, tables or options that cannot be used as they were given."""


class RecipeError(BottleneckError):
    """Features of one recipe would meet features of another."""


class WeightsError(BottleneckError):
    """Pretrained weights that are missing, damaged, or not those that were asked for."""


class EngineError(BottleneckError):
    """An engine, device or provider that was asked for and is not there, or failed."""


class CacheError(BottleneckError):
    """A feature file, shard or cache folder that cannot be read or written."""


class ProbeError(BottleneckError):
    """A probe file that cannot be read, or does not fit the features it is given."""


class FitError(BottleneckError):
    """Labels or features that no honest score can be computed from."""


class MissingExtraError(BottleneckError):
    """A package of an optional extra that is not installed."""
