"""The nodes of a network as a tree, for ``bottleneck layers``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from .terminal import printable

if TYPE_CHECKING:
    from ..backbones.nodes import Network


def show_layers(network: Network, rows: Sequence[dict[str, Any]]) -> None:
    """One line per node in forward order, indented by its depth; a part after what is inside it."""
    height, width = network.input_size
    click.echo(
        f"{printable(network.name)}: {len(rows):,} nodes in forward order, for an input of "
        f"{height}x{width}; --layer NAME takes any of them\n"
    )
    named = [("  " * _depth(row["name"], rows) + row["name"], row) for row in rows]
    table = [("node", "what", "shape", "pooling", "size")]
    table += [
        (
            printable(name),
            printable(row["kind"]),
            " x ".join(map(str, row["shape"])),
            row["pooling"],
            f"{row['feature_size']:,}",
        )
        for name, row in named
    ]
    widths = [max(len(line[i]) for line in table) for i in range(5)]
    for number, line in enumerate(table):
        text = "  ".join(
            cell.rjust(width) if i == 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        bold = number == 0 or line[0].strip() == "penultimate"
        click.echo(click.style(text.rstrip(), bold=bold))


def _depth(name: str, rows: Sequence[dict[str, Any]]) -> int:
    """Parts between dots, for names that have any; tensors of ONNX files are not indented."""
    return name.count(".") if "/" not in name else 0
