"""Images for which the network gives NaN or infinity: keys in, a reason each out, or a broken network.

A few such images are the images' own: a network in half precision overflows at extreme ones. They are
quarantined, or one of them would end every run over a million others. A network that gives nothing
else is broken, and then no image is to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..engines.base import Engine, NotFiniteError

# So many images without a number, and none with one, are no accident.
_BROKEN = 16


class Unsound:
    """Collects them for one engine; used by one thread.

    Parameters
    ----------
    refuse : callable
        Hears of each key and the reason.
    """

    def __init__(self, refuse: Callable[[bytes, str], None]) -> None:
        self._refuse = refuse
        self._sound = False
        self._waiting: list[bytes] = []
        self._error: NotFiniteError | None = None

    def note(self, n_sound: int, keys: Sequence[bytes], engine: Engine) -> None:
        """Take what came of some images.

        Parameters
        ----------
        n_sound : int
            Images whose features are numbers.
        keys : sequence of bytes
            Of the others.
        engine : Engine

        Raises
        ------
        NotFiniteError
            If there were only others so far, and enough of them.
        """
        self._sound = self._sound or n_sound > 0
        if keys:
            self._waiting.extend(keys)
            self._error = broken(engine)
        if self._sound:
            for key in self._waiting:
                self._refuse(key, reason_of(engine))
            self._waiting = []
        elif len(self._waiting) >= _BROKEN:
            self.close()

    def close(self) -> None:
        """There are no more images; a NotFiniteError if none of them has features."""
        if self._waiting and self._error is not None:
            raise self._error


def reason_of(engine: Engine) -> str:
    """Why an image is quarantined."""
    hint = "" if engine.precision == "fp32" else "; --precision fp32 may give numbers"
    return f"the network gave NaN or infinity (engine {engine.name}, {engine.precision}{hint})"


def broken(engine: Engine) -> NotFiniteError:
    """The error for a network that gives no numbers at all."""
    import numpy as np

    return NotFiniteError(engine, [], np.zeros(0, bool))
