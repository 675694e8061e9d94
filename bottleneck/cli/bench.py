"""``bottleneck bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import Count, output_options, weights_option
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


class _Pixels(click.ParamType):
    """Width and height in pixels: ``500x375``."""

    name = "WxH"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        """A pair, or a usage error."""
        if isinstance(value, tuple):
            return value
        sides = value.lower().split("x")
        if len(sides) != 2 or not all(s.isdecimal() and 32 <= int(s) <= 8000 for s in sides):
            self.fail(f"{value!r} is not WIDTHxHEIGHT, each 32 to 8000", param, ctx)
        return int(sides[0]), int(sides[1])


@click.command()
@click.argument("images", nargs=-1)
@click.option(
    "--images",
    "count",
    type=click.IntRange(8),
    help="How many images take part.  [default: 400; with --quick 64]",
)
@click.option(
    "--size",
    type=_Pixels(),
    default="500x375",
    show_default=True,
    help="Of photographs that are made, where no IMAGES are given.",
)
@click.option("--backbone", metavar="NAME", help="As for extract.  [default: efficientnet_lite0]")
@weights_option
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME",
    help="Only this one, or auto; repeat it.  [default: all that run here]",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    help="Only this one; repeat it.  [default: all]",
)
@click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="cpu, cuda or cuda:N."
)
@click.option("--batch-size", type=Count(), default="auto", show_default=True)
@click.option(
    "--workers", type=Count(), default="auto", show_default=True, help="Decoding threads."
)
@click.option("--repeats", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option(
    "--limit",
    type=click.FloatRange(0),
    default=4.0,
    show_default=True,
    metavar="SECONDS",
    help="Of a run: slow contestants get fewer images; 0 gives all of them all.",
)
@click.option("--quick", is_flag=True, help="One repeat, few images, no start with an empty cache.")
@click.option(
    "--plot", type=click.Path(), metavar="FILE.svg", help="Draw it as well (.svg, .png, .pdf)."
)
@click.option(
    "--heads",
    is_flag=True,
    help="Measure heads instead: grids, networks and ridge against what everybody uses, on made features or "
    "on those of a feature file. Minutes; --quick takes one.",
)
@click.option(
    "--work",
    multiple=True,
    metavar="NAME",
    help="With --heads, only this row of the table; repeat it.  [default: all]",
)
@click.option(
    "--to",
    type=click.Choice(["table", "md"]),
    default="table",
    show_default=True,
    help="What is printed: a table for the terminal, or Markdown.",
)
@output_options
def bench(images: tuple[str, ...], **options: Any) -> None:
    """Measure side by side: the loop everybody writes, other packages, every engine here, and the ceilings.

    On your own IMAGES (as extract takes them), or on photograph-like JPEGs that it makes once. Your feature
    files and exported networks are neither used nor touched.

    \b
    Examples:
      bottleneck bench
      bottleneck bench photos/ --backbone resnet50 --engine auto --engine openvino
      bottleneck bench --images 2000 --limit 10 --plot bench.svg
      bottleneck bench --heads
    """
    _require_fitting(images, options)
    answer("bench", lambda reporter: _work(images, options, reporter), options)


# What --heads has a use for; the others state how images become features.
_OF_HEADS = ("heads", "work", "repeats", "quick", "to", "as_json", "quiet", "verbose")


def _require_fitting(images: tuple[str, ...], options: dict[str, Any]) -> None:
    """Usage errors for options of one bench that are given to the other."""
    context = click.get_current_context()
    stated = [
        param
        for param in context.command.params
        if isinstance(param, click.Option)
        and param.name is not None
        and context.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if options["heads"]:
        foreign = [param.opts[0] for param in stated if param.name not in _OF_HEADS]
        if foreign:
            raise click.UsageError(f"{foreign[0]} does not go with --heads")
        if len(images) > 1:
            raise click.UsageError("--heads takes one feature file, or none")
    elif options["work"]:
        raise click.UsageError("--work goes with --heads")


def _work_heads(
    images: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter
) -> Reply:
    from ..bench.heads import run, tables

    stated = run.Options(work=options["work"], repeats=options["repeats"], quick=options["quick"])
    found = run.run(images[0] if images else None, stated, reporter)
    show = (lambda: click.echo(tables.markdown(found))) if options["to"] == "md" else None
    return Reply(found, show or (lambda: tables.show(found)))


def _work(images: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    if options["heads"]:
        return _work_heads(images, options, reporter)
    from ..bench import order, plot, tables
    from ..bench.run import run

    picture = Path(options["plot"]) if options["plot"] else None
    if picture is not None:
        plot.require_plottable(picture)
    stated = order.Options(
        images=options["count"],
        size=options["size"],
        backbone=options["backbone"],
        weights=options["weights"],
        engines=options["engines"],
        precisions=options["precisions"],
        device=options["device"],
        repeats=options["repeats"],
        limit_s=options["limit"],
        batch_size=options["batch_size"],
        workers=options["workers"],
        quick=options["quick"],
    )
    found = run(images, stated, reporter).to_json()
    if picture is not None:
        plot.draw(found, picture)
    show = (lambda: click.echo(tables.markdown(found))) if options["to"] == "md" else None
    return Reply(found, show or (lambda: tables.show(found)))
