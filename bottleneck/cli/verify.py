"""``bottleneck verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import output_options
from .reply import DONE, ERROR, Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


@click.command()
@click.argument("file")
@click.option("--images", is_flag=True, help="Also read every image again and compare its key.")
@click.option("--root", type=click.Path(), help="Where the images are now, if they were moved.")
@click.option(
    "--recompute",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Also compute N rows again, picked at random, and compare the features.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@output_options
def verify(file: str, **options: Any) -> None:
    """Check that a feature file, a directory of features or a probe is what was written.

    Structure, counts, checksums of every block, NaN, order of rows, labels, quarantine. Nothing is
    changed. Exit code 0: in order; 1: a list of what is not.

    \b
    Examples:
      bottleneck verify cache/photos-resnet50.h5
      bottleneck verify photos.h5 --images --recompute 20
      bottleneck verify photos.probe --json
    """
    answer("verify", lambda reporter: _verify(file, options, reporter), options)


def _verify(file: str, options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..cache.verifying import verify as check
    from ..report.upkeep import show_report

    report = check(
        file,
        images=options["images"],
        root=options["root"],
        recompute=options["recompute"],
        seed=options["seed"],
        reporter=reporter,
    )
    return Reply(
        report.to_dict(),
        lambda: show_report(report, verbose=options["verbose"]),
        DONE if report.ok else ERROR,
    )
