"""Which backbone runs, and where it is cut: what was stated, else the file's own, else the default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..backbones import layers, nodes, registry
from ..backbones.base import PENULTIMATE, Backbone, Output
from ..cache.atomic import size
from ..engines import precision
from ..errors import InputError
from ..images.preprocess import Preprocessing
from ..images.sample import ImageSet
from ..recipe import is_random
from ..reporter import Reporter
from .gate_images import gate_images
from .options import RecipeOptions, RunOptions

# From this size on a vector is more likely a slip (a feature map flattened) than meant.
ENORMOUS = 50_000
ENORMOUS_BYTES = 1 << 30
# Sources whose names say where the weights are.
_WITH_WEIGHTS = ("hf", "onnx")


def settle_backbone(
    options: RecipeOptions,
    recorded: Mapping[str, Any] | None,
    reporter: Reporter,
    *,
    fetch: bool = True,
) -> Backbone:
    """The backbone of this run, cut where the file is cut and as precise, if there is one.

    Parameters
    ----------
    options : RecipeOptions
    recorded : mapping or None
        The recipe of the file that is extended.
    reporter : Reporter
    fetch : bool, default True
        Weights that are not here may be downloaded; else they are an error that says what would be.

    Returns
    -------
    Backbone
        In the precision that was stated, else the file's, else fp32 until `settle_precision`.
    """
    own = "fp32" if recorded is None else str(recorded["precision"])
    return _settled(options, recorded, reporter, fetch).with_precision(
        own if options.precision == "auto" else options.precision
    )


def _settled(
    options: RecipeOptions, recorded: Mapping[str, Any] | None, reporter: Reporter, fetch: bool
) -> Backbone:
    changes = options.preprocessing_changes()
    if recorded is None:
        return _stated(options, changes, reporter, fetch)
    outputs = tuple(Output.from_recipe(each) for each in recorded["outputs"])
    if not names_another(options, recorded):
        if options.weights is None and (options.backbone is None or options.by_name):
            theirs = registry.from_recipe(dict(recorded), lazy=True)
            if theirs.weights.random or theirs.weights.origin.startswith("file "):
                reporter.note(f"weights as the file has them: {theirs.weights.origin}")
            return theirs.with_preprocessing(**changes).with_outputs(outputs)
        own = Preprocessing.from_recipe(recorded["preprocessing"])
        changes = {f.name: getattr(own, f.name) for f in fields(own)} | changes
    return _stated(options, changes, reporter, fetch).with_outputs(outputs)


def _stated(
    options: RecipeOptions, changes: dict[str, Any], reporter: Reporter, fetch: bool
) -> Backbone:
    return registry.resolve(
        options.backbone or registry.DEFAULT,
        weights=options.weights,
        changes=changes,
        reporter=reporter,
        fetch=fetch,
    )


def names_another(options: RecipeOptions, recorded: Mapping[str, Any]) -> bool:
    """Whether a backbone was stated by a name that is not the recorded one's."""
    if options.backbone is None or not options.by_name:
        return False
    return registry.find_entry(str(options.backbone)).name != recorded["backbone"]


def other_weights(options: RecipeOptions, recorded: Mapping[str, Any]) -> str | None:
    """What the stated backbone's own weights are, where they are stated and not the recorded ones.

    A plain name leaves the weights open: those of the file go on. A tag (``NAME@TAG``), a file or a
    folder that brings its weights along does not; and nobody gets random ones without having asked.

    Returns
    -------
    str or None
        A hash, or words where it is not known; None where nothing contradicts the file.
    """
    if options.backbone is None or not options.by_name or options.weights is not None:
        return None
    entry = registry.find_entry(str(options.backbone))
    untrained = is_random(recorded)
    stated = "@" in str(options.backbone) or entry.source in _WITH_WEIGHTS
    if not (untrained or stated):
        return None
    own = entry.weights.find() if entry.weights is not None else None
    if own is None:
        return "(the trained ones)" if untrained else None
    return None if own.sha256 == recorded["weights_sha256"] else own.sha256


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


def settle_precision(
    backbone: Backbone,
    options: RecipeOptions,
    run_options: RunOptions,
    images: ImageSet,
    reporter: Reporter,
    *,
    measure: bool = True,
) -> Backbone:
    """For features of a new file: what ``--precision auto`` means, if nothing else was stated.

    Parameters
    ----------
    backbone : Backbone
        With all its outputs, since each has to pass the gate.
    options : RecipeOptions
    run_options : RunOptions
        `engine` and `device`.
    images : ImageSet
        Some of them are what the gate looks at.
    reporter : Reporter
    measure : bool, default True
        Without it nothing is computed: what was not measured before is taken for passed, and told.
    """
    if options.precision != "auto":
        return backbone
    return precision.settle(
        backbone,
        engine=run_options.engine,
        device=run_options.device,
        pictures=lambda: gate_images(images.samples, backbone.preprocessing),
        reporter=reporter,
        measure=measure,
    )


def refuse_unfit_layers(
    backbone: Backbone,
    new: Sequence[Output],
    options: RecipeOptions,
    run_options: RunOptions,
    images: ImageSet,
    reporter: Reporter,
) -> None:
    """Raise an EngineError where a layer that is added does not bear the file's precision.

    Whoever states the precision has decided.
    """
    if backbone.precision == "fp32" or options.precision != "auto" or not new:
        return
    precision.refuse_unfit(
        backbone.with_outputs(tuple(new)),
        engine=run_options.engine,
        device=run_options.device,
        pictures=lambda: gate_images(images.samples, backbone.preprocessing),
        reporter=reporter,
    )


def warn_of_a_frame(backbone: Backbone, reporter: Reporter) -> None:
    """Tell where the crop is larger than the resized image, which leaves a black frame."""
    p = backbone.preprocessing
    height, width = p.resize if isinstance(p.resize, tuple) else (p.resize, p.resize)
    if p.framing == "crop" and (height < p.crop[0] or width < p.crop[1]):
        reporter.warn(
            f"images are resized to {height if height == width else f'{height}x{width}'} and cropped to "
            f"{p.crop[0]}x{p.crop[1]}: what is missing is black; give --crop as well, or a larger --resize"
        )


def warn_if_enormous(
    backbone: Backbone,
    sizes: Sequence[int],
    new: Sequence[Output],
    n_images: int,
    store: str | None,
    reporter: Reporter,
) -> None:
    """Tell of new outputs so large that they may be a slip, before any is computed."""
    bytes_each = 2 if store == "float16" else 4
    n = n_images * backbone.preprocessing.views
    for output, d in zip(backbone.outputs, sizes, strict=True):
        total = n * d * bytes_each
        if output in new and (d >= ENORMOUS or total >= ENORMOUS_BYTES):
            reporter.warn(
                f"{output.id} has {d:,} values an image, {size(total)} for {n:,} rows; "
                f"--layer {output.node}:avg or {output.node}:2x2 keeps less"
            )
