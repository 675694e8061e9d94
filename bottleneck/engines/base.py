"""What an engine is: uint8 images of one fixed batch shape in, float32 features of each output out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from ..errors import EngineError


class OutOfMemoryError(EngineError):
    """A batch did not fit into the device's memory; a smaller one may."""


class NotFiniteError(EngineError):
    """A network gave NaN or infinity.

    Attributes
    ----------
    features : list of ndarray of shape (m, d), float32
        As `Engine.run` would have returned them.
    rows : ndarray of shape (m,), bool
        The images it is about.
    """

    def __init__(self, engine: Engine, features: list[np.ndarray], rows: np.ndarray) -> None:
        super().__init__(
            "the network returned NaN or infinity for an image of ordinary pixels",
            where=f"engine {engine.name}",
            next="check the weights; --engine eager tells whether the engine is at fault",
        )
        self.features, self.rows = features, rows


# What libraries say when memory runs out; most have no exception of their own for it.
_OUT_OF_MEMORY = (
    "out of memory",  # CUDA, in torch's and ONNX Runtime's messages
    "not enough memory",  # torch on a CPU (Windows)
    "can't allocate memory",  # torch on a CPU
    "failed to allocate memory",  # ONNX Runtime's arena, and TensorRT
    "bad_alloc",  # C++
    "bad allocation",  # C++ (Windows)
    "cudnn_status_alloc_failed",
    "cublas_status_alloc_failed",
)


def out_of_memory(error: Exception) -> bool:
    """Whether an exception of a library means that memory ran out."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY)


@contextmanager
def memory_errors(engine: Engine) -> Iterator[None]:
    """Turn every library's way of saying that memory ran out into an `OutOfMemoryError`."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # ONNX Runtime's types have no common base
        if not out_of_memory(error):
            raise
        smaller = engine.batch_size // 2
        raise OutOfMemoryError(
            f"{engine.device} has not enough memory for batches of {engine.batch_size}",
            where=f"engine {engine.name}, --batch-size",
            next=f"give --batch-size {smaller}" if smaller else "give --device cpu, or free memory",
        ) from error


class Engine(ABC):
    """A cut network that is ready to run on one device.

    Every call has the same shape, because kernels differ between shapes: a short last batch would
    give other bits than a full one. `run` pads, so that no caller can forget it.

    Parameters
    ----------
    batch_size : int
        Images of one call.
    size : tuple of int
        Height and width of an image, in pixels.
    feature_sizes : sequence of int
        d of each output, what the network is expected to return per image.
    device : str
        ``cpu``, ``cuda:0``, ...
    precision : str, default ``"fp32"``
        ``fp32``, ``bf16`` or ``fp16``: in which the network computes; features are float32 always.

    Attributes
    ----------
    streams : int
        How many threads may call `run` at the same time; more would only wait. An engine that uses
        all cores for one batch has 1, one that gives each batch a core of its own has several.
    """

    name: str
    streams: int = 1

    def __init__(
        self,
        *,
        batch_size: int,
        size: tuple[int, int],
        feature_sizes: Sequence[int],
        device: str,
        precision: str = "fp32",
    ) -> None:
        self.batch_size = batch_size
        self.size = size
        self.feature_sizes = list(feature_sizes)
        self.device = device
        self.precision = precision

    @abstractmethod
    def forward(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of exactly `batch_size` images, an array for each output."""

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        """Features of up to `batch_size` images.

        Parameters
        ----------
        images : ndarray of shape (m, h, w, 3), uint8
            RGB, resized and cropped, not normalised; m from 1 to `batch_size`.

        Returns
        -------
        features : list of ndarray of shape (m, d), float32
            One array per output; one row per image, in the order of the input; not normalised.

        Raises
        ------
        OutOfMemoryError
            If the batch does not fit into the device's memory.
        NotFiniteError
            If a feature of any image is NaN or infinite.
        EngineError
            If the images have another shape or type, or the network returns something else.
        """
        m = len(images)
        expected = (self.batch_size, *self.size, 3)
        if images.dtype != np.uint8 or images.shape[1:] != expected[1:] or m > self.batch_size:
            raise EngineError(
                f"the engine was given {images.dtype} of shape {images.shape}",
                expected=f"uint8 of shape {expected} or fewer rows",
                where=f"engine {self.name}",
                next="this is a defect of bottleneck-probe: please report it",
            )
        if m < self.batch_size:
            padded = np.zeros(expected, np.uint8)
            padded[:m] = images
            images = padded
        images = np.ascontiguousarray(images)  # libraries read the memory as it lies
        with memory_errors(self):
            outputs = self.forward(images)
        shapes = [each.shape for each in outputs]
        wanted = [(self.batch_size, d) for d in self.feature_sizes]
        if shapes != wanted:
            raise EngineError(
                f"the network returned {shapes}",
                expected=str(wanted),
                where=f"engine {self.name}",
                next="the weights or the exported network are not of this backbone",
            )
        features = [each[:m].astype(np.float32, copy=False) for each in outputs]
        if not all(np.isfinite(each).all() for each in features):
            finite = [np.isfinite(each).reshape(m, -1).all(axis=1) for each in features]
            raise NotFiniteError(self, features, ~np.all(finite, axis=0))
        return features
