"""Options that several commands share, each defined once. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..presets.recipes import NAMES as PRESETS

F = TypeVar("F", bound=Callable[..., Any])


class Numbers(click.ParamType):
    """Three numbers with commas between them: ``0.485,0.456,0.406``."""

    name = "R,G,B"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        """Numbers of the text, or a usage error."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) != 3:
            self.fail(f"{value!r} is not three numbers with commas between them", param, ctx)
        return numbers


class Size(click.ParamType):
    """One side in pixels, or height and width: ``256``, ``224x320``."""

    name = "PX|HxW"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | tuple[int, int]:
        """A number, a pair, or a usage error."""
        if isinstance(value, int | tuple):
            return value
        parts = value.lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() for part in parts):
            self.fail(f"{value!r} is neither a number of pixels nor HEIGHTxWIDTH", param, ctx)
        sides = [int(part) for part in parts]
        return (sides[0], sides[1]) if len(sides) == 2 else sides[0]


class Count(click.ParamType):
    """A whole number above 0, or ``auto``, which is None."""

    name = "auto|N"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        """The number, None for ``auto``, or a usage error."""
        if value == "auto":
            return None
        try:
            number = int(value)
        except ValueError:
            number = 0
        if number < 1:
            self.fail(f"{value!r} is neither auto nor a whole number above 0", param, ctx)
        return number


