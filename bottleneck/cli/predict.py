"""``bottleneck predict`` and ``bottleneck score``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from .options import (
    features_option,
    label_options,
    limit_options,
    output_options,
    run_options,
    table_options,
    weights_option,
)
from .reply import DONE, QUARANTINED, Reply, answer

if TYPE_CHECKING:
    from ..prediction import Predictions
    from ..report.terminal import TerminalReporter

_RUN = (
    "weights",
    "engine",
    "device",
    "batch_size",
    "workers",
    "max_pixels",
    "max_bytes",
    "decode_timeout",
)


@click.command()
@click.argument("probe")
@click.argument("images", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help=".csv, .jsonl or .parquet.")
@click.option(
    "--abstain",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    is_flag=False,
    flag_value=0.95,
    metavar="[ACCURACY]",
    help="Answer only where it is sure enough for this accuracy (0.95 without a number), and where "
    "the image looks like those it knows.",
)
@features_option
@weights_option
@run_options
@limit_options
@table_options
@output_options
def predict(probe: str, images: tuple[str, ...], **options: Any) -> None:
    """Label new IMAGES with a kept PROBE: one row per input, in input order.

    Recipe and preprocessing come from the probe. IMAGES may also be a feature file of the same recipe.
    Without -o the table goes to stdout as CSV.

    \b
    Examples:
      bottleneck predict photos.probe new/ -o labels.csv
      bottleneck predict photos.probe new/ --features new.h5 > labels.csv
      bottleneck predict photos.probe new/ -o labels.csv --abstain 0.99
    """
    if options["as_json"] and not options["output"]:
        raise click.UsageError("--json needs -o FILE: stdout is for the JSON object alone")
    answer("predict", lambda reporter: _predict(probe, images, options, reporter), options)


def _predict(
    probe: str, images: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter
) -> Reply:
    from ..prediction import require_writable
    from ..probe import load
    from ..recipe import is_random

    if options["output"]:
        require_writable(options["output"])  # before the work, not after it
    kept = load(probe)
    predictions = kept.predict(
        list(images),
        reporter=reporter,
        features=options["features"],
        root=options["root"],
        path_column=options["path_column"],
        missing="error",
        abstain=options["abstain"],
        **{name: options[name] for name in _RUN},
    )
    if options["output"]:
        predictions.to(options["output"])
    return Reply(
        {
            "output": options["output"],
            "seen": len(predictions),
            "predicted": predictions.predicted,
            "abstained": predictions.unanswered,
            "unlike": None if predictions.unlike is None else int(predictions.unlike.sum()),
            "abstain": predictions.rule,
            "quarantined": predictions.quarantined,
            "ignored": predictions.ignored,
            "random_weights": is_random(kept.recipe),
        },
        lambda: _show(predictions, options["output"], reporter),
        QUARANTINED if predictions.quarantined else DONE,
    )


def _show(predictions: Predictions, output: str | None, reporter: TerminalReporter) -> None:
    if output is None:
        # UTF-8 whatever the terminal's encoding is: it may be redirected into a file.
        sys.stdout.flush()
        sys.stdout.buffer.write(predictions.to_csv().encode())
        sys.stdout.buffer.flush()
    reporter.note(
        f"{len(predictions)} seen: {predictions.predicted} predicted, "
        + (f"{predictions.unanswered} abstained, " if predictions.rule else "")
        + f"{predictions.quarantined} quarantined; {predictions.ignored} other files ignored"
        + (f"; {output}" if output else "")
    )


@click.command()
@click.argument("probe")
@click.argument("images", nargs=-1, required=True)
@features_option
@weights_option
@run_options
@limit_options
@table_options
@label_options
@output_options
def score(probe: str, images: tuple[str, ...], **options: Any) -> None:
    """Score a kept PROBE on other labelled IMAGES, or on a feature file of the same recipe.

    Images that the probe was trained on are left out, and counted.

    \b
    Example:
      bottleneck score photos.probe next-week/
    """
    answer("score", lambda reporter: _score(probe, images, options, reporter), options)


def _score(
    probe: str, images: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter
) -> Reply:
    from ..probe import load
    from ..recipe import is_random
    from ..report.tables import show_score
    from ..report.targets import show_target_score

    kept = load(probe)
    names = (
        "features",
        "root",
        "path_column",
        "label_column",
        "split_column",
        "labels",
        "task",
        *_RUN,
    )
    found = kept.score(
        list(images), reporter=reporter, missing="error", **{name: options[name] for name in names}
    )
    data = {
        **found,
        "confusion": found["confusion"].tolist(),
        "classes": kept.classes,
        "random_weights": is_random(kept.recipe),
    }
    return Reply(
        data,
        lambda: (
            show_score(found, kept.classes)
            if kept.task == "classification"
            else show_target_score(kept.task, found)
        ),
        QUARANTINED if found["quarantined"] else DONE,
    )
