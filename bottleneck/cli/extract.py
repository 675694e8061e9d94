"""``bottleneck extract``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from .options import (
    bad_options,
    label_options,
    limit_options,
    output_options,
    preset_option,
    recipe_options,
    run_options,
    table_options,
)
from .reply import DONE, QUARANTINED, Reply, answer

if TYPE_CHECKING:
    from ..extraction.result import Extraction
    from ..report.terminal import TerminalReporter


def _one_part(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> str | None:
    """The only value: of two, click alone would silently take the last."""
    if len(value) > 1:
        raise click.BadParameter(f"given {len(value)} times; a run computes one part")
    return value[0] if value else None


@click.command()
@click.argument("images", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE.h5|DIR/",
    help="The feature file; DIR/: a directory of shards, for large outputs. With several backbones a "
    "folder for a file each.",
)
@recipe_options
@preset_option
@run_options
@table_options
@label_options
@click.option(
    "--store",
    type=click.Choice(["float32", "float16"]),
    help="How features are kept.  [default: the file's own, else float32]",
)
@click.option("--add", is_flag=True, help="Keep rows whose image is not among IMAGES.")
@click.option(
    "--part",
    metavar="K/N",
    multiple=True,
    callback=_one_part,
    help="Only this share of IMAGES, by a hash of their paths: one machine of N.",
)
@click.option("--force", is_flag=True, help="Replace a file of another recipe or folder.")
@bad_options
@limit_options
@click.option(
    "--retry", is_flag=True, help="Try images in the quarantine again, though they are unchanged."
)
@click.option(
    "--rehash",
    is_flag=True,
    help="Read every file, also those that look unchanged; add perceptual hashes that are missing.",
)
@click.option(
    "--preview",
    type=click.Path(),
    metavar="FILE.png",
    help="Draw 16 of the images as the network sees them.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be computed, and compute nothing.")
@output_options
def extract(images: tuple[str, ...], **options: Any) -> None:
    """Compute features of IMAGES with a frozen network, once, and keep them in a file.

    IMAGES: a folder (class = first folder below train, val or test, if there are such), a table (.csv, .tsv,
    .parquet), a tar or several ('shards/{000..099}.tar', labels from .cls and .json), one image, several of
    these, a glob, or - for a list on stdin; also as URLs (s3://, gs://, https://: extra remote).

    \b
    Examples:
      bottleneck extract photos/
      bottleneck extract labels.csv --root scans/ --path-column id -o scans.h5
      bottleneck extract 's3://bucket/shards/{000..099}.tar' -o s3://bucket/features/
      bottleneck extract photos/ --backbone resnet50 --weights resnet50.pth
      bottleneck extract photos/ --layer penultimate --layer 'blocks.*'
      bottleneck extract photos/ --backbone dinov2_vits14 --preset dinov2
      bottleneck extract photos/ -o cache/photos/ --part 3/16
      bottleneck extract photos/ --dry-run --framing pad --preview seen.png
    """
    answer("extract", lambda reporter: _work(images, options, reporter), options)


def _work(images: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..extraction.api import find_images, previous, run_all
    from ..extraction.dry import dry_run
    from ..report.tables import show_extraction, show_plan

    _require_lasting(options["output"])
    stated = {name: options[name] for name in STATED}
    several = len(options["backbone"]) > 1
    if not several:
        stated["backbone"] = options["backbone"][0] if options["backbone"] else None
    found = find_images(
        list(images),
        missing="error",
        previous=lambda: previous(list(images), options["output"], stated),
        **_take(options, FIND),
    )
    if options["dry_run"]:
        plans = dry_run(found, output=options["output"], reporter=reporter, **stated)
        return Reply(
            _data([plan.to_json() for plan in plans], several),
            lambda: _each(show_plan, plans),
            QUARANTINED if found.broken else DONE,
        )
    results = run_all(found, output=options["output"], reporter=reporter, **stated)
    return Reply(
        _data([result.to_json() for result in results], several),
        lambda: _each(partial(show_extraction, verbose=options["verbose"]), results),
        max(exit_code(result, options) for result in results),
    )


def _require_lasting(output: str | None) -> None:
    """Raise an InputError for an output that is gone when the command ends."""
    from ..errors import InputError
    from ..remote.urls import protocol_of

    if output is not None and protocol_of(output) == "memory":
        raise InputError(
            f"{output} is in the memory of this command, and gone when it ends",
            expected="a file, a directory, or a bucket (s3://, gs://, az://)",
            where="-o",
            next="bp.extract keeps features in memory within a Python program",
        )


def _data(replies: list[dict[str, Any]], several: bool) -> dict[str, Any]:
    return {"outputs": replies} if several else replies[0]


def _each(show: Callable[[Any], None], results: Sequence[Any]) -> None:
    for i, result in enumerate(results):
        if i:
            click.echo()
        show(result)


FIND = ("root", "path_column", "label_column", "split_column", "labels", "task")
STATED = (
    "preset",
    "backbone",
    "weights",
    "layer",
    "pooling",
    "framing",
    "range",
    "decode",
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
    "part",
    "force",
    "strict",
    "allow_bad",
    "allow_bad_rate",
    "retry",
    "rehash",
    "max_pixels",
    "max_bytes",
    "decode_timeout",
    "preview",
)


def _take(options: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: options[name] for name in names}


def exit_code(result: Extraction, options: dict[str, Any]) -> int:
    """0; or 3 where inputs were quarantined, unless a rate was allowed and kept, or a tar is cut."""
    if result.broken:
        return QUARANTINED
    if result.quarantined and (options["allow_bad"] or options["allow_bad_rate"] is None):
        return QUARANTINED
    return DONE