class Amount(click.ParamType):
    """A whole number above 0, perhaps with K, M or G behind it: ``200M``.

    Parameters
    ----------
    kilo : int
        What K stands for, 1000 or 1024; M is its square, G its cube.
    """

    name = "N[K|M|G]"

    def __init__(self, kilo: int) -> None:
        self._kilo = kilo

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number, or a usage error."""
        if isinstance(value, int):
            return value
        text = value.strip().upper()
        power = "KMG".find(text[-1:]) + 1 if text else 0
        try:
            number = float(text[:-1] if power else text) * self._kilo**power
        except ValueError:
            number = 0.0
        if not 1 <= number < 2**63:
            self.fail(f"{value!r} is no number above 0, such as 200M", param, ctx)
        return int(number)


def _stack(*options: Callable[[F], F]) -> Callable[[F], F]:
    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


output_options = _stack(
    click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout."),
    click.option("-q", "--quiet", is_flag=True, help="Warnings and results only."),
    click.option("-v", "--verbose", is_flag=True, help="List every quarantined input."),
)

table_options = _stack(
    click.option("--root", type=click.Path(), help="Folder that a table's paths are relative to."),
    click.option("--path-column", metavar="NAME", help="Column of a table that holds the paths."),
)

task_option = click.option(
    "--task",
    type=click.Choice(["auto", "classification", "multilabel", "regression"]),
    default="auto",
    show_default=True,
    help="What the labels are: one class, several (a|b, or columns of 0 and 1), or a number.",
)

label_options = _stack(
    click.option(
        "--label-column",
        multiple=True,
        metavar="NAME",
        help="Column that holds the labels; several, or a wildcard, where each holds 0 or 1.",
    ),
    click.option("--split-column", metavar="NAME", help="Column that holds train, val or test."),
    click.option("--labels", type=click.Path(), help="Table that gives the images their labels."),
    task_option,
)

weights_option = click.option(
    "--weights",
    type=click.Path(),
    metavar="FILE|none",
    help="The backbone's weights (.pth, .safetensors); none: random ones, marked as such.",
)

backbone_help = """Frozen network: a name that `bottleneck backbones` lists, timm/NAME, torchvision/NAME,
hub/OWNER/REPO:MODEL, hf/NAME or model.onnx; @TAG for other weights."""

preprocessing_options = _stack(
    click.option(
        "--framing",
        metavar="HOW",
        help="crop (the centre, as trained), whole, pad, or tiles:RxC (a row per tile).",
    ),
    click.option(
        "--range",
        metavar="RANGE",
        help="Of images with more than 8 bits: full, bits:N, or LOW:HIGH.",
    ),
    click.option(
        "--decode",
        type=click.Choice(["full", "scaled"]),
        help="scaled: large JPEG files faster, to other pixels.  [default: full]",
    ),
    click.option("--resize", type=Size(), help="Short side after resizing, or height and width."),
    click.option("--crop", type=Size(), help="Side of the centre crop."),
    click.option("--interpolation", metavar="NAME", help="bicubic, bilinear, lanczos, ..."),
    click.option("--mean", type=Numbers(), help="Mean of the channels, on the scale 0 to 1."),
    click.option("--std", type=Numbers(), help="Standard deviation of the channels."),
)

recipe_options = _stack(
    click.option(
        "--backbone",
        multiple=True,
        metavar="NAME",
        help=f"{backbone_help} Repeat it for a file each.  [default: efficientnet_lite0]",
    ),
    weights_option,
    click.option(
        "--layer",
        multiple=True,
        metavar="NODE[:POOLING]",
        help="Where to cut, as `bottleneck layers` names it. Repeat it, or use wildcards: * within one "
        "level, ** across levels.",
    ),
    click.option(
        "--pooling",
        metavar="HOW",
        help="Of --layer: avg, max, gem, flatten, cls, patches, or a grid such as 2x2.",
    ),
    preprocessing_options,
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        show_default=True,
        help="auto takes bf16 or fp16 where the device has it and features stay the same (a gate).",
    ),
)

run_options = _stack(
    click.option(
        "--engine",
        metavar="NAME",
        default="auto",
        show_default=True,
        help="eager, compile, openvino, onnx, onnx:cpu, onnx:cuda or onnx:tensorrt.",
    ),
    click.option(
        "--device", metavar="NAME", default="auto", show_default=True, help="cpu, cuda or cuda:N."
    ),
    click.option("--batch-size", type=Count(), default="auto", show_default=True),
    click.option(
        "--workers", type=Count(), default="auto", show_default=True, help="Decoding threads."
    ),
)

bad_options = _stack(
    click.option("--strict", is_flag=True, help="Stop at the first image that cannot be used."),
    click.option("--allow-bad", is_flag=True, help="Publish however many cannot be used."),
    click.option(
        "--allow-bad-rate",
        type=click.FloatRange(0, 1),
        metavar="R",
        help="Up to this share is in order (exit 0), above it an error (exit 1).",
    ),
)

limit_options = _stack(
    click.option(
        "--max-pixels",
        type=Amount(1000),
        help="Quarantine images with more pixels.  [default: 100M]",
    ),
    click.option(
        "--max-bytes",
        type=Amount(1024),
        help="Quarantine files with more bytes.  [default: 2G]",
    ),
    click.option(
        "--decode-timeout",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="Quarantine images that take a processor longer.  [default: 10]",
    ),
)

score_options = _stack(
    click.option(
        "--head",
        default="logistic",
        show_default=True,
        metavar="NAME",
        help="ncm, ridge, logistic, knn, svm (linear), svm-rbf or mlp; for fit also all.",
    ),
    click.option("--folds", type=click.IntRange(2), default=5, show_default=True),
    click.option(
        "--repeats",
        type=Count(),
        default="auto",
        show_default=True,
        help="Of the cross-validation; auto is 10 below 100 images, 2 below 1,000, else 1.",
    ),
    click.option(
        "--holdout",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        metavar="SHARE",
        help="Score on this share of the images, chosen by hash of their bytes.",
    ),
    click.option(
        "--groups",
        metavar="COLUMN|folder|REGEX",
        help="Images of one group (patient, camera, sub-folder) are never on both sides.",
    ),
    click.option(
        "--metric",
        type=click.Choice(
            [
                "accuracy",
                "balanced_accuracy",
                "macro_f1",
                "auroc",
                "average_precision",
                "log_loss",
                "map",
                "r2",
                "mae",
                "spearman",
            ]
        ),
        default="accuracy",
        show_default="accuracy; log_loss for several labels, r2 for a number",
        help="What the choice of hyper-parameters goes by; `compare` compares it.",
    ),
    click.option(
        "--select",
        type=click.Choice(["one-se", "best"]),
        default="one-se",
        show_default=True,
        help="The most regularised setting within one standard error of the best, or the best.",
    ),
    click.option("--seed", type=click.IntRange(0), default=0, show_default=True),
)

preset_option = click.option(
    "--preset",
    type=click.Choice(PRESETS),
    help="A published protocol, to the letter: docs/papers.md.",
)

memory_option = click.option(
    "--max-memory",
    type=click.FloatRange(0, min_open=True),
    metavar="GB",
    help="What may be taken; `fit` trains from disk where four times the features are more.  "
    "[default: half of the machine's]",
)

features_option = click.option(
    "--features",
    type=click.Path(),
    metavar="FILE",
    help="Feature file of the same recipe: what it holds is not computed again.",
)
