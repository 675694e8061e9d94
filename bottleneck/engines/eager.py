"""PyTorch as it is: the reference that every other engine is compared with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from ..backbones.base import Backbone
from ..errors import EngineError
from ..reporter import Reporter
from . import devices
from .base import Engine, memory_errors, out_of_memory
from .lowered import autocast, lower
from .network import FeatureNetwork, load
from .transfer import SLOTS, Card


class TorchEngine(Engine):
    """What engines in PyTorch have in common: from an array to tensors and back, on a CPU or a card."""

    _card: Card | None = None
    _threads: int  # of PyTorch, as the host program has set them

    def _use_card(self) -> None:
        """Let batches go to the card from several threads; with the network on it already."""
        self._card = Card(self.device, (self.batch_size, *self.size, 3), self._compute)
        self.streams = SLOTS

    @abstractmethod
    def _compute(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        """Features of images on the device, float32."""

    @abstractmethod
    def _call_threads(self) -> int:
        """How many cores work on one call, on a CPU."""

    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of exactly `batch_size` images, an array for each output."""
        if self._card is not None:
            try:
                return self._card.run(images)
            except Exception as error:
                if out_of_memory(error):
                    torch.cuda.empty_cache()  # what a smaller batch could not use in these pieces
                raise
        if not images.flags.writeable:
            images = images.copy()  # PyTorch warns, for it knows no memory that is only read
        with threads(self._call_threads(), self._threads):
            return [each.numpy() for each in self._compute(torch.from_numpy(images))]


class EagerEngine(TorchEngine):
    """Runs the network operation by operation.

    In float32 it is the network untouched, module by module. In bfloat16 or float16 it is its graph,
    batch norms folded, under autocast; on a CPU each call then has a core of its own (Lite0 on two
    cores, images/s in batches of 4: 100 in float32; in bfloat16 159 under autocast alone, 205 as a
    graph, 355 with a core a call).

    Parameters
    ----------
    backbone : Backbone
    device : str
        ``cpu`` or ``cuda:N``.
    batch_size : int
    precision : str, default ``"fp32"``
        ``fp32``, ``bf16`` or ``fp16``. A CPU that lacks one of them computes in it all the same, slowly.
    reporter : Reporter

    Raises
    ------
    EngineError
        If the device cannot be used.
    """

    name = "eager"

    def __init__(
        self,
        backbone: Backbone,
        *,
        device: str,
        batch_size: int,
        precision: str = "fp32",
        reporter: Reporter,
    ) -> None:
        network, feature_sizes = load(backbone, reporter)
        super().__init__(
            batch_size=batch_size,
            size=backbone.preprocessing.crop,
            feature_sizes=feature_sizes,
            device=device,
            precision=precision,
        )
        self._threads = torch.get_num_threads()
        with memory_errors(self):
            self._network: torch.nn.Module = move(network, device)
            if precision != "fp32":
                self._lower(reporter)
            if device.startswith("cuda"):
                self._use_card()

    def _lower(self, reporter: Reporter) -> None:
        try:
            self._network = lower(
                self._network,  # type: ignore[arg-type]  # a FeatureNetwork until here
                size=self.size,
                batch_size=self.batch_size,
                device=self.device,
                precision=self.precision,
            )
        except EngineError as error:
            reporter.note(f"{error.what}; it runs module by module, slower")
            self._network.to(memory_format=torch.channels_last)
            return
        if self.device == "cpu" and torch.backends.openmp.is_available():
            # OpenMP's number of threads belongs to the thread that calls, as it has to here.
            self.streams = devices.cores()

    def _call_threads(self) -> int:
        return 1 if self.streams > 1 else self._threads

    def _compute(self, images: torch.Tensor) -> Sequence[torch.Tensor]:
        with torch.inference_mode(), autocast(self.device, self.precision):
            return [each.float() for each in self._network(images)]


def move(network: FeatureNetwork, device: str) -> FeatureNetwork:
    """The network on a device, with kernels that give the same bits in every batch.

    Raises
    ------
    EngineError
        If PyTorch cannot use the device.
    """
    if device.startswith("cuda"):
        # TF32 keeps 10 bits of mantissa: not what `fp32` promises.
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        # Otherwise the first batch picks the kernels, and with them the last bits.
        torch.backends.cudnn.benchmark = False
    try:
        return network.to(device)
    except (RuntimeError, AssertionError) as error:  # torch's own words for no CUDA, no memory
        if out_of_memory(error):
            raise
        raise EngineError(
            f"PyTorch cannot use {device}: {error}",
            where="--device",
            next="give --device cpu, or install a driver that fits this PyTorch",
        ) from error


@contextmanager
def threads(count: int, before: int) -> Iterator[None]:
    """Let PyTorch use `count` threads for what this thread asks of it, and `before` afterwards.

    `before` is stated, not asked for: what PyTorch answers depends on what other threads have set.
    """
    if torch.get_num_threads() == count:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
