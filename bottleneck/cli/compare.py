"""``bottleneck compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from .options import Count, output_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter

_OPTIONS = ("head", "folds", "repeats", "holdout", "metric", "select", "seed")


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5[::LAYER]...")
@click.option(
    "--head",
    default="logistic",
    show_default=True,
    metavar="NAME",
    help="logistic, svm (linear), svm-rbf or mlp.",
)
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True)
@click.option(
    "--repeats",
    type=Count(),
    default="auto",
    show_default=True,
    help="Of the cross-validation; auto is 10 below 100 images, 2 below 1,000, else 1.",
)
@click.option(
    "--holdout",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Score on this share of the images, chosen by hash of their bytes.",
)
@click.option(
    "--metric",
    type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1"]),
    default="accuracy",
    show_default=True,
    help="What is compared, and what the choice of hyper-parameters goes by.",
)
@click.option(
    "--select",
    type=click.Choice(["one-se", "best"]),
    default="one-se",
    show_default=True,
    help="The most regularised setting within one standard error of the best, or the best.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
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
