"""Operators of very old ONNX files made newer, in a process of its own.

ONNX's converter crashes at files that were made to crash it (CVE-2026-44512; others are not mended yet), so
it is never let near this process.
"""

from __future__ import annotations

import subprocess
import sys

from ...helper import end_with_parent, environment
from .external import first_line

_LIMIT_S = 120.0  # a second for ResNet-50
_FAILED = 3


class CannotConvert(Exception):
    """Why a file cannot be converted, in words."""


def converted(content: bytes, version: int) -> bytes:
    """A model in operators of another version.

    Parameters
    ----------
    content : bytes
        Of an ONNX model, its tensors included.
    version : int
        Of ONNX's own operators.

    Raises
    ------
    CannotConvert
        If the converter refuses it, crashes, or comes to no end.
    """
    program = [sys.executable, "-P", "-m", __name__, str(version)]
    try:
        done = subprocess.run(
            program,
            input=content,
            capture_output=True,
            timeout=_LIMIT_S,
            env=environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotConvert(f"ONNX's converter did not answer within {_LIMIT_S:.0f} s") from None
    except OSError as error:
        raise CannotConvert(f"no process could be started for it ({error.strerror})") from error
    if done.returncode == _FAILED:
        raise CannotConvert(done.stderr.decode("utf-8", "replace").strip()[:300])
    if done.returncode or not done.stdout:
        raise CannotConvert(f"ONNX's converter crashed (exit code {done.returncode})")
    return done.stdout


def main() -> None:
    """Convert the model on standard input to the version of the first argument."""
    end_with_parent()
    import onnx
    import onnx.version_converter

    try:
        model = onnx.load_model_from_string(sys.stdin.buffer.read())
        model = onnx.version_converter.convert_version(model, int(sys.argv[1]))
        content = model.SerializeToString()
    except Exception as error:  # the converter raises RuntimeError and types of its own
        print(first_line(error), file=sys.stderr)
        sys.exit(_FAILED)
    sys.stdout.buffer.write(content)


if __name__ == "__main__":
    main()
