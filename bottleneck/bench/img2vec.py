"""img2vec_pytorch, as its documentation has it: ``Img2Vec(model=...).get_vec(list of PIL images)``.

References
----------
https://github.com/christiansafka/img2vec (README, "Using img2vec as a library").
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from ..backbones import network
from ..errors import InputError
from .contestant import Spec, files_of, timed
from .peers import img2vec_name

BATCH_SIZE = 32


class Img2VecWay:
    """img2vec's own transforms (the whole image squashed to 224x224) and network, eager float32."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec

    def prepare(self) -> dict[str, Any]:
        """Build it with the backbone's weights in the place of those that it would download.

        Raises
        ------
        InputError
            If it knows no such network.
        """
        import torch
        from img2vec_pytorch import Img2Vec
        from torchvision.models import WeightsEnum

        backbone = self._spec.resolve()
        name = img2vec_name(backbone)
        if name is None:
            raise InputError(f"img2vec_pytorch has no network called {backbone.entry.architecture}")
        # What lies behind the cut is zeros: it computes the classifier, and nobody reads it.
        state = network.load(backbone)[0].network.state_dict()
        with mock.patch.object(WeightsEnum, "get_state_dict", return_value=state):
            self._img2vec = Img2Vec(
                cuda=self._spec.device.startswith("cuda"),
                model=name,
                gpu=torch.device(self._spec.device).index or 0,
            )
        return {
            "batch_size": BATCH_SIZE,
            "workers": 0,
            "note": "squashes the image to 224x224 instead of cropping it: other features",
        }

    def run(self, folder: str, save: str | None = None) -> dict[str, Any]:
        """Features of all images below a folder."""
        return timed(lambda: self._features(files_of(folder)), save)

    def _features(self, files: list[str]) -> np.ndarray:
        rows = []
        for i in range(0, len(files), BATCH_SIZE):
            images = [_read(file) for file in files[i : i + BATCH_SIZE]]
            rows.append(self._img2vec.get_vec(images))
        return np.concatenate(rows)


def _read(file: str) -> Image.Image:
    with Image.open(file) as image:
        return image.convert("RGB")
