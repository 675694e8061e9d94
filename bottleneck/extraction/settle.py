"""Which backbone runs, and where it is cut: what was stated, else the file's own, else the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..backbones import layers, nodes, registry
from ..backbones.base import PENULTIMATE, Backbone, Output
from ..errors import InputError
from ..images.preprocess import Preprocessing
from ..reporter import Reporter
from .options import RecipeOptions

# From this size on a vector is more likely a slip (a feature map flattened) than meant.
ENORMOUS = 50_000
ENORMOUS_BYTES = 1 << 30


def settle_backbone(
    options: RecipeOptions, recorded: Mapping[str, Any] | None, reporter: Reporter
) -> Backbone:
    """The backbone of this run, cut where the file is cut, if there is one.

    Parameters
    ----------
    options : RecipeOptions
    recorded : mapping or None
        The recipe of the file that is extended.
    reporter : Reporter
    """
    changes = options.preprocessing_changes()
    if recorded is None:
        return _stated(options, changes, reporter)
    outputs = tuple(Output.from_recipe(each) for each in recorded["outputs"])
    if not names_another(options, recorded):
        if options.weights is None and (options.backbone is None or options.by_name):
            theirs = registry.from_recipe(dict(recorded), lazy=True)
            return theirs.with_preprocessing(**changes).with_outputs(outputs)
        own = Preprocessing.from_recipe(recorded["preprocessing"])
        changes = {f.name: getattr(own, f.name) for f in fields(own)} | changes
    return _stated(options, changes, reporter).with_outputs(outputs)


def _stated(options: RecipeOptions, changes: dict[str, Any], reporter: Reporter) -> Backbone:
    return registry.resolve(
        options.backbone or registry.DEFAULT,
        weights=options.weights,
        changes=changes,
        reporter=reporter,
    )


def names_another(options: RecipeOptions, recorded: Mapping[str, Any]) -> bool:
    """Whether a backbone was stated by a name that is not the recorded one's."""
    if options.backbone is None or not options.by_name:
        return False
    return registry.find_entry(str(options.backbone)).name != recorded["backbone"]


def settle_outputs(
    backbone: Backbone, options: RecipeOptions, present: Sequence[Output]
) -> Backbone:
    """The backbone cut where the file is cut and where `options` say, each place once.

    Parameters
    ----------
    backbone : Backbone
    options : RecipeOptions
        `layer` and `pooling`.
    present : sequence of Output
        Those of the file, which stay first.

    Raises
    ------
    InputError
        If a pattern fits no node, a pooling does not fit, or a pooling has no layer to pool.
    """
    if not options.layer:
        if options.pooling is not None:
            raise InputError(
                f"--pooling {options.pooling} says how, but not what",
                expected="a layer that has places to pool over",
                where="--pooling",
                next="give --layer NODE; `bottleneck layers BACKBONE` lists them",
            )
        return backbone.with_outputs(tuple(present) or (PENULTIMATE,))
    wanted = layers.select(nodes.nodes_of(backbone), options.layer, options.pooling)
    return backbone.with_outputs(tuple(dict.fromkeys([*present, *wanted])))


def warn_if_enormous(
    backbone: Backbone, new: Sequence[Output], n_images: int, store: str | None, reporter: Reporter
) -> None:
    """Tell of new outputs so large that they may be a slip, before any is computed."""
    bytes_each = 2 if store == "float16" else 4
    n = n_images * backbone.preprocessing.views
    for output, d in zip(backbone.outputs, nodes.sizes_of(backbone), strict=True):
        total = n * d * bytes_each
        if output in new and (d >= ENORMOUS or total >= ENORMOUS_BYTES):
            reporter.warn(
                f"{output.id} has {d:,} values an image, {total / 1e9:.3g} GB for {n:,} rows; "
                f"--layer {output.node}:avg or {output.node}:2x2 keeps less"
            )
