"""``bottleneck compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import memory_option, output_options, score_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter

_OPTIONS = (
    "head",
    "folds",
    "repeats",
    "holdout",
    "groups",
    "metric",
    "select",
    "seed",
    "max_memory",
)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5[::LAYER]...")
@score_options
@memory_option
@output_options
def compare(files: tuple[str, ...], **options: Any) -> None:
    """Which backbone, which layer? The same head in the same folds on several feature sets.

    A FILE stands for all layers in it, FILE::LAYER for one. Images are matched by their bytes; those that
    are not in every set are left out. All pairs are tested, with p adjusted for how many there are.

    \b
    Examples:
      bottleneck compare photos-resnet50.h5 photos-vit_b_16.h5
      bottleneck compare photos-resnet50.h5::layer3:avg photos-resnet50.h5::layer4:avg
    """
    answer("compare", lambda reporter: _work(files, options, reporter), options)


def _work(files: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    from ..comparison import run
    from ..report.comparison import show_comparison

    found = run(list(files), reporter=reporter, **{name: options[name] for name in _OPTIONS})
    return Reply(found.to_dict(), lambda: show_comparison(found))
