"""What the parts of an extraction can do alone: decoders on all cores, the disk, the card.

A ceiling is the best that was found, whoever found it: a decoder or a resampler that this package does
not use counts as well as its own, so that a share of the ceiling cannot be made to look good by a
slow part.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..engines import devices
from ..images.payload import fetch, to_pixels
from ..images.preprocess import Preprocessing, frames
from .contestant import Spec, files_of

Decode = Callable[[str, Preprocessing], np.ndarray]


def decode_ours(file: str, p: Preprocessing) -> np.ndarray:
    """As `extract` does it."""
    return frames(to_pixels(fetch(file).content).array, p)[0]


def decode_pillow(file: str, p: Preprocessing) -> np.ndarray:
    """Pillow for both, by torchvision's transforms."""
    from PIL import Image

    image = Image.open(io.BytesIO(Path(file).read_bytes())).convert("RGB")
    return np.asarray(_small(image, p))


def decode_torchvision(file: str, p: Preprocessing) -> np.ndarray:
    """torchvision's decoder and its resize of uint8 tensors."""
    import torch
    from torchvision.io import ImageReadMode, decode_image

    encoded = torch.frombuffer(bytearray(Path(file).read_bytes()), dtype=torch.uint8)
    return _resized(decode_image(encoded, ImageReadMode.RGB), p)


def decode_simplejpeg(file: str, p: Preprocessing) -> np.ndarray:
    """simplejpeg, and torchvision's resize of uint8 tensors."""
    import simplejpeg
    import torch

    content = Path(file).read_bytes()
    if not simplejpeg.is_jpeg(content):
        return decode_torchvision(file, p)
    pixels = torch.from_numpy(simplejpeg.decode_jpeg(content, "RGB"))
    return _resized(pixels.permute(2, 0, 1), p)


def _resized(pixels: Any, p: Preprocessing) -> np.ndarray:
    """Of a tensor (3, h, w) uint8: torch's own resize, a level or two from Pillow's pixels."""
    return np.ascontiguousarray(_small(pixels, p).permute(1, 2, 0).numpy())


def _small(image: Any, p: Preprocessing) -> Any:
    """Resize and crop as torchvision does: a PIL image by Pillow, a tensor by torch."""
    from torchvision.transforms import InterpolationMode

    # The first version of these functions would compute in float32, at half the speed.
    from torchvision.transforms.v2 import functional as F

    sides = [p.resize] if isinstance(p.resize, int) else list(p.resize)
    mode = InterpolationMode(p.interpolation)
    return F.center_crop(F.resize(image, sides, mode, antialias=True), list(p.crop))


DECODERS: dict[str, Decode] = {
    "ours": decode_ours,
    "Pillow": decode_pillow,
    "torchvision": decode_torchvision,
    "simplejpeg + torchvision's resize": decode_simplejpeg,
}
ON_CARD = "torchvision on the card"
_CARD_BATCH = (
    256  # files decoded by one call; one by one is several times slower (pytorch/vision#8496)
)


