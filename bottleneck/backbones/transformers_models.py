"""Image networks of Hugging Face transformers: which class, which vector, whose names.

A folder with ``config.json`` goes in; the network comes out with weights left to chance. Tensors of a
file get their names by transformers' own rules. Folders that want code of theirs run are refused before
transformers reads them (`transformers_code`).
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..extras import require
from .base import Whole
from .matching import same_kind
from .transformers_code import refuse_network

_PURPOSE = "A backbone hf/..."
# Forward passes that draw which patches to leave out: no two are alike.
_MASKED = {"vit_mae", "videomae"}


@contextlib.contextmanager
def quiet() -> Iterator[Any]:
    """transformers with its progress bars and warnings off; what it tells, we tell."""
    transformers = require("transformers", purpose=_PURPOSE)
    logging = transformers.utils.logging
    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def describe(folder: Path) -> dict[str, Any]:
    """What is taken of a network, as plain data.

    Parameters
    ----------
    folder : pathlib.Path
        With ``config.json``.

    Returns
    -------
    dict
        ``class``: of transformers; ``classifier``: the linear layer whose input is taken, or None;
        ``penultimate``: what is taken, in words.

    Raises
    ------
    InputError
        If it is no image network, or one whose values are drawn anew in every pass.
    """
    import torch

    with quiet() as transformers:
        config, cls = _choice(transformers, folder)
        with torch.device("meta"):
            module = cls(config)
        name = cls.__name__
        classifier = _classifier(module) if _classifies(name) else None
        if classifier is not None:
            words = f"the input of {name}'s {classifier}"
        elif _pooled(module):
            words = f"pooler_output of {name}"
        else:
            words = f"the class token in last_hidden_state of {name}, or where it has none the "
            words += "mean of the patches"
        return {"class": name, "classifier": classifier, "penultimate": words}


def _choice(transformers: Any, folder: Path) -> tuple[Any, Any]:
    """Configuration and class of the network that is run."""
    refuse_network(folder)
    try:
        # False: with its default, None, it asks on the terminal whether to run the folder's code.
        config = transformers.AutoConfig.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    # An unknown type, a missing field, code that would have to be run: each its own exception.
    except Exception as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"transformers cannot use the configuration in {folder}: {reason}",
            expected="a network that is part of transformers; code of a repository is not run",
            where="config.json",
        ) from error
    # It would fetch a library to unpack them with; quantised tensors are refused when they are read.
    for each in (config, getattr(config, "vision_config", None)):
        if each is not None and hasattr(each, "quantization_config"):
            del each.quantization_config
    declared = (getattr(config, "architectures", None) or [""])[0] or ""
    cls = getattr(transformers, declared, None) if _classifies(declared) else None
    if cls is not None and _has_one_classifier(cls, config):
        return config, cls
    # A text and an image tower: the image tower, before the projection that both share.
    config = getattr(config, "vision_config", None) or config
    if config.model_type in _MASKED:
        raise InputError(
            f"a network of type {config.model_type} leaves out patches at random in every pass",
            expected="a network that gives an image one vector",
            where="config.json",
            next='name its encoder: "model_type": "vit" and "architectures": ["ViTModel"]',
        )
    mapping = transformers.MODEL_MAPPING
    if type(config) not in mapping:
        raise InputError(
            f"transformers has no network for type {config.model_type}",
            expected="a model_type with a class of its own: vit, dinov2, convnext, swin, clip, ...",
            where=str(folder / "config.json"),
            next="name its image tower by that tower's own config.json, or export it to ONNX and give "
            "--backbone FILE.onnx",
        )
    found = mapping[type(config)]
    cls = found[0] if isinstance(found, tuple | list) else found
    first = next(iter(list(inspect.signature(cls.forward).parameters)[1:]), "")
    if first != "pixel_values":
        raise InputError(
            f"{cls.__name__} takes {first or 'nothing'}, not images",
            expected="an image network, or one with a vision_config",
            where="config.json",
        )
    return config, cls


def _classifies(name: str) -> bool:
    return "ForImageClassification" in name


def _has_one_classifier(cls: type, config: Any) -> bool:
    import torch

    with torch.device("meta"):
        return _classifier(cls(config)) is not None


def _classifier(module: Any) -> str | None:
    """The one linear layer of a classifier; None where there are two, or it is something else."""
    import torch

    heads = [name for name, _ in module.named_children() if "classifier" in name]
    if heads != ["classifier"]:
        return None
    named = [
        (n, m) for n, m in module.classifier.named_modules() if not any(True for _ in m.children())
    ]
    with_weights = [(n, m) for n, m in named if next(m.parameters(recurse=False), None) is not None]
    if len(with_weights) != 1 or not isinstance(with_weights[0][1], torch.nn.Linear):
        return None
    inside = with_weights[0][0]
    return f"classifier.{inside}" if inside else "classifier"


def _pooled(module: Any) -> bool:
    """Whether ``pooler_output`` is what the network was trained to give.

    ViT, DeiT and their kin have a dense layer with tanh there, which many checkpoints lack and which
    would then be left to chance.
    """
    pooler = getattr(module, "pooler", None)
    if pooler is not None and hasattr(pooler, "dense"):
        return False
    if pooler is None:
        return type(module).__name__ not in ("ViTModel", "DeiTModel", "ViTMSNModel", "IJepaModel")
    return True


def build(folder: Path, size: tuple[int, int]) -> Whole:
    """The network for inputs (n, 3, h, w) of a size, its weights left to chance."""
    with quiet() as transformers:
        config, cls = _choice(transformers, folder)
        options = {}
        if "add_pooling_layer" in inspect.signature(cls.__init__).parameters and not _pooled(
            _on_meta(cls, config)
        ):
            options["add_pooling_layer"] = False
        module: Any = cls(config, **options)
    classifier = _classifier(module) if _classifies(cls.__name__) else None
    prepare(module, size)
    return Whole(module, classifier)


def _on_meta(cls: type, config: Any) -> Any:
    import torch

    with torch.device("meta"):
        return cls(config)


def prepare(module: Any, size: tuple[int, int]) -> None:
    """Make a network of transformers take pixels of any size and return one tensor.

    By hooks, so that the names of its parts stay those of transformers.
    """
    own = getattr(module.config, "image_size", None)
    own = (own, own) if isinstance(own, int) else tuple(own) if own is not None else size
    takes = inspect.signature(type(module).forward).parameters
    if tuple(size) != own and "interpolate_pos_encoding" in takes:

        def interpolate(_: Any, args: Any, kwargs: Any) -> Any:
            return args, {**kwargs, "interpolate_pos_encoding": True}

        module.register_forward_pre_hook(interpolate, with_kwargs=True)

    def pick(_: Any, __: Any, result: Any) -> Any:
        return _vector(result)

    module.register_forward_hook(pick)


def _vector(result: Any) -> Any:
    """The tensor of a result that stands for the image."""
    for field in ("logits", "pooler_output", "last_hidden_state"):
        found = getattr(result, field, None)
        if found is not None:
            return found
    return result


def load(state: Mapping[str, Any], module: Any) -> Mapping[str, Any]:
    """Tensors of a file under the names of a network, by transformers' own rules for old names."""
    import torch

    config = module.config
    options = {}
    if "add_pooling_layer" in inspect.signature(type(module).__init__).parameters:
        options["add_pooling_layer"] = getattr(module, "pooler", None) is not None
    with quiet():
        loaded, report = type(module).from_pretrained(
            None,
            config=config,
            state_dict=dict(state),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told by us, and only where it matters
            dtype=torch.float32,
            trust_remote_code=False,
            **options,
        )
    left_to_chance = set(report["missing_keys"])
    found = {k: v for k, v in loaded.state_dict().items() if k not in left_to_chance}
    found.update(_of_another_kind(state, found, set(report["unexpected_keys"])))
    for name, in_file, *_ in report["mismatched_keys"]:
        found[name] = torch.empty(tuple(in_file), device="meta")
    unused = {name: torch.empty(0) for name in report["unexpected_keys"]}
    return {**unused, **found}


def _of_another_kind(
    state: Mapping[str, Any], found: Mapping[str, Any], unused: set[str]
) -> dict[str, Any]:
    """Quantised tensors as the file has them, which transformers has cast: `match` refuses them."""
    import torch

    whole = {name.rpartition(".")[2] for name, v in found.items() if not v.is_floating_point()}
    wrong = {}
    for name, tensor in state.items():
        if name in found:
            if found[name].shape == tensor.shape and not same_kind(tensor, found[name], name):
                wrong[name] = tensor
        # Renamed on the way: by shape and last word, since no report says what became of a name.
        elif name not in unused and not same_kind(tensor, torch.empty(0), name):
            last = name.rpartition(".")[2]
            if last not in whole:
                same = (k for k, v in found.items() if k not in state and v.shape == tensor.shape)
                wrong.update((k, tensor) for k in same if k.rpartition(".")[2] == last)
    return wrong
