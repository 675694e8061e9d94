"""``bottleneck info`` and ``bottleneck backbones``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import output_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


@click.command()
@click.argument("file")
@click.option(
    "--to",
    "to_format",
    type=click.Choice(["csv", "parquet", "npz"]),
    help="Also write the features for other programs.",
)
@click.option(
    "-o", "--output", type=click.Path(), help="Where to write them; default: beside FILE."
)
@output_options
def info(file: str, **options: Any) -> None:
    """Tell what a feature file or a probe holds.

    \b
    Examples:
      bottleneck info photos.h5
      bottleneck info photos.h5 --to parquet -o photos.parquet
      bottleneck info photos.probe
    """
    answer("info", lambda reporter: _info(file, options, reporter), options)


def _info(file: str, options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..cache.checks import is_called_hdf5, is_hdf5, try_out
    from ..cache.features import open as open_features
    from ..cache.locate import locate, missing
    from ..errors import InputError
    from ..probe import load
    from ..remote.urls import as_path
    from ..report.tables import describe_features, describe_probe, show_features, show_probe

    file = as_path(file)
    if is_hdf5(file):
        if (named := locate(file)[0]).is_file():
            try_out(named)  # one looks at a file because one does not know it yet
        features = open_features(file)
        data = describe_features(features)
        if options["to_format"]:
            target = options["output"] or Path(file).with_suffix(f".{options['to_format']}")
            if not options["output"] and Path(target).exists():
                # photos.csv may well be the table that photos.h5 was made from.
                raise InputError(f"{target} exists", where="--to", next="name a file with -o")
            if Path(target).suffix != f".{options['to_format']}":
                raise InputError(
                    f"{target} does not end in .{options['to_format']}", where="-o and --to"
                )
            data["output"] = str(features.to(target))
        return Reply(
            data,
            lambda: show_features(features, data, verbose=options["verbose"]),
        )
    if not os.path.exists(file) and os.path.isdir(f"{Path(file)}.parts"):
        raise missing(Path(file))  # a first run with a directory as its output that did not end
    if os.path.isdir(file):
        raise InputError(
            f"{file} is a folder",
            expected="a feature file or a probe",
            next=f"`bottleneck extract {file} --dry-run` tells what is in it",
        )
    if is_called_hdf5(file):
        open_features(file)  # says what is wrong with it
    if options["to_format"]:
        raise InputError(f"{file} is no feature file", where="--to", expected="a file of features")
    probe = load(file)
    return Reply(describe_probe(probe), lambda: show_probe(probe))


@click.command()
@click.argument("words", nargs=-1)
@output_options
def backbones(words: tuple[str, ...], **options: Any) -> None:
    """List the backbones with a plain name; all WORDS must match, any field.

    \b
    Examples:
      bottleneck backbones
      bottleneck backbones resnet
      bottleneck backbones apache yes --json
    """
    answer("backbones", lambda reporter: _backbones(words), options)


def _backbones(words: tuple[str, ...]) -> Reply:
    from ..backbones.listing import list_backbones, list_sources, matches
    from ..report.backbones import show_backbones, whereabouts

    found = [
        each for each in list_backbones() if matches({**each, "weights": whereabouts(each)}, words)
    ]
    sources = list_sources()
    return Reply({"backbones": found, "sources": sources}, lambda: show_backbones(found, sources))
