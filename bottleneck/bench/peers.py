"""Which networks the peers have, told without importing them."""

from __future__ import annotations

from ..backbones.base import Backbone

# Of the names that img2vec's README lists those that are the same network here. Its ``vgg16`` is
# torchvision's vgg16_bn, and its lists of images fail on densenet121 and its sisters.
_IMG2VEC = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "alexnet"),
    *(f"efficientnet_b{i}" for i in range(8)),
)


def img2vec_name(backbone: Backbone) -> str | None:
    """What img2vec calls a backbone, or None where it has none."""
    name = backbone.entry.architecture
    return name if name in _IMG2VEC and backbone.entry.source == "torchvision" else None


def timm_name(backbone: Backbone) -> str | None:
    """What timm calls a backbone's architecture, or None where it has none of the name."""
    name = backbone.entry.architecture
    if backbone.entry.source == "timm":
        return name
    if backbone.entry.source != "torchvision":
        return None
    import timm

    return name if timm.is_model(name) else None
