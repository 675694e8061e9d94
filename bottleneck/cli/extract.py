"""``bottleneck extract``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import (
    bad_options,
    label_options,
    output_options,
    recipe_options,
    run_options,
    table_options,
)
from .reply import DONE, QUARANTINED, Reply, answer

if TYPE_CHECKING:
    from ..extraction.result import Extraction
    from ..report.terminal import TerminalReporter


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(), metavar="FILE.h5", help="The feature file.")
@recipe_options
@run_options
@table_options
@label_options
@click.option(
    "--store",
    type=click.Choice(["float32", "float16"]),
    help="How features are kept.  [default: the file's own, else float32]",
)
@click.option("--add", is_flag=True, help="Keep rows whose image is not among IMAGES.")
@click.option("--force", is_flag=True, help="Replace a file of another recipe or folder.")
@bad_options
@click.option("--dry-run", is_flag=True, help="Say what would be computed, and compute nothing.")
@output_options
def extract(images: tuple[str, ...], **options: Any) -> None:
    """Compute penultimate features of IMAGES, once, and keep them in a file.

    IMAGES: a folder (class = first folder below train, val or test, if there are such), a table (.csv, .tsv,
    .parquet), one image, several of these, a glob, or - for a list on stdin.

    \b
    Examples:
      bottleneck extract photos/
      bottleneck extract labels.csv --root scans/ --path-column id -o scans.h5
      bottleneck extract photos/ --backbone resnet50 --weights resnet50.pth
    """
    answer("extract", lambda reporter: _work(images, options, reporter), options)


def _work(images: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..extraction.api import find_images, run
    from ..extraction.dry import dry_run
    from ..report.tables import show_extraction, show_plan

    found = find_images(list(images), missing="error", **_take(options, FIND))
    stated = {name: options[name] for name in STATED}
    if options["dry_run"]:
        plan = dry_run(found, output=options["output"], reporter=reporter, **stated)
        return Reply(plan.to_json(), lambda: show_plan(plan))
    result = run(found, output=options["output"], reporter=reporter, **stated)
    return Reply(
        result.to_json(),
        lambda: show_extraction(result, verbose=options["verbose"]),
        exit_code(result, options),
    )


FIND = ("root", "path_column", "label_column", "split_column", "labels")
STATED = (
    "backbone",
    "weights",
    "resize",
    "crop",
    "interpolation",
    "mean",
    "std",
    "precision",
    "engine",
    "device",
    "batch_size",
    "workers",
    "store",
    "add",
    "force",
    "strict",
    "allow_bad",
    "allow_bad_rate",
)


def _take(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names}


def exit_code(result: Extraction, options: dict[str, Any]) -> int:
    """0; or 3 where inputs were quarantined, unless a rate was allowed and kept."""
    if result.quarantined and (options["allow_bad"] or options["allow_bad_rate"] is None):
        return QUARANTINED
    return DONE
