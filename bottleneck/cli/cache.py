"""``bottleneck cache``: feature files put together, compared and mended; the user's own cache."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import label_options, output_options
from .reply import DONE, ERROR, Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter

_output = click.option(
    "-o", "--output", type=click.Path(), required=True, help="The new file; NAME/ is a directory."
)
_force = click.option("--force", is_flag=True, help="Replace the output if it is there.")


@click.group()
def cache() -> None:
    """Put feature files together, take them apart, compare and repair them; and where things are."""


@cache.command()
@click.argument("file")
@_output
@_force
@output_options
def repair(file: str, **options: Any) -> None:
    """Save the good rows of a damaged feature file into a new one, and list what was lost.

    FILE may be a directory of features, and stays as it is. It may also be gone, if the parts of a run
    that did not end lie beside it. A key in a damaged block counts if the image at its path has it.
    `bottleneck extract IMAGES -o NEW` then computes the lost rows, and no others.

    \b
    Examples:
      bottleneck cache repair photos.h5 -o repaired.h5
      bottleneck cache repair photos/ -o repaired/
    """
    answer("cache repair", lambda reporter: _repair(file, options, reporter), options)


def _repair(file: str, options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..cache.repairing import repair as save
    from ..report.upkeep import show_repair

    found = save(file, options["output"], force=options["force"], reporter=reporter)
    return Reply(found.to_dict(), lambda: show_repair(found, verbose=options["verbose"]))


@cache.command()
@click.argument("files", nargs=-1, required=True)
@_output
@_force
@output_options
def merge(files: tuple[str, ...], **options: Any) -> None:
    """Write the rows of several feature FILES of one recipe into a new one.

    A row that stands in several counts once; of equal paths with another key the later file's counts.
    Where the roots differ, paths become relative to the folder above them.

    \b
    Examples:
      bottleneck cache merge part-1.h5 part-2.h5 -o photos.h5
      bottleneck cache merge part-1/ part-2/ -o photos/
    """
    answer("cache merge", lambda reporter: _merge(files, options, reporter), options)


def _merge(files: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..cache.merging import merge as put_together
    from ..report.upkeep import show_merge

    found = put_together(files, options["output"], force=options["force"], reporter=reporter)
    return Reply(found.to_dict(), lambda: show_merge(found))


@cache.command()
@click.argument("a")
@click.argument("b")
@output_options
def diff(a: str, b: str, **options: Any) -> None:
    """Tell how feature file B differs from A: recipe, rows, labels, values.

    Exit code 0: no difference; 1: some, as with diff and cmp. Where they were computed (the
    environment) is shown, and is no difference.

    \b
    Example:
      bottleneck cache diff old.h5 new.h5
    """
    answer("cache diff", lambda reporter: _diff(a, b, options, reporter), options)


def _diff(a: str, b: str, options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..cache.differing import diff as compare
    from ..cache.features import open as open_features
    from ..report.upkeep import show_difference

    found = compare(open_features(a), open_features(b), reporter)
    return Reply(
        {"a": a, "b": b, **found.to_dict()},
        lambda: show_difference(found, a, b, verbose=options["verbose"]),
        DONE if found.same else ERROR,
    )


@cache.command()
@click.argument("file")
@_output
@click.option(
    "--paths",
    type=click.Path(allow_dash=True),
    metavar="LIST",
    help="Keep the rows that this file names, a path a line; - is stdin.",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    type=click.Choice(["train", "val", "test"]),
    help="Keep the rows of this split; repeat it for several.",
)
@label_options
@click.option("--path-column", metavar="NAME", help="Column of --labels that holds the paths.")
@_force
@output_options
def subset(file: str, **options: Any) -> None:
    """Write some rows of a feature FILE into a new one, or all with other labels; no image is read.

    \b
    Examples:
      bottleneck cache subset photos.h5 --labels new-labels.csv -o relabelled.h5
      bottleneck cache subset photos.h5 --paths keep.txt -o kept.h5
      grep -v blurred list.txt | bottleneck cache subset photos.h5 --paths - -o sharp.h5
    """
    chosen = ("paths", "splits", "labels")
    if not any(options[name] for name in chosen):
        raise click.UsageError("nothing to do: give --paths, --split or --labels")
    answer("cache subset", lambda reporter: _subset(file, options, reporter), options)


def _subset(file: str, options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..cache.subsetting import subset as take
    from ..report.upkeep import show_subset

    found = take(
        file,
        options["output"],
        paths=_lines(options["paths"]) if options["paths"] else None,
        splits=options["splits"],
        labels=options["labels"],
        path_column=options["path_column"],
        label_column=options["label_column"],
        split_column=options["split_column"],
        task=options["task"],
        force=options["force"],
        reporter=reporter,
    )
    return Reply(found.to_dict(), lambda: show_subset(found))


def _lines(file: str) -> list[str]:
    """The paths of a list, ended by line breaks or NUL; names of any bytes come as the system has them."""
    from ..images.gather import entries_of

    if file == "-":
        data = sys.stdin.buffer.read()
    else:
        with open(file, "rb") as opened:
            data = opened.read()
    return [entry.decode("utf-8", "surrogateescape") for entry in entries_of(data)]


@cache.command()
@output_options
def where(**options: Any) -> None:
    """Print where exported networks are kept, and which feature files lie in `cache/` here."""
    answer("cache where", lambda reporter: _where(), options)


def _where() -> Reply:
    from .. import usercache
    from ..cache.housekeeping import feature_files
    from ..report.upkeep import show_where

    files = usercache.files()
    data = {
        "folder": str(usercache.folder()),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        **feature_files(),
    }
    return Reply(data, lambda: show_where(data))


@cache.command()
@click.argument("files", nargs=-1, type=click.Path())
@click.option("--parts", is_flag=True, help="Of FILES only what a run that did not end has left.")
@output_options
def clear(files: tuple[str, ...], **options: Any) -> None:
    """Remove exported networks, which are made again when needed; or the feature FILES that are named.

    Without FILES no feature file is touched. With FILES these go, with their parts and locks, and
    nothing else.

    \b
    Examples:
      bottleneck cache clear
      bottleneck cache clear cache/photos-resnet50.h5
    """
    if options["parts"] and not files:
        raise click.UsageError("--parts needs FILES: whose parts?")
    answer("cache clear", lambda reporter: _clear(files, options["parts"]), options)


def _clear(files: tuple[str, ...], parts: bool) -> Reply:
    from .. import usercache
    from ..cache.atomic import size
    from ..cache.housekeeping import remove
    from ..report.tables import plural
    from ..report.terminal import printable

    if files:
        count, freed = remove(files, parts_only=parts)
        place = ", ".join(files)
    else:
        count, freed = usercache.clear()
        place = str(usercache.folder())
    return Reply(
        {"folder": place, "files": count, "bytes": freed},
        lambda: click.echo(printable(f"removed {plural(count, 'file')}, {size(freed)}")),
    )
