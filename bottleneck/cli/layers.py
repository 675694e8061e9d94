"""``bottleneck layers``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import output_options, preprocessing_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


@click.command()
@click.argument("backbone")
@click.option(
    "--layer",
    "patterns",
    multiple=True,
    metavar="NODE",
    help="Only these; wildcards as in `bottleneck extract`.",
)
@click.option("--modules", is_flag=True, help="Leave out the functions inside modules.")
@preprocessing_options
@output_options
def layers(backbone: str, **options: Any) -> None:
    """List where BACKBONE can be cut: every node in forward order, with its shape for one image.

    The feature size is that of the pooling a layer has if none is named.

    \b
    Examples:
      bottleneck layers resnet50
      bottleneck layers dinov2_vits14 --layer 'blocks.*'
      bottleneck layers model.onnx
    """
    answer("layers", lambda reporter: _work(backbone, options, reporter), options)


def _work(backbone: str, options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..backbones.nodes import describe_nodes, nodes_by_name
    from ..extraction.options import RecipeOptions
    from ..report.layers import show_layers

    names = ("framing", "range", "decode", "resize", "crop", "interpolation", "mean", "std")
    stated = RecipeOptions(backbone, **{name: options[name] for name in names})
    found = nodes_by_name(backbone, stated.preprocessing_changes())
    rows = describe_nodes(found.nodes, options["patterns"], functions=not options["modules"])
    data = {
        "backbone": found.name,
        "input_size": list(found.input_size),
        "nodes": rows,
    }
    return Reply(data, lambda: show_layers(found, rows))
