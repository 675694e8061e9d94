"""timm's own way, as its ``inference.py`` and its documentation on feature extraction have it.

References
----------
https://github.com/huggingface/pytorch-image-models/blob/main/inference.py (``create_dataset``,
``create_loader`` with the prefetcher, ``create_model``), and
https://huggingface.co/docs/timm/feature_extraction (``num_classes=0``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import timm
import torch
from timm.data import create_dataset, create_loader

from ..backbones import network
from ..backbones.base import Backbone
from ..engines import devices
from ..errors import InputError
from .contestant import Spec, timed
from .peers import timm_name

# inference.py takes 256, on a GPU. On two cores that is one batch for a small folder, and nothing
# would overlap: 32, like the usual loop, is kinder to it.
BATCH_SIZE = {"cpu": 32, "cuda": 256}


class TimmWay:
    """timm's dataset, loader and model, eager float32."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._device = torch.device(spec.device)
        self._batch_size = BATCH_SIZE[self._device.type]

    def prepare(self) -> dict[str, Any]:
        """Build the model and give it the same weights where they fit.

        Raises
        ------
        InputError
            If timm has no network of this name.
        """
        backbone = self._spec.resolve()
        name = timm_name(backbone)
        if name is None:
            raise InputError(f"timm has no network called {backbone.entry.architecture}")
        self._model = timm.create_model(name, pretrained=False, num_classes=0)
        note = _give_weights(self._model, backbone)
        self._model = self._model.to(self._device).eval()
        self._config = loader_options(backbone)
        return {"batch_size": self._batch_size, "workers": devices.cores(), "note": note}

    def run(self, folder: str, save: str | None = None) -> dict[str, Any]:
        """Features of all images below a folder."""
        loader = create_loader(
            create_dataset("", root=folder),
            batch_size=self._batch_size,
            use_prefetcher=True,
            num_workers=devices.cores(),
            device=self._device,
            persistent_workers=False,
            **self._config,
        )
        return timed(lambda: self._features(loader), save)

    def _features(self, loader: Any) -> np.ndarray:
        rows = []
        with torch.inference_mode():
            for batch, _ in loader:
                rows.append(self._model(batch).cpu().numpy())
        return np.concatenate(rows)


def loader_options(backbone: Backbone) -> dict[str, Any]:
    """What timm calls a backbone's preprocessing."""
    p = backbone.preprocessing
    squash = isinstance(p.resize, tuple)
    resize = p.resize if isinstance(p.resize, int) else p.resize[0]
    share = p.crop[0] / resize
    # timm resizes to floor(crop / share): a share that is rounded up would lose a pixel.
    if math.floor(p.crop[0] / share) != resize:
        share = math.nextafter(share, 0)
    return {
        "input_size": (3, *p.crop),
        "interpolation": p.interpolation,
        "mean": p.mean,
        "std": p.std,
        "crop_pct": share,
        "crop_mode": "squash" if squash else "center",
    }


def _give_weights(model: torch.nn.Module, backbone: Backbone) -> str:
    """Put the backbone's weights in; a note for the table where they do not fit."""
    state = network.load(backbone)[0].network.state_dict()
    own = model.state_dict()
    fitting = {name: state[name] for name in own if name in state}
    if len(fitting) < len(own) or any(fitting[n].shape != own[n].shape for n in own):
        return "timm's network of this name has other tensors: random weights"
    model.load_state_dict(fitting)
    return ""
