"""``bottleneck suspects``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import Count, output_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter

_OPTIONS = ("head", "groups", "folds", "repeats", "seed", "output")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5...")
@click.option("-o", "--output", type=click.Path(), metavar="FILE.csv", help="All of them, ranked.")
@click.option("--head", default="logistic", show_default=True, metavar="NAME", help="As for fit.")
@click.option(
    "--groups",
    metavar="COLUMN|folder|REGEX",
    help="Images of one group never judge each other; as for fit.",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option("--repeats", type=Count(), default="auto", show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@output_options
def suspects(files: tuple[str, ...], **options: Any) -> None:
    """Which labels are likely wrong, which images are odd? A ranked list; nothing is changed.

    Every labelled image, whatever its split, is judged by fits that did not see it (confident learning).
    Copies under two labels come first, then likely wrong labels, then images that are unlike all others.

    \b
    Example:
      bottleneck suspects photos.h5 -o suspects.csv
    """
    answer("suspects", lambda reporter: _work(files, options, reporter), options)


def _work(files: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..label_check import run
    from ..report.suspects import show_suspects

    found = run(list(files), reporter=reporter, **{name: options[name] for name in _OPTIONS})
    return Reply(
        {"output": options["output"], **found.to_dict()},
        lambda: show_suspects(found, options["output"]),
    )
