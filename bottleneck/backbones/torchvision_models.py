"""ResNet-50 and VGG16 as torchvision defines and publishes them.

K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385.
K. Simonyan, A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv:1409.1556.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .. import usercache
from ..errors import BottleneckError
from ..images.preprocess import Preprocessing
from .base import Entry
from .weights import TorchHubWeights, match

if TYPE_CHECKING:
    import torch


def _enum(architecture: str, label: str) -> Any:
    import torchvision

    return torchvision.models.get_model_weights(architecture)[label]


def _url(architecture: str, label: str) -> Callable[[], str]:
    return lambda: str(_enum(architecture, label).url)


def _preprocessing(architecture: str, label: str) -> Callable[[], Preprocessing]:
    """The evaluation transform that torchvision publishes with these weights.

    Importing torchvision to read six numbers takes four seconds, so they are kept in the user's
    cache, by torchvision's version.
    """

    def read() -> Preprocessing:
        name = f"{architecture}-{label}-torchvision-{version('torchvision')}.json"
        try:
            memo = usercache.folder("preprocessing") / name
            return Preprocessing.from_recipe(json.loads(memo.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, BottleneckError):
            pass  # not there yet, or damaged: asked for again and written anew
        preset = _enum(architecture, label).transforms()
        found = Preprocessing(
            resize=preset.resize_size[0],
            crop=(preset.crop_size[0], preset.crop_size[0]),
            interpolation=preset.interpolation.value,
            mean=tuple(preset.mean),
            std=tuple(preset.std),
        )
        with contextlib.suppress(OSError, BottleneckError):  # slower next time, that is all
            memo = usercache.folder("preprocessing") / name
            usercache.write(memo, json.dumps(found.to_recipe()).encode())
        return found

    return read


def _cut_resnet(network: Any) -> None:
    import torch

    network.fc = torch.nn.Identity()


def _cut_vgg(network: Any) -> None:
    # fc2 with its ReLU: Linear, ReLU, Dropout, Linear, ReLU | Dropout, Linear
    network.classifier = network.classifier[:5]


def _build(
    architecture: str, cut: Callable[[Any], None]
) -> Callable[[Mapping[str, torch.Tensor]], torch.nn.Module]:
    def build(state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
        import torch
        import torchvision

        # Without storage: VGG16's random start would take longer than reading its weights.
        with torch.device("meta"):
            network = torchvision.models.get_model(architecture, weights=None)
        cut(network)
        network.load_state_dict(match(state, network.state_dict(), architecture), assign=True)
        return network

    return build


def _entry(
    name: str, label: str, filename: str, size_mb: float, cut: Callable[[Any], None], **facts: Any
) -> Entry:
    return Entry(
        name=name,
        source="torchvision",
        architecture=name,
        weights=TorchHubWeights(label, "BSD-3-Clause", filename, size_mb, _url(name, label)),
        preprocessing=_preprocessing(name, label),
        build=_build(name, cut),
        **facts,
    )


RESNET50 = _entry(
    "resnet50",
    "IMAGENET1K_V2",
    "resnet50-11ad3fa6.pth",
    97.8,
    _cut_resnet,
    feature_size=2048,
    penultimate="global average pool after layer4 (2048)",
    parameters=23_508_032,
    gmacs=4.09,
    top1=80.858,
)
VGG16 = _entry(
    "vgg16",
    "IMAGENET1K_V1",
    "vgg16-397923af.pth",
    527.8,
    _cut_vgg,
    feature_size=4096,
    penultimate="second fully connected layer with its ReLU (fc2, 4096)",
    parameters=134_260_544,
    gmacs=15.47,
    top1=71.592,
)
