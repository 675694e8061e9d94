"""Networks that no library describes: where their classifier is, and what they take as pixels.

What cannot be known is asked for; what is inferred is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..errors import InputError
from ..images.preprocess import Preprocessing
from .watch import tensor_of

_OPTIONS = "--resize, --crop, --interpolation, --mean and --std"


@dataclass(frozen=True, slots=True)
class Classifier:
    """What a network's last layer turned out to be.

    Attributes
    ----------
    name : str or None
        Of the linear layer whose output is the network's; None: there is none, and the network's
        output is the feature.
    words : str
        What is taken, and why.
    """

    name: str | None
    words: str


def classifier_of(module: torch.nn.Module, size: tuple[int, int]) -> Classifier:
    """Run a network on noise and see whether its output comes from a linear layer.

    Parameters
    ----------
    module : torch.nn.Module
        On the CPU, in evaluation mode.
    size : tuple of int
        Height and width of its input.

    Returns
    -------
    Classifier
        The layer is taken only if what it returned is the network's output itself, or the output is
        its softmax or sigmoid. Then a network whose classifier was taken off, or that ends in an
        activation, a norm or a convolution, gives its own output.

    Raises
    ------
    InputError
        If the network does not run, gives no vector or map for each image, or two different ones
        for the same image.
    """
    told = _by_timm(module)
    if told is not None:
        return told
    outputs: dict[str, list[torch.Tensor]] = {}
    handles = []
    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Linear) and name:

            def keep(_: Any, __: Any, result: Any, name: str = name) -> None:
                outputs.setdefault(name, []).append(result)

            handles.append(part.register_forward_hook(keep))
    try:
        # Noise, so that two values are not equal by chance; on the CPU wherever the caller builds.
        with torch.device("cpu"), torch.no_grad():
            noise = torch.randn((2, 3, *size), generator=torch.Generator().manual_seed(0))
            result = tensor_of(module(noise))
            counted = {name: list(values) for name, values in outputs.items()}
            again = tensor_of(module(noise))
    # Whatever somebody else's code may raise.
    except Exception as error:
        raise InputError(
            f"the network does not run on images of {size[0]}x{size[1]}: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            expected="a module that takes (n, 3, h, w) float32",
            where="--crop",
            next="give the size that it was trained for",
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    if result is None or result.ndim < 2 or result.shape[0] != 2:
        shape = "no tensor" if result is None else f"shape {tuple(result.shape)}"
        raise InputError(
            f"the network gives {shape} for two images",
            expected="a tensor with a row for each image",
            next="wrap it in a module that returns one",
        )
    if again is None or not torch.equal(result, again):
        raise InputError(
            "the network gives two different results for the same image",
            expected="one: a random layer is still on in evaluation mode",
            next="switch off what is random in it: dropout by function, masking, augmentation",
        )
    size_of = result.shape[1]
    for name, values in counted.items():
        if len(values) == 1 and _gives(values[0], result):
            part = module.get_submodule(name)
            assert isinstance(part, torch.nn.Linear)
            return Classifier(
                name,
                f"the input of {name} ({part.in_features}), the linear layer that gives the "
                f"network's {size_of} outputs; --layer output takes these",
            )
    return Classifier(
        None, f"the network's own output ({size_of}), since it does not end in a linear layer"
    )


def _gives(logits: torch.Tensor, result: torch.Tensor) -> bool:
    """Whether a network's result is a linear layer's output, or the probabilities of it."""
    if logits is result:
        return True
    if logits.shape != result.shape or logits.ndim != 2:
        return False
    likely = (logits, logits.softmax(1), logits.log_softmax(1), logits.sigmoid())
    return any(torch.allclose(each, result, rtol=1e-5, atol=1e-7) for each in likely)


def _by_timm(module: torch.nn.Module) -> Classifier | None:
    """What timm's own configuration says, where the classifier it names is still there."""
    name = (getattr(module, "pretrained_cfg", None) or {}).get("classifier")
    if not isinstance(name, str):
        return None
    try:
        part = module.get_submodule(name)
    except AttributeError:
        return None
    if not isinstance(part, torch.nn.Linear):
        return None  # reset_classifier(0), or a convolution: told by running it
    return Classifier(name, f"the input of {name} ({part.in_features}), timm's classifier")


def preprocessing_of_module(module: torch.nn.Module, subject: str) -> Preprocessing:
    """The preprocessing that a module carries as timm's configuration.

    Raises
    ------
    InputError
        If it carries none: then the options have to say it.
    """
    configuration = getattr(module, "pretrained_cfg", None)
    if isinstance(configuration, dict) and {"mean", "std", "input_size"} <= set(configuration):
        from timm.data import resolve_data_config

        from .memo import preprocessing_of
        from .sources.timm import fields_of

        fields, problem = fields_of(resolve_data_config(pretrained_cfg=configuration))
        if not problem:
            return preprocessing_of(fields)
    raise InputError(
        f"nothing says how images are made ready for {subject}",
        expected=_OPTIONS,
        where="--backbone",
        next="often: --resize 256 --crop 224 --interpolation bilinear "
        "--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225",
    )


def first_running(module: torch.nn.Module, sizes: Sequence[tuple[int, int]]) -> Classifier | None:
    """The classifier, found at the first size that a network takes; None if it takes none."""
    for size in sizes:
        try:
            return classifier_of(module, size)
        except InputError as error:
            if "does not run" not in error.what:
                raise
    return None
