"""Files of weights, read without ever running code from them.

Where they come from is in `downloads` and `hugging_face`, how they are fitted to a network in
`matching`; the names of these are here too.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from ..regular import NotRegular, open_regular
from .base import Weights
from .downloads import PackagedWeights, TorchHubWeights, UrlWeights
from .hashes import sha256_of
from .hugging_face import HubWeights
from .matching import fit, match

if TYPE_CHECKING:
    import torch

__all__ = [
    "HubWeights",
    "PackagedWeights",
    "TorchHubWeights",
    "UrlWeights",
    "fit",
    "from_file",
    "load_state_dict",
    "match",
    "sha256_of",
]

# Under which a checkpoint keeps its tensors: Lightning and timm, MAE and ConvNeXt, DINO, scripts, and the
# moving averages that timm and DeiT keep beside them.
WRAPPERS = (
    "state_dict",
    "model",
    "model_state_dict",
    "model_state",
    "net",
    "student",
    "teacher",
    "ema",
    "model_ema",
    "state_dict_ema",
    "ema_state_dict",
)
# JSON of names and shapes: 33 KB for the 320 tensors of ResNet-50. What is longer is no network, and
# would only fill the memory of whoever reads it.
_MOST_HEADER = 1 << 20
# An infinity is a broken weight here; elsewhere it may be the mask of an attention.
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
# These two say nothing about which of a checkpoint's networks it is.
_ALWAYS = re.compile(r"(?:(?:module|_orig_mod)\.)+")


def from_file(path: str | os.PathLike[str]) -> Weights:
    """Weights the user names with ``--weights``.

    Raises
    ------
    WeightsError
        If there is no such file.
    """
    file = Path(path).expanduser().absolute()
    if not file.is_file():
        raise WeightsError(
            f"no weights at {file}",
            expected="a .pth, .pt or .safetensors file",
            where="--weights",
            next="check the path",
        )
    return Weights(file, sha256_of(file), f"file {file.name}")


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file by name, on the CPU.

    Parameters
    ----------
    path : pathlib.Path
        ``.safetensors``, or anything `torch.load` reads with ``weights_only=True``. A checkpoint
        that wraps its tensors in one of `WRAPPERS` is unwrapped, and the prefixes ``module.`` and
        ``_orig_mod.`` are dropped where every name has them.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    WeightsError
        If the file would have to run code, is damaged, holds no tensors, or holds several networks.
    """
    import torch

    loaded = _read(path)
    while isinstance(loaded, Mapping):
        inside = [name for name in WRAPPERS if _has_tensors(loaded.get(name))]
        if len(inside) > 1:
            raise _several(path, inside)
        if not inside:
            break
        loaded = loaded[inside[0]]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(
            f"{path} holds {type(loaded).__name__}, no tensors by name",
            expected="a state_dict",
            next="save model.state_dict() and give that file",
        )
    state = {k: v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    prefixes = {found[0] if (found := _ALWAYS.match(name)) else "" for name in state}
    if len(prefixes) == 1:
        prefix = prefixes.pop()
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    _require_numbers(state, path)
    return state


def _require_numbers(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Raise a WeightsError for NaN, which both formats let pass, and for infinite weights."""
    import torch

    for name, tensor in state.items():
        if not tensor.is_floating_point() or tensor.is_meta or tensor.layout != torch.strided:
            continue
        wrong = tensor.isnan().any()
        if not wrong and name.rpartition(".")[2] in _WEIGHTS:
            wrong = tensor.isinf().any()
        if bool(wrong):
            raise WeightsError(
                f"{path} holds NaN or infinity in {name}",
                expected="finite weights",
                where="--weights",
                next="fetch it again, or take an earlier checkpoint: training may have diverged",
            )


def _has_tensors(value: Any) -> bool:
    """Whether something is a dict with tensors in it, or in a dict of those that are unwrapped."""
    import torch

    if not isinstance(value, Mapping):
        return False
    return any(isinstance(each, torch.Tensor) for each in value.values()) or any(
        _has_tensors(value.get(name)) for name in WRAPPERS
    )


def _several(path: Path, names: list[str]) -> WeightsError:
    return WeightsError(
        f"{path} holds {len(names)} sets of weights: {', '.join(names)}",
        expected="one, since their features differ and a file has one hash",
        where="--weights",
        next=f'save one: torch.save(torch.load("{path.name}", weights_only=True)'
        f'["{names[0]}"], "{path.stem}-{names[0]}.pth")',
    )


def _read(path: Path) -> Any:
    """What a file holds, its format told by its first bytes."""
    start = _start(path)
    refuse_impostor(path, start)
    # A safetensors file begins with the length of its JSON header.
    if path.suffix == ".safetensors" or (start[8:9] == b"{" and start[6:8] == b"\0\0"):
        return _read_safetensors(path)
    return _read_pickle(path)


def _start(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(512)
    except NotRegular as kind:
        raise WeightsError(f"{path} is {kind}", expected="a file", where="--weights") from None
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}", where="--weights") from error


def refuse_impostor(path: Path | str, start: bytes) -> None:
    """Raise for files that are something else than weights, whatever their name.

    Parameters
    ----------
    path : pathlib.Path
    start : bytes
        The first few hundred of the file.
    """
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    again = "fetch the file again, from a link that leads to the file itself"
    if not start:
        raise WeightsError(f"{path} is empty", expected="a file of weights", next=again)
    if text.startswith((b"<!doctype html", b"<html")):
        raise WeightsError(
            f"{path} is a web page: the download did not reach the file",
            expected="a .pth or .safetensors file",
            next=again,
        )
    if text.startswith((b"<?xml", b'{"error', b"access denied", b"entry not found")):
        raise WeightsError(
            f"{path} is a server's error message, not weights: {text[:80].decode('latin-1')}",
            expected="a .pth or .safetensors file",
            next=again,
        )
    if text.startswith(b"version https://git-lfs.github.com/spec"):
        oid = re.search(rb"oid sha256:([0-9a-f]{64})", text)
        raise WeightsError(
            f"{path} is a git-lfs pointer: it stands for the weights and does not hold them",
            expected=f"the file with SHA-256 {oid[1].decode()}" if oid else "the file itself",
            next="git lfs pull in that clone, or download the file by itself",
        )
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        raise WeightsError(
            f"{path} is an HDF5 file; Keras keeps weights so",
            expected="a .pth or .safetensors file",
            next="convert the Keras model to ONNX and give that as --backbone",
        )


def _read_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    size, length = path.stat().st_size, int.from_bytes(_start(path)[:8], "little")
    if length > min(size, _MOST_HEADER):
        raise WeightsError(
            f"{path} declares {length:,} bytes of names and shapes in a file of {size:,}",
            expected=f"at most {_MOST_HEADER >> 20} MiB, within the file",
            next="fetch it again; a download that was cut short may look like this",
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise WeightsError(
            f"{path} cannot be read as .safetensors: {error}",
            expected="a whole file; a download that was cut short looks like this",
            next="fetch it again",
        ) from error


def _read_pickle(path: Path) -> Any:
    import argparse

    import torch

    try:
        # MAE, ConvNeXt and DINO keep their command line beside the tensors: a plain record.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about old pickles: refused or read, below
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch says it alike of objects it will not build and of bytes it cannot read.
        if "unsupported" not in str(error).lower():
            raise WeightsError(
                f"{path} holds no weights that can be read", next="fetch it again"
            ) from error
        name = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise WeightsError(
            f"{path} is refused: it holds pickled objects that are no tensors"
            f"{f' ({name[1]})' if name else ''}, and reading them could run code",
            expected="tensors only",
            next="where you trust it, save its state_dict as .safetensors and give that",
        ) from error
    except Exception as error:  # its reader raises whatever it stumbles over, KeyError too
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript archive: it holds code beside its tensors",
                expected="tensors only",
                next="where you trust it: torch.save(torch.jit.load(FILE).state_dict(), ...)",
            ) from error
        raise WeightsError(
            f"{path} holds no weights that can be read ({type(error).__name__})",
            expected="a file of torch.save, or .safetensors",
            next="fetch it again",
        ) from error
