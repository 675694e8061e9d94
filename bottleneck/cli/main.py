"""The command ``bottleneck``. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from .._version import __version__
from ..printable import Lines, printable
from .bench import bench
from .cache import cache
from .compare import compare
from .completion import completion
from .curve import curve
from .defect import defect, shown
from .demo import demo
from .extract import extract
from .fit import fit
from .info import backbones, info
from .layers import layers
from .predict import predict, score
from .reply import ERROR, INTERRUPTED, listen_for_signals
from .suspects import suspects
from .verify import verify


class _InOrder(click.Group):
    """Lists its commands in the order of the work, not of the alphabet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names as they were added."""
        return list(self.commands)

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        """Read the command line; a wrong one is told in one line, whatever it holds."""
        with _printable(), _interruptible():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Read the command's own part of the line, and run it."""
        with _printable(), _interruptible():
            return super().invoke(ctx)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A Ctrl-C before a command has begun; click would call it an error."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)


@contextlib.contextmanager
def _printable() -> Iterator[None]:
    """A shell that expands ``*`` puts file names into what a usage error repeats."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise  # its message is the help, whose lines are ours
    except click.ClickException as error:
        vars(error)["message"] = printable(error.message)  # click declares it final
        raise


@click.group(
    cls=_InOrder,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Example: a folder with one sub-folder of photographs per class
  bottleneck extract photos/          features, computed once
  bottleneck fit cache/photos-efficientnet_lite0.h5
                                      a probe and how good it is
  bottleneck predict cache/photos-efficientnet_lite0-logistic.probe new/
""",
)
@click.version_option(__version__, prog_name="bottleneck")
def bottleneck() -> None:
    """Transfer learning, the quick way.

    Run every image once through a frozen pretrained CNN, keep the penultimate features, train small
    heads on them in seconds, and learn honestly how good they are.
    """


for _command in (
    demo,
    extract,
    fit,
    predict,
    score,
    compare,
    curve,
    suspects,
    info,
    verify,
    backbones,
    layers,
    cache,
    bench,
    completion,
):
    bottleneck.add_command(_command)


def main() -> None:
    """Entry point of the command and of ``python -m bottleneck_probe``."""
    listen_for_signals()
    try:
        _run()
    except SystemExit as leaving:
        _leave_threads(leaving.code)
        raise


def _run() -> None:
    """The command; what escapes outside of its work, say while its answer is printed, is told as well."""
    try:
        bottleneck(prog_name="bottleneck")
    except Exception as error:
        if shown():
            raise
        click.echo(f"error: {printable(Lines(defect(error)))}", err=True)
        sys.exit(ERROR)


def _leave_threads(code: object) -> None:
    """End the process at once where a decoder hangs or a batch that was dropped still runs.

    An ordinary exit would wait for them, or take the libraries down that they are in.
    """
    crew = sys.modules.get(f"{__package__.rpartition('.')[0]}.extraction.crew")
    if crew is None or not crew.left_running():
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a pipe that was closed at its other end
            stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
