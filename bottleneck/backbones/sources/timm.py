"""Networks and weights of timm: ``timm/NAME[.TAG]``, ``NAME@TAG`` as well.

Preprocessing, classifier, licence and the place of the weights are those of timm's pretrained
configuration; tensors of a file are renamed by timm's own filter.
"""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...images.preprocess import INTERPOLATIONS, Preprocessing
from ..base import DefaultWeights, Entry, Whole
from ..downloads import from_url
from ..hugging_face import HubWeights
from ..memo import kept, preprocessing_of
from ..spelling import nearest, spelled

if TYPE_CHECKING:
    import torch

    Filter = Callable[[Mapping[str, torch.Tensor], torch.nn.Module], Mapping[str, torch.Tensor]]

# What timm's own loader looks for in a repository of the hub before anything else.
_FILE = "model.safetensors"
_SPDX = {"apache-2.0": "Apache-2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause"}


class Timm:
    """Everything in timm, towers without a classifier included."""

    prefix = "timm"
    summary = "timm/NAME[.TAG]: everything in timm, e.g. timm/resnet26d.bt_in1k"

    def names(self) -> list[str]:
        """Architectures."""
        return list(kept("timm/", ("timm",), _names)["names"])

    def entry(self, name: str) -> Entry:
        """A network with the weights of a tag, by default timm's first."""
        if not name:
            raise InputError(
                "timm/ is a source, not a network",
                expected="timm/NAME",
                where="--backbone",
                next="timm/resnet26d.bt_in1k; timm.list_models() has them all",
            )
        card = kept(f"timm/{name}", ("timm",), partial(_card, name))
        return Entry(
            name=f"timm/{card['model']}",
            source="timm",
            architecture=card["architecture"],
            weights=_weights(card),
            preprocessing=partial(_preprocessing, card),
            build=partial(_build, card["model"], card["architecture"]),
            adapt=partial(_adapt, card["architecture"]),
            libraries=("torch", "timm"),
            known=partial(_known, card),
        )


SOURCE = Timm()


def _names() -> dict[str, Any]:
    import timm

    return {"names": timm.list_models()}


def _card(name: str) -> dict[str, Any]:
    """What timm says about a name, as plain data."""
    import timm
    from timm.data import resolve_data_config
    from timm.models import PretrainedCfg

    model = _spelled(name.replace("@", ".", 1))
    architecture = model.partition(".")[0]
    configuration = timm.get_pretrained_cfg(model)
    if configuration is None:  # registered without any
        configuration = PretrainedCfg()
    tag = configuration.tag or ""
    data = resolve_data_config(pretrained_cfg=configuration.to_dict())
    fields, problem = fields_of(data)
    licence = str(configuration.license or "not stated")
    url = configuration.url if isinstance(configuration.url, str) else ""
    return {
        "model": f"{architecture}.{tag}" if tag else architecture,
        "architecture": architecture,
        "tag": tag,
        "licence": _SPDX.get(licence, "not stated" if licence == "unknown" else licence.upper()),
        "repo": configuration.hf_hub_id or "",
        "file": configuration.hf_hub_filename or _FILE,
        "url": url,
        "size_mb": _size_mb(model) if url or configuration.hf_hub_id else None,
        "preprocessing": fields,
        "problem": problem,
    }


def _size_mb(model: str) -> float:
    """Megabytes of a network's tensors: without a network nobody else states the file's size."""
    import timm
    import torch

    with torch.device("meta"):
        network = timm.create_model(model, pretrained=False)
    return sum(t.numel() * t.element_size() for t in network.state_dict().values()) / 1e6


def _spelled(name: str) -> str:
    """``ARCHITECTURE`` or ``ARCHITECTURE.TAG`` as timm spells it.

    Raises
    ------
    InputError
        With the nearest names, if timm has none such.
    """
    import timm
    from timm.models import get_deprecated_models

    if name in get_deprecated_models():
        name = get_deprecated_models()[name] or name
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        architecture = spelled(architecture, timm.list_models()) or ""
    tag = name.partition(".")[2]
    if not architecture:
        near = nearest(name, timm.list_models())
        raise InputError(
            f"timm has no network {name!r}",
            expected="a name of timm.list_models()",
            where="--backbone",
            next=f"did you mean timm/{near[0]}?" if near else "check the name",
        )
    if not tag:
        return architecture
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{architecture}.*")]
    found = spelled(tag, tags)
    if found is None:
        raise InputError(
            f"timm has no weights {tag!r} for {architecture}",
            expected=", ".join(tags) or "none: it has no pretrained weights",
            where="--backbone",
            next=f"--backbone timm/{architecture}" + (f".{tags[0]}" if tags else " --weights FILE"),
        )
    return f"{architecture}.{found}"


