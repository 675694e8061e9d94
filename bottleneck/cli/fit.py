"""``bottleneck fit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import output_options, score_options
from .reply import Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5...")
@click.option("-o", "--output", type=click.Path(), metavar="PROBE", help="Where to keep the probe.")
@score_options
@click.option("--refit-all", is_flag=True, help="Keep a fit on all rows, the scored ones too.")
@click.option("--force", is_flag=True, help="Write over an existing probe.")
@output_options
def fit(files: tuple[str, ...], **options: Any) -> None:
    """Choose hyper-parameters, score honestly, keep the probe.

    Rows of the split test score if there are any, else those of val. Without splits the score comes from
    nested, stratified cross-validation.

    \b
    Examples:
      bottleneck fit photos.h5
      bottleneck fit photos.h5 --head svm --holdout 0.2 -o photos-svm.probe
    """
    answer("fit", lambda reporter: _work(files, options, reporter), options)


def _work(files: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    import time

    from ..fitting import run
    from ..recipe import is_random
    from ..report.tables import show_fit

    started = time.monotonic()
    output = Path(options["output"] or default_output(files[0], options["head"]))
    names = (
        "head",
        "folds",
        "repeats",
        "holdout",
        "metric",
        "select",
        "refit_all",
        "seed",
        "force",
    )
    probe, _ = run(
        list(files), reporter=reporter, output=output, **{name: options[name] for name in names}
    )
    seconds = time.monotonic() - started
    return Reply(
        {
            "output": str(output),
            "head": probe.head,
            "params": probe.params,
            "classes": probe.classes,
            "n_train": probe.n_train,
            "n_test": probe.n_test,
            "protocol": probe.protocol,
            "metrics": probe.metrics,
            "baseline": probe.baseline,
            "confusion": probe.confusion.tolist(),
            "per_class": probe.per_class,
            "notes": probe.notes,
            "random_weights": is_random(probe.recipe),
            "seconds": round(seconds, 3),
        },
        lambda: show_fit(probe, output, seconds),
    )


def default_output(file: str, head: str) -> Path:
    """``<FILE stem>-<head>.probe`` beside the feature file, the layer in it where one is chosen."""
    from ..cache.locate import locate

    path, layer = locate(file)
    # A colon ends a drive's name on Windows, and a node of ONNX may hold slashes.
    chosen = (
        "" if layer is None else "-" + "".join(c if c not in '\\/:*?"<>|' else "-" for c in layer)
    )
    return path.with_name(f"{path.stem}{chosen}-{head}.probe")
