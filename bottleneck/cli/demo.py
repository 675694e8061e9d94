"""``bottleneck demo``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import output_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


@click.command()
@click.option(
    "--folder",
    type=click.Path(),
    default="bottleneck-demo",
    show_default=True,
    help="Where photographs, features and probe are put.",
)
@click.option(
    "--images",
    "n_images",
    type=click.IntRange(30, 2000),
    help="How many photographs; default: as many as fit into a minute here.",
)
@output_options
def demo(folder: str, n_images: int | None, **options: Any) -> None:
    """Run the whole job on photographs that come with a package: textiles in three classes.

    A second run in the same folder computes nothing again.
    """
    answer("demo", lambda reporter: _work(folder, n_images, options, reporter), options)


def _work(
    folder: str, n_images: int | None, options: dict[str, Any], reporter: TerminalReporter
) -> Reply:
    from .. import demonstration

    result = demonstration.run(folder, n_images, reporter)
    return Reply(result.to_json(), lambda: demonstration.show(result))