def fields_of(data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """Fields of `Preprocessing` for timm's evaluation transform, and why there are none.

    The rules of ``timm.data.transforms_factory.transforms_imagenet_eval``.
    """
    height, width = data["input_size"][-2:]
    resize: int | list[int]
    resize = scaled = [math.floor(side / data["crop_pct"]) for side in (height, width)]
    problem = ""
    if data["crop_mode"] == "center":
        if scaled[0] != scaled[1]:
            problem = f"it crops {height}x{width} after keeping the aspect in a way of its own"
        resize = scaled[0]
    elif data["crop_mode"] != "squash":
        problem = f"its crop mode is {data['crop_mode']!r}, which pads"
    if data["interpolation"] not in INTERPOLATIONS:
        problem = f"its interpolation is {data['interpolation']!r}"
    fields = {
        "resize": resize,
        "crop": [height, width],
        "interpolation": data["interpolation"],
        "mean": [float(value) for value in data["mean"]],
        "std": [float(value) for value in data["std"]],
    }
    return fields, problem


def _preprocessing(card: Mapping[str, Any]) -> Preprocessing:
    if card["problem"]:
        fields = card["preprocessing"]
        crop = "x".join(str(side) for side in fields["crop"])
        raise InputError(
            f"the preprocessing of timm/{card['model']} cannot be done exactly: {card['problem']}",
            expected=f"crop {crop}, mean {fields['mean']}, std {fields['std']}",
            where="--backbone",
            next="state --resize, and --framing pad where that is near enough",
        )
    return preprocessing_of(card["preprocessing"])


def _known(card: Mapping[str, Any]) -> dict[str, Any]:
    """What holds however the image is resized."""
    fields = {key: value for key, value in card["preprocessing"].items() if key != "resize"}
    return {key: tuple(v) if isinstance(v, list) else v for key, v in fields.items()}


def _weights(card: Mapping[str, Any]) -> DefaultWeights | None:
    if card["repo"]:
        return hub(
            card["repo"],
            card["tag"],
            card["licence"],
            file=card["file"],
            size_mb=card["size_mb"],
        )
    if card["url"]:
        return by_address(card["url"], card["tag"], card["licence"], card["size_mb"])
    return None


def hub(
    repo: str, tag: str, licence: str, *, file: str = _FILE, size_mb: float | None = None
) -> HubWeights:
    """Weights in a repository of the Hugging Face hub, ``@REVISION`` behind it where timm says so."""
    name, _, revision = repo.partition("@")
    return HubWeights(name, file, licence, tag, size_mb=size_mb, revision=revision or None)


def by_address(url: str, tag: str, licence: str, size_mb: float) -> DefaultWeights:
    """Weights that timm has only an address for."""
    return from_url(url, label=tag, licence=licence, publisher="timm", size_mb=size_mb)


def _build(model: str, architecture: str, size: tuple[int, int]) -> Whole:
    import timm

    configuration = timm.get_pretrained_cfg(model)
    options: dict[str, Any] = {}
    classifier = configuration.classifier if configuration else None
    if not isinstance(classifier, str):
        # Several heads on several vectors: timm's own idea of the features is what it gives
        # without any.
        options["num_classes"], classifier = 0, None
    own = configuration.input_size[-2:] if configuration else (224, 224)
    module = _create(model, {**options, **({} if size == tuple(own) else {"img_size": size})}, size)
    if not getattr(module, "num_classes", 1) or not _has(module, classifier):
        classifier = None
    return Whole(
        module,
        classifier,
        prefix_tokens=getattr(module, "num_prefix_tokens", None),
        channels_last=getattr(module, "output_fmt", "") == "NHWC",
    )


def _create(model: str, options: dict[str, Any], size: tuple[int, int]) -> Any:
    import timm

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return timm.create_model(model, pretrained=False, **options)
        except TypeError as error:
            if "img_size" not in options or "img_size" not in str(error):
                raise
            # A network of convolutions takes images of any size.
            del options["img_size"]
            return timm.create_model(model, pretrained=False, **options)
        except (ValueError, AssertionError) as error:
            if "img_size" not in options:
                raise
            raise InputError(
                f"timm/{model} cannot be built for images of {size[0]}x{size[1]}: {error}",
                where="--crop",
                next="leave --crop away, or give a size that its patches divide",
            ) from error


def _has(module: torch.nn.Module, name: str | None) -> bool:
    import torch

    try:
        return name is not None and not isinstance(module.get_submodule(name), torch.nn.Identity)
    except AttributeError:
        return False


def _adapt(
    architecture: str, state: Mapping[str, torch.Tensor], module: torch.nn.Module
) -> Mapping[str, torch.Tensor]:
    """Tensors as timm would load them: renamed, position embeddings at the network's size."""
    filtering = _filter_of(architecture)
    if filtering is None:
        return state
    try:
        return filtering(dict(state), module)
    except (LookupError, ValueError, AttributeError, RuntimeError):
        return state  # of another network: what is missing is told where it is looked for


_LOCK = threading.Lock()


@cache
def _filter_of(architecture: str) -> Filter | None:
    """What timm does to the tensors of a file before it loads them.

    timm hands it from the function that makes the architecture to the one that reads the file; the
    second is replaced for a moment by one that keeps it, and nothing is read.
    """
    from unittest.mock import patch

    import timm
    import torch
    from timm.models import _builder

    caught: list[Any] = []

    def keep(model: Any, *args: Any, filter_fn: Any = None, **rest: Any) -> None:
        caught.append(filter_fn)

    with _LOCK, patch.object(_builder, "load_pretrained", keep), torch.device("meta"):
        timm.create_model(architecture, pretrained=True)
    function = caught[0] if caught else None
    if function is None:
        return None

    def filtered(
        state: Mapping[str, torch.Tensor], module: torch.nn.Module
    ) -> Mapping[str, torch.Tensor]:
        try:
            return function(state, module)
        except TypeError:  # timm's older filters take the tensors alone, and timm tries so too
            return function(state)

    return filtered
