"""What is said where an exception escapes that no user can mend: a defect of this program.

Nobody is shown a traceback, and none is lost: it is written to a file, and the message names it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import traceback
from pathlib import Path

from .. import usercache
from .._version import __version__
from ..errors import BottleneckError

# Set to anything: the exception goes through, with its traceback.
SHOWN = "BOTTLENECK_TRACEBACK"
_REPORT = "report it with that file"
_PROJECT = "https://github.com/bottleneck-probe/bottleneck-probe/issues"


def shown() -> bool:
    """Whether the user wants tracebacks on the terminal."""
    return bool(os.environ.get(SHOWN))


def defect(error: Exception) -> BottleneckError:
    """The message for an exception that should not have escaped; its traceback is kept in a file.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    BottleneckError
        Names the file, or says how to see the traceback where none could be written.
    """
    said = " ".join(str(error).split())
    try:
        where, next_step = str(_keep(error)), f"{_REPORT} at {_PROJECT}"
    except (BottleneckError, OSError) as full:
        where = f"no traceback could be kept: {full}".splitlines()[0]
        next_step = f"run again with {SHOWN}=1, and report what it prints at {_PROJECT}"
    return BottleneckError(
        f"a defect of bottleneck-probe: {type(error).__name__}: {said[:300]}",
        expected="a result, or an error that you can mend; your files are as they were written",
        where=where,
        next=next_step,
    )


def _keep(error: Exception) -> Path:
    """Write a traceback; one that was seen before takes the same file."""
    trace = "".join(traceback.format_exception(error))
    about = (
        f"bottleneck-probe {__version__}, Python {platform.python_version()}, {platform.platform()}"
    )
    digest = hashlib.sha256(trace.encode(errors="backslashreplace")).hexdigest()
    path = usercache.folder("defects") / f"{digest[:12]}.txt"
    path.write_text(f"{about}\n\n{trace}", encoding="utf-8", errors="backslashreplace")
    return path
