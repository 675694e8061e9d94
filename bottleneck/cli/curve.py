"""``bottleneck curve``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import Count, output_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter

_OPTIONS = ("head", "groups", "folds", "draws", "holdout", "metric", "points", "seed", "output")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5...")
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help=".png, .svg, .pdf or .csv.")
@click.option("--head", default="logistic", show_default=True, metavar="NAME", help="As for fit.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option(
    "--draws",
    type=Count(),
    default="auto",
    show_default=True,
    help="Of nested subsets; auto is 50 below 100 images, 20 below 1,000, else 10.",
)
@click.option(
    "--holdout",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Score on this share of the images, chosen by hash of their bytes.",
)
@click.option(
    "--groups",
    metavar="COLUMN|folder|REGEX",
    help="Whole groups (patient, camera, sub-folder) are drawn; as for fit.",
)
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "balanced_accuracy"]),
    default="accuracy",
    show_default=True,
)
@click.option(
    "--points",
    type=click.FloatRange(0, 100, min_open=True, max_open=True),
    metavar="P",
    help="Ask how many images this gain would take: 2 is from 0.90 to 0.92.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@output_options
def curve(files: tuple[str, ...], **options: Any) -> None:
    """How many more images for how much more? The score by number of images, and a forecast.

    Subsets of growing size train, other images score them all. A power law goes on to four times the
    largest size, as a band, and one sentence says what the band allows to say.

    \b
    Examples:
      bottleneck curve photos.h5
      bottleneck curve photos.h5 --points 3 -o curve.png
    """
    answer("curve", lambda reporter: _work(files, options, reporter), options)


def _work(files: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    import time

    from ..learning_curve import run
    from ..report.curve import show_curve

    started = time.monotonic()
    found = run(list(files), reporter=reporter, **{name: options[name] for name in _OPTIONS})
    seconds = round(time.monotonic() - started, 3)
    return Reply(
        {"output": options["output"], **found.to_dict(), "seconds": seconds},
        lambda: show_curve(found),
    )
