"""The process of one contestant: its spec as an argument, requests as lines of JSON, answers likewise.

A process each, because memory and threads of one library must not be counted for, or slow down,
another. Run by `process.Process`: ``python -m bottleneck_probe.bench.child SPEC``.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import IO

from ..errors import BottleneckError
from .contestant import Spec, build


def serve(spec: Spec, requests: IO[str], answers: IO[str]) -> None:
    """Answer until stdin ends: also when whoever asks was killed."""
    contestant = None
    for line in requests:
        request = json.loads(line)
        try:
            if contestant is None:
                contestant = build(spec)
            result = getattr(contestant, request["call"])(**request["arguments"])
            answer = {"result": result}
        except BottleneckError as error:
            answer = {"error": error.to_dict()}
        except Exception as error:  # a contestant that fails leaves the bench, which goes on
            traceback.print_exc()
            answer = {"error": {"what": f"{type(error).__name__}: {_first_line(error)}"}}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def main() -> None:
    """Keep stdout for answers: whatever a library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(Spec(**json.loads(sys.argv[1])), sys.stdin, answers)


if __name__ == "__main__":
    main()