class Ceilings:
    """Decoding without a network, and writing without either."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._scratch = Path(spec.scratch)
        self._network: Any = None  # on the card, for `card_forward`
        self._decoders: dict[str, Decode] = {}
        self._left_out: dict[str, str] = {}

    def prepare(self) -> dict[str, Any]:
        """Learn the backbone's preprocessing."""
        import torch

        torch.set_num_threads(1)  # the threads are ours: one for each core
        self._preprocessing = self._spec.resolve().preprocessing
        return {}

    def check(self, folder: str) -> dict[str, Any]:
        """Decode one image with each decoder; those that fail are left out.

        Returns
        -------
        dict
            ``decoders``: their names; ``left_out``: reasons by name; ``levels``: the greatest difference
            to this package's pixels, 0 to 255, by name.
        """
        file = files_of(folder)[0]
        reference = decode_ours(file, self._preprocessing).astype(np.int16)
        levels = {}
        for name, decode in DECODERS.items():
            try:
                levels[name] = int(np.abs(decode(file, self._preprocessing) - reference).max())
                self._decoders[name] = decode
            except Exception as error:  # whatever a library raises: it is only left out
                self._left_out[name] = _said(error)
        names = list(self._decoders)
        if self._spec.device.startswith("cuda"):
            try:
                self._decode_on_card([file])
                names.append(ON_CARD)
            except Exception as error:
                self._left_out[ON_CARD] = _said(error)
        return {"decoders": names, "left_out": self._left_out, "levels": levels}

    def decode(self, decoder: str, folder: str, seconds: float) -> dict[str, Any]:
        """Read, decode and preprocess again and again on all cores, and throw the pixels away.

        Parameters
        ----------
        decoder : str
            One of those that `check` named.
        folder : str
        seconds : float
            For how long, at least; whole passes over the folder.
        """
        files = files_of(folder)
        if decoder == ON_CARD:
            return _repeat(lambda: self._decode_on_card(files), len(files), seconds)
        decode, p = self._decoders[decoder], self._preprocessing
        with ThreadPoolExecutor(devices.cores()) as pool:

            def work() -> None:
                for _ in pool.map(lambda file: decode(file, p).shape, files):
                    pass

            return _repeat(work, len(files), seconds)

    def _decode_on_card(self, files: list[str]) -> None:
        """nvJPEG in batches, then torchvision's resize on the card."""
        import torch
        from torchvision.io import decode_jpeg

        device = self._spec.device
        with ThreadPoolExecutor(devices.cores()) as pool:
            for i in range(0, len(files), _CARD_BATCH):
                part = files[i : i + _CARD_BATCH]
                contents = pool.map(lambda file: Path(file).read_bytes(), part)
                encoded = [torch.frombuffer(bytearray(c), dtype=torch.uint8) for c in contents]
                for pixels in decode_jpeg(encoded, device=device):
                    _small(pixels, self._preprocessing)
        torch.cuda.synchronize(device)

    def write(self, d: int, seconds: float) -> dict[str, Any]:
        """Write ready features (4,096, d) float32 as HDF5 until they are on the disk, again and again."""
        import h5py

        features = np.random.default_rng(0).standard_normal((4096, d), np.float32)
        path = self._scratch / "ceiling.h5"

        def work() -> None:
            with h5py.File(path, "w") as file:
                file["features"] = features
            with open(path, "rb+") as file:
                os.fsync(file.fileno())

        found = _repeat(work, len(features), seconds)
        path.unlink()
        return found

    def card_forward(self, precision: str, batch_size: int, seconds: float) -> dict[str, Any]:
        """The network in PyTorch on a batch that lies on the card already: the card's own ceiling."""
        import torch

        device = self._spec.device
        if self._network is None:
            from ..engines.network import load
            from ..reporter import Silent

            network = load(self._spec.resolve(), Silent())[0]
            self._network = network.to(device).to(memory_format=torch.channels_last)
            # TF32 keeps 10 bits of mantissa: not what `fp32` means here.
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cudnn.benchmark = True
        network = self._network
        shape = (batch_size, *self._preprocessing.crop, 3)
        batch = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]

        def work() -> None:
            # Several at a time: a synchronisation after each would measure the launch as well.
            for _ in range(8):
                network(batch)
            torch.cuda.synchronize(device)

        lower = kind is not torch.float32
        with torch.inference_mode(), torch.autocast("cuda", kind, enabled=lower):
            work()
            return _repeat(work, 8 * batch_size, seconds)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _repeat(work: Callable[[], None], images: int, seconds: float) -> dict[str, Any]:
    """Whole rounds of `work` for at least `seconds`; how many images and seconds that were."""
    done, began = 0, time.perf_counter()
    while True:
        work()
        done += images
        passed = time.perf_counter() - began
        if passed >= seconds:
            return {"images": done, "seconds": passed}
