"""Networks and weights that torchvision publishes: ``torchvision/NAME[@TAG]``.

Preprocessing, tags and addresses are torchvision's own; nothing of them is copied here.
"""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ..base import Entry, Whole
from ..downloads import TorchHubWeights
from ..memo import kept, preprocessing_of
from ..spelling import nearest, spelled

if TYPE_CHECKING:
    import torch

# Weights whose publisher states no licence of their own come under torchvision's.
_LICENCE = "BSD-3-Clause"
_SWAG = {"https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "CC-BY-NC-4.0"}


class Torchvision:
    """Every classification network of torchvision."""

    prefix = "torchvision"
    summary = "torchvision/NAME[@TAG]: every classification network, e.g. torchvision/swin_t"

    def names(self) -> list[str]:
        """Architectures."""
        return list(kept("torchvision/", ("torchvision",), _names)["names"])

    def entry(self, name: str) -> Entry:
        """A network with the weights of a tag, by default torchvision's own default."""
        card = kept(f"torchvision/{name}", ("torchvision",), partial(_card, name))
        architecture, tag = card["architecture"], card["tag"]
        return Entry(
            name=f"torchvision/{architecture}@{tag}",
            source="torchvision",
            architecture=architecture,
            weights=published(architecture, tag, card["licence"], card["file"], card["size_mb"]),
            preprocessing=lambda: preprocessing_of(card["preprocessing"]),
            build=partial(_build, architecture, tag),
            adapt=adapt,
            libraries=("torch", "torchvision"),
        )


SOURCE = Torchvision()


def published(
    architecture: str, tag: str, licence: str, filename: str, size_mb: float
) -> TorchHubWeights:
    """Weights of torchvision, whose address is asked of it only when they are fetched."""
    return TorchHubWeights(
        tag, licence, filename, size_mb, lambda: str(_enum(architecture)[tag].url)
    )


def _names() -> dict[str, Any]:
    import torchvision

    return {"names": torchvision.models.list_models(module=torchvision.models)}


def _enum(architecture: str) -> Any:
    import torchvision

    return torchvision.models.get_model_weights(architecture)


def _card(name: str) -> dict[str, Any]:
    asked, _, tag = name.partition("@")
    names = _names()["names"]
    architecture = spelled(asked, names)
    if architecture is None:
        near = nearest(asked, names)
        raise InputError(
            f"torchvision has no classification network {asked!r}",
            expected="a name of torchvision.models.list_models(module=torchvision.models)",
            where="--backbone",
            next=f"did you mean torchvision/{near[0]}?" if near else "check the name",
        )
    enum = _enum(architecture)
    tags = {each.name: each for each in enum}
    found = spelled(tag, tags) if tag else enum.DEFAULT.name
    if found is None:
        raise InputError(
            f"torchvision publishes no weights {tag!r} for {architecture}",
            expected=", ".join(tags),
            where="--backbone",
            next=f"--backbone torchvision/{architecture}@{enum.DEFAULT.name}",
        )
    weights = tags[found]
    licence = weights.meta.get("license", _LICENCE)
    return {
        "architecture": architecture,
        "tag": weights.name,
        "licence": _SWAG.get(licence, licence),
        "file": PurePosixPath(weights.url).name,
        "size_mb": float(weights.meta["_file_size"]),
        "preprocessing": _preprocessing(weights.transforms()),
    }


def _preprocessing(preset: Any) -> dict[str, Any]:
    """The fields of `Preprocessing`, of the evaluation transform published with weights."""
    resize, crop = list(preset.resize_size), list(preset.crop_size)
    return {
        "resize": resize[0] if len(resize) == 1 else resize,
        "crop": crop * 2 if len(crop) == 1 else crop,
        "interpolation": preset.interpolation.value,
        "mean": list(preset.mean),
        "std": list(preset.std),
    }


def _build(architecture: str, tag: str, size: tuple[int, int]) -> Whole:
    import torch
    import torchvision

    options: dict[str, Any] = {}
    if architecture in ("inception_v3", "googlenet"):
        # As torchvision sets them for its pretrained weights: inputs are normalised anew inside. The
        # auxiliary heads serve training alone.
        options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    elif architecture.startswith("vit_"):
        if size[0] != size[1]:
            raise InputError(
                f"{architecture} takes square images, not {size[0]}x{size[1]}",
                where="--crop",
                next="give one number: --crop 224",
            )
        options = {"image_size": size[0]}
    elif architecture.startswith("maxvit"):
        options = {"input_size": size}
    try:
        module = torchvision.models.get_model(architecture, weights=None, **options)
    except (ValueError, AssertionError) as error:
        raise InputError(
            f"{architecture} cannot be built for images of {size[0]}x{size[1]}: {error}",
            where="--crop",
            next="leave --crop away, or give a size that its patches divide",
        ) from error
    if architecture.startswith("mnasnet"):
        # Its own reader asks for a version that only torch's files carry, and else fails.
        module._load_from_state_dict = types.MethodType(
            torch.nn.Module._load_from_state_dict, module
        )
    classifier = _classifier(module)
    if tag == "IMAGENET1K_FEATURES":
        classifier = "classifier.0"  # behind it these weights are NaN: no layer was published
    tokens = 1 if architecture.startswith("vit_") else None
    return Whole(module, classifier, tokens, architecture.startswith("swin"))


def _classifier(module: torch.nn.Module) -> str:
    """The last linear layer, or where there is none (SqueezeNet) the last convolution."""
    import torch

    for kind in (torch.nn.Linear, torch.nn.Conv2d):
        names = [name for name, part in module.named_modules() if isinstance(part, kind)]
        if names:
            return names[-1]
    raise AssertionError("no network of torchvision is without a classifier")


_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\.")
_MLP = {".mlp.linear_1.": ".mlp.0.", ".mlp.linear_2.": ".mlp.3."}


def adapt(state: Mapping[str, torch.Tensor], module: torch.nn.Module) -> Mapping[str, torch.Tensor]:
    """Tensors under the names of today's torchvision, position embeddings at the network's size.

    The published files of DenseNet and of vision transformers carry older names.
    """
    from torchvision.models import densenet, vision_transformer

    if isinstance(module, densenet.DenseNet):
        return {_DENSE.sub(r"\1\2.", name): tensor for name, tensor in state.items()}
    if isinstance(module, vision_transformer.VisionTransformer):
        renamed = dict(state)
        for old, new in _MLP.items():
            renamed = {name.replace(old, new): tensor for name, tensor in renamed.items()}
        if "encoder.pos_embedding" not in renamed:
            return renamed
        try:
            return vision_transformer.interpolate_embeddings(
                module.image_size, module.patch_size, renamed
            )
        except ValueError:  # not of a square image: told by its shape where it is fitted
            return renamed
    return state
