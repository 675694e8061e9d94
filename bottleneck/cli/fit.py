"""``bottleneck fit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .options import memory_option, output_options, preset_option, score_options, task_option
from .reply import DONE, WORSE, Reply, answer

if TYPE_CHECKING:
    from ..report.terminal import TerminalReporter


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE.h5...")
@click.option("-o", "--output", type=click.Path(), metavar="PROBE", help="Where to keep the probe.")
@score_options
@click.option("--refit-all", is_flag=True, help="Keep a fit on all rows, the scored ones too.")
@click.option("--search", is_flag=True, help="Choose among several settings of the MLP too.")
@click.option(
    "--class-weight",
    type=click.Choice(["none", "balanced", "search"]),
    default="none",
    show_default=True,
    help="Weigh rare classes up; search lets the inner folds decide.",
)
@click.option("--sanity", is_flag=True, help="Score shuffled labels as well, as a control.")
@click.option(
    "--against",
    type=click.Path(),
    metavar="OLD.probe",
    help="Compare with an old probe on the same images; exit 4 if the new one is worse.",
)
@click.option(
    "--flips",
    type=click.Path(),
    metavar="FILE.csv",
    help="Where to list the images of --against that flipped.",
)
@click.option(
    "--device", metavar="NAME", default="auto", show_default=True, help="cpu, cuda or cuda:N."
)
@preset_option
@task_option
@memory_option
@click.option("--force", is_flag=True, help="Write over an existing probe.")
@output_options
def fit(files: tuple[str, ...], **options: Any) -> None:
    """Choose hyper-parameters, score honestly, keep the probe.

    Rows of the split test score if there are any, else those of val. Without splits the score comes from
    nested, stratified cross-validation.

    \b
    Examples:
      bottleneck fit photos.h5
      bottleneck fit photos.h5 --head all
      bottleneck fit photos.h5 --head svm --holdout 0.2 -o photos-svm.probe
      bottleneck fit photos.h5 --against last-week.probe
      bottleneck fit photos-dinov2.h5 --preset dinov2
    """
    answer("fit", lambda reporter: _work(files, options, reporter), options)


def _work(files: tuple[str, ...], options: dict[str, Any], reporter: TerminalReporter) -> Reply:
    import time

    from ..fitting import load_features, run
    from ..recipe import is_random
    from ..report.fit import show_fit

    started = time.monotonic()
    if options["flips"] and not options["against"]:
        raise click.UsageError("--flips lists images that flipped, and needs --against OLD.probe")
    given = load_features(list(files), reporter).with_task(options["task"])
    head = "ridge" if given.task == "regression" else options["head"]
    output = Path(options["output"] or default_output(files[0], options["preset"] or head))
    names = (
        "head",
        "search",
        "class_weight",
        "folds",
        "repeats",
        "holdout",
        "groups",
        "metric",
        "select",
        "refit_all",
        "sanity",
        "against",
        "flips",
        "device",
        "preset",
        "task",
        "max_memory",
        "seed",
        "force",
    )
    probe, result = run(
        given, reporter=reporter, output=output, **{name: options[name] for name in names}
    )
    seconds = time.monotonic() - started
    worse = bool(result.extra.get("against", {}).get("worse"))
    return Reply(
        {
            "output": str(output),
            "task": probe.task,
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
            "optimism": probe.optimism,
            **probe.extra,
            "notes": probe.notes,
            "random_weights": is_random(probe.recipe),
            "seconds": round(seconds, 3),
        },
        lambda: show_fit(probe, output, seconds),
        WORSE if worse else DONE,
    )


def default_output(file: str, head: str) -> Path:
    """``<FILE stem>-<head>.probe`` beside the feature file, the layer in it where one is chosen."""
    from ..cache.locate import locate
    from ..remote.urls import is_url, name_of

    if is_url(file):  # beside nothing of this computer: into the current folder
        from ..cache.elsewhere import split_output

        place, layer = split_output(file)
        path = Path(name_of(place).rstrip("/").rpartition("/")[2])
    else:
        path, layer = locate(file)
    # A colon ends a drive's name on Windows, and a node of ONNX may hold slashes.
    chosen = (
        "" if layer is None else "-" + "".join(c if c not in '\\/:*?"<>|' else "-" for c in layer)
    )
    return path.with_name(f"{path.stem}{chosen}-{head}.probe")
